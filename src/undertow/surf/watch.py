"""What a search tells while it runs: where each run stands, what is in flight, what it cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from undertow.models.budget import Budget
from undertow.progress import RunStatus, SearchStatus, Task
from undertow.records import Failure, FailureKind, Sample
from undertow.surf.ask import is_violation
from undertow.surf.seen import Seen

_SECONDS_BETWEEN = 0.1
"""A status is told at most so often."""


@dataclass(slots=True)
class _Run:
    iteration: int = 0
    top: float | None = None
    violating: Seen = field(default_factory=Seen)
    patterns: Seen = field(default_factory=Seen)


class Count:
    """Follows the samples asked after a search, which belong to no run."""

    def __init__(self, task: Task, budget: Budget) -> None:
        """Report to ``task``; calls and dollars are read off ``budget``."""
        self._task = task
        self._budget = budget
        self._failed = 0

    def __call__(self, sample: Sample) -> None:
        """Count one sample."""
        verdict, budget = sample.verdict, self._budget
        self._failed += isinstance(verdict, Failure) and verdict.kind is not FailureKind.BUDGET
        self._task.tell(
            SearchStatus(
                (), 0, budget.in_flight, self._failed,
                budget.calls, budget.max_calls, budget.cost_usd, budget.max_cost,
            )
        )  # fmt: skip
        self._task.advance()


class Watch:
    """Follows the candidates of a search for its progress task; only counts, and changes nothing."""

    def __init__(self, task: Task, budget: Budget, iterations: int) -> None:
        """Report to ``task``; calls and dollars are read off ``budget``."""
        self.triggers: int | None = None
        """Triggers known so far; the archive algorithm sets it."""
        self._task = task
        self._budget = budget
        self._iterations = iterations
        self._runs: dict[int, _Run] = {}
        self._open = 0
        self._failed = 0
        self._told = float("-inf")

    def began(self, run: int, iteration: int) -> None:
        """Count a candidate that is drawn."""
        state = self._runs.setdefault(run, _Run())
        state.iteration = max(state.iteration, iteration)
        self._open += 1

    def ended(self, sample: Sample) -> None:
        """Count a candidate's verdict, or its failure."""
        self._open -= 1
        verdict, candidate = sample.verdict, sample.candidate
        state = self._runs[candidate.run]
        if isinstance(verdict, Failure):
            self._failed += verdict.kind is not FailureKind.BUDGET
        else:
            state.top = verdict.score if state.top is None else max(state.top, verdict.score)
        if is_violation(sample):
            state.violating.add(candidate.conversation)
            state.patterns.add("\n".join(sorted(set(candidate.realised))))
        now = time.monotonic()
        if now - self._told >= _SECONDS_BETWEEN or not self._open:
            self._told = now
            self._task.tell(self.status())
        self._task.advance()

    def status(self) -> SearchStatus:
        """Say where the search stands."""
        runs = tuple(
            RunStatus(run, s.iteration, self._iterations, s.top, len(s.violating), len(s.patterns))
            for run, s in sorted(self._runs.items())
        )
        budget = self._budget
        return SearchStatus(
            runs, self._open, budget.in_flight, self._failed,
            budget.calls, budget.max_calls, budget.cost_usd, budget.max_cost, self.triggers,
        )  # fmt: skip
