"""The cells of a study: each is done once, kept as it is done, and a hole where it cannot be.

A cell is what a study measures at one place of its table: one model on one transform, one training run at one
dose. A study that was stopped goes on with the cells that are not there; a cell that fails has no number, and
nothing is averaged over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.errors import UndertowError
from undertow.progress import SILENT, Progress
from undertow.store.run import RunDir, config_hash
from undertow.store.tables import atomic_write_json, read_json, to_jsonable

Measured = dict[str, Any]
"""What a cell found, as JSON."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of a study's table."""

    place: dict[str, Any]
    """Its coordinates, in the table's column order: ``{"model": …, "transform": …}``."""
    measure: Callable[[], Measured]
    """Does the work; may raise an :class:`UndertowError`, which leaves a hole."""
    depends: object = None
    """Anything beside its coordinates and the run's identity that shapes the result."""

    @property
    def key(self) -> str:
        """Name of its file."""
        return config_hash([self.place, self.depends])[:16]


@dataclass(frozen=True, slots=True)
class Hole:
    """A cell without a number."""

    place: dict[str, Any]
    """Its coordinates."""
    reason: str
    """Why, one line."""


def run_cells(
    run: RunDir, cells: Sequence[Cell], progress: Progress = SILENT, what: str = "cells"
) -> tuple[list[Measured], list[Hole]]:
    """Measure every cell that ``run`` does not hold yet; in the order given.

    Returns:
        What was measured, each with its place, and the holes.
    """
    done: list[Measured] = []
    holes: list[Hole] = []
    with progress.task(what, len(cells)) as task:
        for cell in cells:
            outcome = _measured(run.file(f"cells/{cell.key}.json"), cell)
            if isinstance(outcome, Hole):
                holes.append(outcome)
            else:
                done.append(outcome)
            task.advance(note=_named(cell.place))
    return done, holes


def _measured(file: Path, cell: Cell) -> Measured | Hole:
    """Read a cell or do it; the one place where its error becomes a hole."""
    if file.is_file():
        stored: Measured = read_json(file)
        return stored
    try:
        found: Measured = to_jsonable({**cell.place, **cell.measure()})
    except UndertowError as error:
        return Hole(cell.place, str(error))
    atomic_write_json(file, found)
    return found


def _named(place: dict[str, Any]) -> str:
    return " × ".join(str(value) for value in place.values() if value not in (None, ""))


def told_missing(n: int, what: str = "cell") -> str:
    """Return the end of a sentence that says how many are missing; empty for none."""
    if not n:
        return ""
    return f" {n} {what} is missing." if n == 1 else f" {n} {what}s are missing."


def holes_json(holes: Iterable[Hole]) -> list[dict[str, Any]]:
    """Write holes as ``missing`` of a summary."""
    return [{**hole.place, "reason": hole.reason} for hole in holes]
