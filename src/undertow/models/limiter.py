"""How many calls a provider gets at once, when it is left alone, and when it is given up.

A :class:`Limiter` belongs to one provider and key and is shared by every model and run of the event loop.
Its window starts low, doubles a round trip while the provider keeps up, is halved by a 429 and grows by one a
round trip from then on (Chiu and Jain, Computer Networks 17, 1989: additive increase, multiplicative
decrease). A Retry-After stops the whole limiter. A fixed window keeps its size and obeys Retry-After too.

A :class:`Health` belongs to one model: how long its answers take, and whether it still gives any.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import ContextVar
from heapq import heappop, heappush
from statistics import median
from types import TracebackType
from weakref import WeakKeyDictionary

from undertow.records import Failure, FailureKind

turn: ContextVar[int] = ContextVar("turn", default=0)
"""Whose calls are served first where several wait, least first; a task hands it on to the tasks it starts."""
START, LEAST, MOST = 8, 2, 256
"""Window of a limiter at first, at least and at most."""
SECONDS_UNANSWERED = 12.0
"""A model that has only failed for so long is given up …"""
LEAST_FAILURES = 10
"""… after so many failures in a row (half as many once it has lasted twice as long) …"""
PATIENCE = 5.0
"""… while no try is older than this: one that is may be a slow answer, unless slowness is the failure."""
SECONDS_LIMITED, LIMITED_FACTOR = 75.0, 3.0
"""A provider that only refuses by 429 is given more than a minute, and so many times the wait it asks for."""
SHORTEST_TIMEOUT = 20.0
"""Seconds a try is always given."""
TIMES_MEDIAN = 10.0
"""A try that takes so many median answers is taken for stalled."""
_KNOWN = 10
"""Answers seen before their median counts."""
_REMEMBERED = 200


class Pause:
    """Until when a provider asked to be left alone; shared by all windows of it."""

    def __init__(self) -> None:
        self.until = 0.0

    async def over(self) -> None:
        """Wait for the end of the pause, however often it is put off."""
        while (left := self.until - time.monotonic()) > 0:  # noqa: ASYNC110 - the end may be put off
            await asyncio.sleep(left)


class Limiter:
    """A window of calls in flight; an async context manager holds one place.

    Whoever waits is served by :data:`turn`, then in order of coming.
    """

    def __init__(self, pause: Pause, fixed: int | None = None) -> None:
        """Open a window of ``fixed`` places, or of a size that adapts."""
        self.window = float(fixed or START)
        self.in_flight = 0
        self._fixed = fixed is not None
        self._pause = pause
        self._slow_start = True
        self._cut_at = 0.0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._came = 0

    async def __aenter__(self) -> Limiter:
        if self.in_flight < int(self.window) and not self._waiting:
            self.in_flight += 1
        else:
            await self._queue()
        try:
            await self._pause.over()
        except BaseException:
            self._leave()
            raise
        return self

    async def _queue(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._came += 1
        heappush(self._waiting, (turn.get(), self._came, place))
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self.in_flight -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.in_flight < int(self.window):
            *_, place = heappop(self._waiting)
            if not place.done():
                self.in_flight += 1
                place.set_result(None)

    def succeeded(self) -> None:
        """Widen the window if somebody waits for a place: else nothing was learned about its size."""
        if self._fixed or not self._waiting:
            return
        self.window = min(self.window + (1.0 if self._slow_start else 1.0 / self.window), MOST)
        self._admit()

    def limited(self, started: float, retry_after: float | None) -> None:
        """Halve the window for a 429, once for all calls that were in flight together; pause if asked to.

        Args:
            started: When the refused call began, monotonic seconds.
            retry_after: Seconds that the provider asked for.
        """
        now = time.monotonic()
        if retry_after:
            self._pause.until = max(self._pause.until, now + retry_after)
        if not self._fixed and started >= self._cut_at:
            self._slow_start, self._cut_at = False, now
            self.window = max(self.window / 2, LEAST)


class Health:
    """Whether a model answers, and how fast."""

    def __init__(self, name: str) -> None:
        """Watch the model ``name``."""
        self.down: Failure | None = None
        """Why the model was given up; every further call fails with this at once."""
        self._name = name
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._since_median = 0
        self._median = 0.0
        self._failures = 0
        self._failing_since = 0.0
        self._started: dict[int, float] = {}
        self._number = 0
        self._gone = asyncio.Event()

    def begin(self) -> int:
        """Note that a try begins; returns its number."""
        self._number += 1
        self._started[self._number] = time.monotonic()
        return self._number

    def end(self, number: int) -> float:
        """Note that a try ended, however; returns when it began."""
        return self._started.pop(number)

    def answered(self, seconds: float) -> None:
        """Note an answer."""
        self._failures = 0
        self._seconds.append(seconds)
        self._since_median -= 1
        if self._since_median <= 0:
            self._median, self._since_median = median(self._seconds), max(len(self._seconds) // 4, 1)

    def failed(self, failure: Failure, retry_after: float = 0.0) -> None:
        """Note a failure; the model is given up when there was nothing else for long."""
        now = time.monotonic()
        if self._failures == 0:
            self._failing_since = now
        self._failures += 1
        seconds = now - self._failing_since
        least, enough = SECONDS_UNANSWERED, LEAST_FAILURES
        if failure.kind is FailureKind.RATE_LIMITED:
            least = max(SECONDS_LIMITED, LIMITED_FACTOR * retry_after)
        if seconds >= 2 * least:
            enough //= 2
        if self._failures < enough or seconds < least or self._may_answer(failure, now):
            return
        if self.down is None:
            detail = f"{self._name}: no answer in {seconds:.0f} s, {self._failures} tries failed; the last: "
            self.down = Failure(FailureKind.UNAVAILABLE, f"{detail}{failure.kind.value}: {failure.detail}")
            self._gone.set()

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

    def timeout(self, longest: float) -> float:
        """Return the seconds a try is given: ten median answers, at least twenty, at most ``longest``."""
        if len(self._seconds) < _KNOWN:
            return longest
        return min(longest, max(SHORTEST_TIMEOUT, TIMES_MEDIAN * self._median))


class _Loop:
    """What one event loop shares."""

    def __init__(self) -> None:
        self.pauses: dict[str, Pause] = {}
        self.windows: dict[str, Limiter] = {}
        self.health: dict[str, Health] = {}


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()


def limiter_of(endpoint: str, fixed: int | None) -> Limiter:
    """Return the window on ``endpoint`` (provider and key): the shared one, or a new one of fixed size."""
    here = _loops.setdefault(asyncio.get_running_loop(), _Loop())
    pause = here.pauses.setdefault(endpoint, Pause())
    if fixed is not None:
        return Limiter(pause, fixed)
    return here.windows.setdefault(endpoint, Limiter(pause))


def health_of(endpoint: str, model: str) -> Health:
    """Return what is known of ``model`` behind ``endpoint``."""
    here = _loops.setdefault(asyncio.get_running_loop(), _Loop())
    return here.health.setdefault(f"{endpoint}\0{model}", Health(model))
