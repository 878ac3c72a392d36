"""The bars of a terminal, and below them where each run of a search stands."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from undertow.cli.progress import Pace, totals
from undertow.progress import RunStatus, SearchStatus

RUNS_SHOWN = 12
"""Runs with a line of their own."""


class Board(Progress):
    """Rich bars with the status of a search."""

    status: SearchStatus | None = None
    """``None`` while no search runs."""
    pace: Pace | None = None
    """Calls a second, taken whenever the screen is drawn, so that a stall shows."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return what is drawn."""
        yield from super().get_renderables()
        if self.status is not None:
            self.pace = self.pace or Pace()
            yield laid_out(self.status, self.pace.add(self.status.calls))


def make_board(console: Console) -> Board:
    """Make the bars of ``console``."""
    return Board(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        transient=True,
    )


def laid_out(status: SearchStatus, pace: float | None) -> RenderableType:
    """Lay a status out: a line a run, and one for all."""
    told = Text(" · ".join(totals(status, pace)))
    if not status.runs:
        return told
    lines = Table(box=None, padding=(0, 2), pad_edge=False, header_style="dim")
    for name in ("run", "iteration", "top score", "violating", "patterns"):
        lines.add_column(name, justify="right")
    for run in status.runs[:RUNS_SHOWN]:
        lines.add_row(*_cells(run))
    more = len(status.runs) - RUNS_SHOWN
    rest = [Text(f"and {more} more runs", style="dim")] if more > 0 else []
    return Group(lines, *rest, told)


def _cells(run: RunStatus) -> tuple[str, ...]:
    top = "–" if run.top is None else f"{run.top:.0f}"
    place = f"{run.iteration + 1}/{run.iterations}"
    return (str(run.run + 1), place, top, f"{run.violating:,}", f"{run.patterns:,}")
