"""What a candidate takes, and how a capped budget is shared between search and confirmation.

A cap buys whole things: a candidate with its verdict, a probe, a base rate, a confirmation. Where the cap
pays for one finding and a search of half that size, a third of it or one finding's price, whichever is more,
is kept for what comes after the search; and while hypotheses are probed, base rate and one confirmation are
kept in turn. A smaller cap goes to the search alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from undertow.models.budget import Budget, Plan
from undertow.surf.config import SurfConfig

AFTER = 1 / 3
"""Share of a cap that is kept for what comes after the search."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Calls, and what they may cost."""

    calls: int = 0
    """How many."""
    cost: float = 0.0
    """US dollars."""

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.calls + other.calls, self.cost + other.cost)

    def __mul__(self, n: int) -> Amount:
        return Amount(self.calls * n, self.cost * n)


@dataclass(frozen=True, slots=True)
class Steps:
    """What the roles' calls may cost; a role that is no model, or is not there, is left out."""

    costs: Mapping[str, float] = field(default_factory=lambda: {"target": 0.0})
    """USD a call by role."""

    def of(self, *roles: str) -> Amount:
        """Return one call of each of ``roles`` that is a model."""
        there = [self.costs[role] for role in roles if role in self.costs]
        return Amount(len(there), sum(there))

    @property
    def candidate(self) -> Amount:
        """Return a candidate of the search."""
        return self.of("generator", "target", "judge")

    @property
    def written(self) -> Amount:
        """Return one fresh prompt."""
        return self.of("generator")

    @property
    def sample(self) -> Amount:
        """Return an answer and its verdict."""
        return self.of("target", "judge")

    def base(self, config: SurfConfig) -> Amount:
        """Return the base rate."""
        return (self.written + self.sample) * config.base_prompts

    def confirmation(self, config: SurfConfig) -> Amount:
        """Return the confirmation of one hypothesis, without perturbations."""
        voted = self.sample + self.of("confirm_judge", "reference")
        judged_too = self.of("judge") if "reference" in self.costs else Amount()
        return self.written * config.confirm_prompts + (voted + judged_too) * (
            config.confirm_prompts * config.confirm_samples
        )

    def finding(self, config: SurfConfig) -> Amount:
        """Return all that one finding by a single attribute takes after the search."""
        probe = (self.written + self.sample) * config.probe_prompts
        return probe + self.base(config) + self.confirmation(config)


def together(budget: Budget, amount: Amount) -> AbstractContextManager[Plan]:
    """Make calls that only count together."""
    return budget.whole(amount.calls, amount.cost)


def keep_for_findings(budget: Budget, steps: Steps, config: SurfConfig) -> bool:
    """Keep the confirmation's share back from the search; ``False`` where the cap pays for no finding."""
    one = steps.finding(config)
    calls, cost = budget.max_calls, budget.max_cost
    enough = (calls is None or one.calls <= calls * (1 - AFTER)) and (
        cost is None or one.cost <= cost * (1 - AFTER)
    )
    if not config.confirm or not enough:
        budget.keep()
        return not config.confirm or enough
    budget.keep(
        max(one.calls, int((calls or 0) * AFTER)) if calls is not None else 0,
        max(one.cost, (cost or 0.0) * AFTER) if cost is not None else 0.0,
    )
    return True
