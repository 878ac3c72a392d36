"""Progress on stderr: bars on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Protocol, TextIO

from undertow.text import one_line, redact, safe_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichBars
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES = 5.0
SECONDS_WORTH_A_LINE = 2.0


class _Task(Protocol):
    def advance(self, n: int = 1, note: str = "") -> None: ...


class BarTask:
    """A bar of :class:`Bars`."""

    def __init__(self, bars: RichBars, task: TaskID) -> None:
        """Wrap one Rich task."""
        self._bars, self._task = bars, task

    def advance(self, n: int = 1, note: str = "") -> None:
        """Add ``n`` finished units and replace the note."""
        self._bars.update(self._task, advance=n, note=one_line(note, 50))


class Bars:
    """Progress as Rich bars; a bar goes when its task ends, said lines stay."""

    def __init__(self, bars: RichBars) -> None:
        """Draw on a live Rich display."""
        self._bars = bars

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[_Task]:
        """Open a bar of ``total`` units (``None``: a spinner)."""
        task = self._bars.add_task(one_line(name, 40), total=total, note="")
        try:
            yield BarTask(self._bars, task)
        finally:
            self._bars.remove_task(task)

    def say(self, line: str) -> None:
        """Tell one line above the bars."""
        text = safe_text(redact(line))
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


class LineTask:
    """A task of :class:`Lines`."""

    def __init__(self, lines: Lines, name: str, total: int | None) -> None:
        """Start the task's clock."""
        self._lines, self._name, self._total = lines, name, total
        self._done, self._started, self._told = 0, time.monotonic(), time.monotonic()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Add ``n`` finished units; say so when the last line is old enough."""
        self._done += n
        now = time.monotonic()
        if now - self._told >= SECONDS_BETWEEN_LINES:
            self._told = now
            self._lines.say(f"{self._name}: {self._count()} {one_line(note, 50)}".rstrip())

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
    console = Console(file=stderr)
    with redirect_stdout(stderr):
        if not console.is_terminal or console.is_dumb_terminal:
            yield Lines(stderr)
            return
        with _rich_bars(console) as bars:
            yield Bars(bars)


def _rich_bars(console: object) -> RichBars:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console if isinstance(console, Console) else None,
        transient=True,
    )
