"""How long work reports itself; the command line shows it, a library caller hears nothing by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """Add ``n`` finished units and replace the note."""
        ...


class Progress(Protocol):
    """Where work reports itself."""

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Task]:
        """Open a task of ``total`` units (``None``: unknown) as a context manager."""
        ...

    def say(self, line: str) -> None:
        """Tell one line in plain words."""
        ...


class _SilentTask:
    def advance(self, n: int = 1, note: str = "") -> None:
        """Do nothing."""


class Silent:
    """Reports nothing; the default of every public function."""

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Task]:
        """Open a task that nobody sees."""
        yield _SilentTask()

    def say(self, line: str) -> None:
        """Say nothing."""


SILENT = Silent()
