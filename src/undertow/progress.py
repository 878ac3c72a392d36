"""How long work reports itself; the command line shows it, a library caller hears nothing by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Where one run of a search stands."""

    run: int
    """From 0."""
    iteration: int
    """t, from 0: the newest that has begun."""
    iterations: int
    """T."""
    top: float | None
    """Highest score so far, in [0, 100]; ``None`` while nothing is scored."""
    violating: int
    """Distinct violating candidates so far."""
    patterns: int
    """Distinct sets of attributes that they realise."""


@dataclass(frozen=True, slots=True)
class SearchStatus:
    """Where a search stands, all runs together."""

    runs: tuple[RunStatus, ...]
    """The runs that have begun, in order."""
    open: int
    """Candidates between their draw and their verdict."""
    in_flight: int
    """Calls under way; a local model's batches are not counted."""
    failed: int
    """Candidates that ended without a verdict."""
    calls: int
    """Model calls so far that the journal did not answer."""
    max_calls: int | None
    """Their cap."""
    spent_usd: float
    """Sum of the known prices."""
    max_usd: float | None
    """Its cap."""
    triggers: int | None = None
    """Distinct triggers found so far, where the algorithm tells them apart."""


class Task(Protocol):
    """One running piece of work."""

    def advance(self, n: int = 1, note: str = "") -> None:
        """Add ``n`` finished units and replace the note."""
        ...

    def tell(self, status: SearchStatus) -> None:
        """Replace the status of a search."""
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

    def tell(self, status: SearchStatus) -> None:
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
