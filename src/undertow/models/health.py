"""Whether a model answers, how fast, and when it is given up.

A :class:`Health` belongs to one model of an event loop and hears of every try, whoever made it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from undertow.records import Failure, FailureKind

SECONDS_UNANSWERED = 12.0
"""A model that has only failed for so long is given up …"""
LEAST_FAILURES = 10
"""… after so many failures in a row (half as many stalls, or once it has lasted twice as long) …"""
PATIENCE = 5.0
"""… while no try is older than this: one that is may be a slow answer, unless slowness is the failure."""
SECONDS_LIMITED, LIMITED_FACTOR = 75.0, 3.0
"""A provider that answered before and now only refuses by 429 is given more than a minute, for its quota may
be one of a minute, and so many times the wait it asks for."""
SECONDS_NEVER = 15.0
"""One that hardly ever answered and names no wait is given less."""
LONGEST_ASKED = 60.0
"""Who asks to be left alone for longer, and answers nobody, is given up."""
SHORTEST_TIMEOUT, TIMES_SLOW, LAST_TIMES = 3.0, 4.0, 4.0
"""A try that takes so many seconds, and so many times what nine in ten answers take, is taken for stalled."""
UNSURE_TIMEOUT, TIMES_UNSURE = 20.0, 20.0
"""The same while fewer than ten answers are known, by the slowest of them: the preflight's few words at
first, which take a small part of what a whole answer takes."""
LONGEST_TIMEOUT = 120.0
"""No try is given longer where the user names no time."""
SOON, ANSWERS_OTHERS = 2.0, 0.25
"""Longest wait before the next try while so large a share of the last tries was answered."""
SECONDS_SILENT = 5.0
"""Who has only failed for so long is told of."""
_FEW, _KNOWN, _REMEMBERED = 3, 10, 200
"""Answers whose times say something, and much; and how many are remembered."""
_RECENT = 32


class Health:
    """Whether a model answers, and how fast."""

    def __init__(self, name: str) -> None:
        """Watch the model ``name``."""
        self.down: Failure | None = None
        """Why the model was given up; every further call fails with this at once."""
        self._name = name
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._until_sorted = 0
        self._slow = 0.0
        """Seconds that nine in ten answers do not exceed."""
        self._answered: deque[bool] = deque(maxlen=_RECENT)
        self._last_answer = float("-inf")
        self._failures = 0
        self._failing_since = 0.0
        self._last: Failure | None = None
        self._bearable = SECONDS_UNANSWERED
        """Seconds of nothing but such failures as the last after which it is given up."""
        self._hurried = False
        """The last try was given little time, before anything was known."""
        self._started: dict[int, float] = {}
        self._cuts: dict[int, asyncio.Timeout] = {}
        """What ends the open tries."""
        self._number = 0
        self._gone = asyncio.Event()

    def begin(self, cut: asyncio.Timeout | None = None) -> int:
        """Note that a try begins, which ``cut`` ends if the model is given up; returns its number."""
        self._number += 1
        if cut is not None:
            self._cuts[self._number] = cut
        self._started[self._number] = time.monotonic()
        return self._number

    def end(self, number: int) -> float:
        """Note that a try ended, however; returns when it began."""
        self._cuts.pop(number, None)
        return self._started.pop(number)

    def answered(self, seconds: float) -> None:
        """Note an answer."""
        self._failures = 0
        self._last_answer = time.monotonic()
        self._answered.append(True)
        self._seconds.append(seconds)
        self._until_sorted -= 1
        if self._until_sorted <= 0:
            ranked = sorted(self._seconds)
            self._slow, self._until_sorted = ranked[len(ranked) * 9 // 10], max(len(ranked) // 4, 1)

    def failed(self, failure: Failure, started: float, retry_after: float = 0.0) -> None:
        """Note the failure of a try that ``started`` then; after long without an answer all is given up."""
        now = time.monotonic()
        self._answered.append(False)
        if self._failures == 0:
            # A stall is silence from its beginning; a refusal is known to be one when it comes.
            since = started if failure.kind is FailureKind.TIMEOUT else now
            self._failing_since = max(since, self._last_answer)
        self._failures += 1
        self._last = failure
        limited = failure.kind is FailureKind.RATE_LIMITED
        self._bearable = self._patience(retry_after) if limited else SECONDS_UNANSWERED
        seconds, enough = now - self._failing_since, LEAST_FAILURES
        if failure.kind is FailureKind.TIMEOUT or seconds >= 2 * self._bearable:
            enough //= 2
        if self._failures < enough or seconds < self._bearable or self._may_answer(failure, now):
            return
        if self.down is None:
            self.down = Failure(FailureKind.UNAVAILABLE, self._epitaph(failure, seconds, retry_after))
            self._gone.set()
            for cut in self._cuts.values():
                cut.reschedule(0.0)

    def _epitaph(self, failure: Failure, seconds: float, retry_after: float) -> str:
        asked = f", which asks to be left alone for {retry_after:.0f} s" if retry_after else ""
        slow = failure.kind is FailureKind.TIMEOUT and self._hurried
        mend = "; if it really is so slow, give it more by --timeout SECONDS" if slow else ""
        told = f"{self._name}: no answer in {seconds:.0f} s{asked}, {self._failures} tries failed; "
        return f"{told}the last: {failure.kind.value}: {failure.detail}{mend}"

    @property
    def silence(self) -> str | None:
        """What is wrong, while the model only fails and is not given up; ``None`` else."""
        seconds = time.monotonic() - self._failing_since
        if not self._failures or self._last is None or self.down or seconds < SECONDS_SILENT:
            return None
        return (
            f"{self._name}: no answer for {seconds:.0f} s, the last: {self._last.kind.value}: "
            f"{self._last.detail}; asked again, and given up after {self._bearable:.0f} s"
        )

    def _patience(self, retry_after: float) -> float:
        """Return the seconds for which a model may refuse by 429 alone."""
        if retry_after > LONGEST_ASKED:
            return SECONDS_UNANSWERED
        return max(
            SECONDS_LIMITED if len(self._seconds) >= _FEW else SECONDS_NEVER, LIMITED_FACTOR * retry_after
        )

    def _may_answer(self, failure: Failure, now: float) -> bool:
        """Say whether an old try may still be a slow answer; after a timeout the others stall as well."""
        oldest = next(iter(self._started.values()), now)
        return failure.kind is not FailureKind.TIMEOUT and now - oldest > PATIENCE

    async def wait(self, seconds: float) -> None:
        """Sleep before the next try, but no longer than the model is worth one."""
        try:
            await asyncio.wait_for(self._gone.wait(), seconds)
        except TimeoutError:
            return

    def longest_wait(self, longest: float) -> float:
        """Return the longest wait before a next try: short while others are answered meanwhile."""
        share = sum(self._answered) / max(len(self._answered), 1)
        return min(longest, SOON) if share >= ANSWERS_OTHERS else longest

    def timeout(self, longest: float | None = None, stalled: int = 0) -> float:
        """Return the seconds a try is given, at most ``longest``, or as long as usual.

        That is four times what nine in ten answers take. Before three answers ``longest`` rules if it is
        given. A call whose first two tries stalled is given four times as long, so that an answer which
        really is so slow arrives.
        """
        known = len(self._seconds)
        self._hurried = longest is None and known < _KNOWN
        if longest is not None and known < _FEW:
            return longest
        seconds = max(UNSURE_TIMEOUT, TIMES_UNSURE * max(self._seconds, default=0.0))
        if known >= _KNOWN:
            seconds = max(SHORTEST_TIMEOUT, TIMES_SLOW * self._slow) * (LAST_TIMES if stalled > 1 else 1.0)
        return min(longest or LONGEST_TIMEOUT, seconds)
