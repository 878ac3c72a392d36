"""Progress on stderr: bars on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Protocol, TextIO

from undertow.progress import SearchStatus
from undertow.text import one_line, redact, safe_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from undertow.cli.board import Board

SECONDS_BETWEEN_LINES = 5.0
SECONDS_WORTH_A_LINE = 2.0


PACE_SECONDS = 10.0
"""Calls a second are told over this long, so that a stall shows."""


class _Task(Protocol):
    def advance(self, n: int = 1, note: str = "") -> None: ...
    def tell(self, status: SearchStatus) -> None: ...


class Pace:
    """Calls a second over the last seconds."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, calls: int) -> float | None:
        """Take the count so far; return calls a second, ``None`` before there is any time between."""
        now = time.monotonic()
        if self._seen and calls < self._seen[-1][1]:  # the next search counts from its own start
            self._seen.clear()
        self._seen.append((now, calls))
        while now - self._seen[0][0] > PACE_SECONDS:
            self._seen.popleft()
        then, before = self._seen[0]
        return (calls - before) / (now - then) if now > then else None


class BarTask:
    """A bar of :class:`Bars`."""

    def __init__(self, bars: Board, task: TaskID) -> None:
        """Wrap one Rich task."""
        self._bars, self._task = bars, task
        self.told = False
        """The status shown is this task's."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """Add ``n`` finished units and replace the note."""
        self._bars.update(self._task, advance=n, note=one_line(note, 50))

    def tell(self, status: SearchStatus) -> None:
        """Show the status of a search below the bars."""
        self._bars.status, self.told = status, True


class Bars:
    """Progress as Rich bars; a bar goes when its task ends, said lines stay."""

    def __init__(self, bars: Board) -> None:
        """Draw on a live Rich display."""
        self._bars = bars

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[_Task]:
        """Open a bar of ``total`` units (``None``: a spinner)."""
        number = self._bars.add_task(one_line(name, 40), total=total, note="")
        task = BarTask(self._bars, number)
        try:
            yield task
        finally:
            self._bars.remove_task(number)
            if task.told:
                self._bars.status = None

    def say(self, line: str) -> None:
        """Tell one line above the bars."""
        text = safe_text(redact(line))
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


def totals(status: SearchStatus, pace: float | None) -> list[str]:
    """Tell what all runs share: calls, what is under way, what is lost, what is spent if that is known."""
    cap = f" of {status.max_calls:,}" if status.max_calls is not None else ""
    told = [f"{status.calls:,}{cap} calls", f"{pace:.1f}/s" if pace is not None else ""]
    told += [f"{status.in_flight} in flight", f"{status.open} open" if status.runs else ""]
    told.append(f"{status.failed} failed")
    if status.spent_usd or status.max_usd is not None:
        cap = f" of ${status.max_usd:.2f}" if status.max_usd is not None else ""
        told.append(f"${status.spent_usd:.2f}{cap} spent")
    if status.triggers is not None:
        told.insert(0, f"{status.triggers} trigger{'s' * (status.triggers != 1)}")
    return [part for part in told if part]


def standing(status: SearchStatus) -> list[str]:
    """Tell in a few words where the runs stand."""
    if not status.runs:
        return []
    newest = [run.iteration + 1 for run in status.runs]
    span = f"{min(newest)}" if min(newest) == max(newest) else f"{min(newest)}–{max(newest)}"
    scores = [run.top for run in status.runs if run.top is not None]
    top = [f"top {max(scores):.0f}"] if scores else []
    violating = sum(run.violating for run in status.runs)
    return [f"iteration {span} of {status.runs[0].iterations}", *top, f"{violating} violating"]


def clock(seconds: float) -> str:
    """Write seconds as ``0:00:20``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class LineTask:
    """A task of :class:`Lines`."""

    def __init__(self, lines: Lines, name: str, total: int | None) -> None:
        """Start the task's clock."""
        self._lines, self._name, self._total = lines, name, total
        self._done, self._started, self._told = 0, time.monotonic(), time.monotonic()
        self._status: SearchStatus | None = None
        self._pace = Pace()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Add ``n`` finished units; say so when the last line is old enough."""
        self._done += n
        now = time.monotonic()
        if now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            told = [one_line(note, 50)] if note else []
            if self._status:
                told += [*standing(self._status), *totals(self._status, self._pace.add(self._status.calls))]
                told += self._left(now)
            self._lines.say(f"{self._name}: {self._count()} {', '.join(told)}".rstrip())

    def tell(self, status: SearchStatus) -> None:
        """Keep the status of a search for the next line."""
        self._status = status
        self._pace.add(status.calls)

    def _left(self, now: float) -> list[str]:
        if not self._total or not self._done:
            return []
        left = (now - self._started) * (self._total - self._done) / self._done
        return [f"about {clock(left)} left"]

    def _count(self) -> str:
        if not self._total:
            return f"{self._done:,}"
        return f"{self._done:,} of {self._total:,} ({self._done / self._total:.0%})"

    def end(self) -> None:
        """Say how long it took when it was worth a line."""
        seconds = time.monotonic() - self._started
        if seconds >= SECONDS_WORTH_A_LINE:
            self._lines.say(f"{self._name}: {self._count()} in {seconds:.1f} s")


class Lines:
    """Progress as plain lines, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        """Write to ``stream``."""
        self._stream, self._lock = stream, threading.Lock()

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[_Task]:
        """Open a task that tells a line every few seconds."""
        task = LineTask(self, name, total)
        yield task
        task.end()

    def say(self, line: str) -> None:
        """Tell one line."""
        with self._lock:
            print(safe_text(redact(line)), file=self._stream, flush=True)


@contextmanager
def terminal_progress() -> Iterator[Bars | Lines]:
    """Give a verb its progress on stderr, and keep stdout for the result.

    Whatever a library prints inside the block goes to stderr, so that stdout holds the summary alone.
    """
    from rich.console import Console

    stderr = sys.stderr
    console = Console(file=stderr, emoji=False)
    with redirect_stdout(stderr):
        if not console.is_terminal or console.is_dumb_terminal:
            yield Lines(stderr)
            return
        with _rich_bars(console) as bars:
            yield Bars(bars)


def _rich_bars(console: Console) -> Board:
    from undertow.cli.board import make_board

    return make_board(console)
