"""How many calls a provider gets at once, and when it is left alone.

A :class:`Limiter` belongs to one provider and key and is shared by every model and run of the event loop.
Its window starts low, doubles a round trip while the provider keeps up, is halved by a 429 and grows by one a
round trip from then on (Chiu and Jain, Computer Networks 17, 1989: additive increase, multiplicative
decrease). A Retry-After stops the whole limiter. A fixed window keeps its size and obeys Retry-After too.

Departure: some endpoints refuse a share of all calls however few there are, and additive increase would keep
the window at a handful for good. Where refusals go on after a cut, the cut is put on trial: both windows are
held for a round each, and where the wide one brings more answers a second the refusals are *background*. They
cut nothing and stop nobody but the refused call, until their share rises.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import ContextVar
from heapq import heappop, heappush
from types import TracebackType
from weakref import WeakKeyDictionary

from undertow.models.health import Health

turn: ContextVar[int] = ContextVar("turn", default=0)
"""Whose calls are served first where several wait, least first; a task hands it on to the tasks it starts."""
START, LEAST, MOST = 8, 2, 256
"""Window of a limiter at first, at least and at most."""
_ROUND = 32
"""Answers at least, and two a place, by which two windows are compared."""
_BETTER = 1.4
"""A window twice as wide brings so many times the answers, or the provider is at its limit: √2."""
_FEW_REFUSED = 0.05
"""Share of refusals after a cut below which the cut has helped."""
_RECENT = 64


class Pause:
    """Until when a provider asked to be left alone; shared by all windows of it."""

    def __init__(self) -> None:
        self.until = 0.0
        self.seconds = 0.0
        """Length of all pauses so far, the rest of this one too."""

    def extend(self, seconds: float) -> None:
        """Leave the provider alone for ``seconds`` from now."""
        now = time.monotonic()
        longer = now + seconds - max(self.until, now)
        if longer > 0:
            self.until, self.seconds = now + seconds, self.seconds + longer

    async def over(self) -> None:
        """Wait for the end of the pause, however often it is put off."""
        while (left := self.until - time.monotonic()) > 0:  # noqa: ASYNC110 - the end may be put off
            await asyncio.sleep(left)


class _Tally:
    """What a window of one size brought, from the tries that began under it."""

    def __init__(self, pause: Pause) -> None:
        self.since = time.monotonic()
        self.answered = self.refused = 0
        self._pause, self._paused = pause, pause.seconds

    @property
    def share(self) -> float:
        """Share of refusals."""
        return self.refused / max(self.answered + self.refused, 1)

    @property
    def mostly_refused(self) -> bool:
        """Whether more was refused than answered, and not by chance."""
        return self.refused > self.answered + 8

    @property
    def goodput(self) -> float:
        """Answers a second, pauses not counted."""
        seconds = time.monotonic() - self.since - (self._pause.seconds - self._paused)
        return self.answered / max(seconds, 1e-6)


def _usual(share: float) -> float:
    """Return the share of refusals up to which as many as ``share`` may be behind it by chance."""
    return 1.25 * share + 0.1


class Limiter:
    """A window of calls in flight; an async context manager holds one place.

    Whoever waits is served by :data:`turn`, then in order of coming.
    """

    def __init__(self, pause: Pause, fixed: int | None = None) -> None:
        """Open a window of ``fixed`` places, or of a size that adapts."""
        self.window = float(fixed or START)
        self.in_flight = 0
        self.background = 0.0
        """Share of calls refused however few are in flight."""
        self._fixed = fixed is not None
        self._pause = pause
        self._slow_start = True
        self._wide: float | None = None
        """The window before a cut that is on trial."""
        self._narrow: _Tally | None = None
        """What the cut window brought, while the wide one is tried again."""
        self._tally = _Tally(pause)
        self._recent: deque[bool] = deque(maxlen=_RECENT)
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

    def succeeded(self, started: float) -> None:
        """Widen the window if somebody waits for a place: else nothing was learned about its size.

        Args:
            started: When the answered call began, monotonic seconds.
        """
        if self._fixed:
            return
        self._count(started, refused=False)
        if self._wide is None and self._waiting:
            self._resize(min(self.window + (1.0 if self._slow_start else 1.0 / self.window), MOST))

    def limited(self, started: float, retry_after: float | None) -> None:
        """Halve the window for a 429, once for all calls that were in flight together; pause if asked to.

        Args:
            started: When the refused call began, monotonic seconds.
            retry_after: Seconds that the provider asked for.
        """
        self._count(started, refused=True)
        usual = self._is_usual()
        if retry_after and not usual:
            self._pause.extend(retry_after)
        if self._fixed or usual or started < self._tally.since:
            return
        if self._wide is None or (self._narrow is None and self._tally.mostly_refused):
            self._wide = self.window
            self._hold(max(self.window / 2, LEAST))

    def _is_usual(self) -> bool:
        """Say whether no more is refused than the background."""
        share = sum(self._recent) / max(len(self._recent), 1)
        return self._wide is None and self.background > 0 and share <= _usual(self.background)

    def _count(self, started: float, refused: bool) -> None:
        """Count a try that began under the present window, and end a round of a trial that it completes."""
        self._recent.append(refused)
        if started < self._tally.since:
            return
        self._tally.refused += refused
        self._tally.answered += not refused
        if self._wide is None or self._tally.answered < max(_ROUND, 2 * self.window):
            return
        if self._narrow is not None:
            self._judge(self._narrow, self._wide)
        elif self._tally.share <= _FEW_REFUSED or not self._waiting:
            self._settle(self.window)
        else:
            self._narrow = self._tally
            self._hold(self._wide)

    def _judge(self, narrow: _Tally, wide: float) -> None:
        """Keep the narrow window unless the wide one clearly brought more, at no more refusals."""
        better = self._tally.goodput >= _BETTER * narrow.goodput
        if not better or self._tally.share > _usual(narrow.share):
            self._settle(max(wide / 2, LEAST))
            return
        self.background = (narrow.share + self._tally.share) / 2
        self._slow_start, self._wide, self._narrow = True, None, None

    def _settle(self, window: float) -> None:
        """End a trial: the provider is at its limit."""
        self._slow_start, self._wide, self._narrow, self.background = False, None, None, 0.0
        self._hold(window)

    def _hold(self, window: float) -> None:
        """Count anew from here, at another size."""
        self._tally = _Tally(self._pause)
        self._resize(window)

    def _resize(self, window: float) -> None:
        self.window = window
        self._admit()


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


def silences() -> dict[Health, str]:
    """Return the models of the running event loop that only fail at present, and what is wrong."""
    here = _loops.get(asyncio.get_running_loop()) or _Loop()
    return {health: told for health in here.health.values() if (told := health.silence)}
