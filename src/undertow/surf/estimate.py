"""What a search will ask of each role, before anything is spent: calls, tokens and dollars, from and to.

From: the search alone, every answer right at once. To: every hypothesis kept and confirmed, and answers of
full length. Faults that are tried again come on top; ``--max-calls`` and ``--max-cost`` bound those as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from undertow.models.prices import Price, list_price
from undertow.surf.config import SurfConfig

if TYPE_CHECKING:
    from undertow.surf.roles import Roles

Range = tuple[int, int]
"""From, to."""

PROMPT = (20, 200)
"""Tokens of a candidate's prompt."""
WRITING = (200, 500)
"""Tokens read to write one: the task and its attributes."""
JUDGING = (400, 1200)
"""Tokens of rubric and task around an exchange."""
VERDICT = (40, 400)
"""Tokens of a verdict: its reason is one or two sentences."""
SHORT = 4
"""An answer is at least the longest allowed over this."""
PROBES = 3
"""Measurements of one hypothesis: it, and each half of a pair."""


@dataclass(frozen=True, slots=True)
class RoleEstimate:
    """What one role will be asked."""

    role: str
    """target, generator, judge …"""
    model: str
    """Its model string."""
    calls: Range
    """Answered calls."""
    input_tokens: Range
    """Tokens read."""
    output_tokens: Range
    """Tokens written."""
    cost_usd: tuple[float, float] | None
    """US dollars; ``None`` where no price is known."""


def estimate_search(roles: Roles, config: SurfConfig) -> dict[str, Any]:
    """Plan a search without asking anything; the same for either algorithm.

    Returns:
        ``roles``, one dictionary a role that is a model, and the totals ``calls`` and ``cost_usd`` (``None``
        if a price is missing), each from and to.
    """
    search = config.runs * config.iterations * config.candidates
    fresh = _confirmation(config)
    asked = (search, search + fresh)
    controlled = (0, config.max_findings * config.confirm_prompts * config.confirm_samples)
    accused = (0, fresh)
    judged = (search, search + fresh + (controlled[1] if roles.reference else 0))
    calls = {
        "generator": asked, "target": asked, "reference": controlled, "judge": judged,
        "confirm_judge": accused,
    }  # fmt: skip
    plan = {role: (calls[role], *size) for role, size in _sizes(config).items()}
    models = _models(roles)
    told = [_role(role, name, *plan[role], config) for role, name in models.items()]
    costs = [each.cost_usd for each in told]
    known = [cost for cost in costs if cost is not None]
    return {
        "roles": told,
        "calls": (sum(each.calls[0] for each in told), sum(each.calls[1] for each in told)),
        "cost_usd": (sum(low for low, _ in known), sum(high for _, high in known))
        if len(known) == len(costs)
        else None,
    }


def dearest_calls(roles: Roles, config: SurfConfig) -> dict[str, float]:
    """Return what one long call of each role that is a model costs, USD; 0 where no price is known."""
    sizes = _sizes(config)
    told = (_role(role, name, (1, 1), *sizes[role], config) for role, name in _models(roles).items())
    return {each.role: each.cost_usd[1] if each.cost_usd else 0.0 for each in told}


def _models(roles: Roles) -> dict[str, str]:
    return {role: name for role, name in roles.names().items() if name and name not in ("local", "checks")}


def _sizes(config: SurfConfig) -> dict[str, tuple[Range, Range]]:
    """Return the tokens that one call of each role writes and reads."""
    answer = (config.max_tokens // SHORT, config.max_tokens)
    reply = (answer, (PROMPT[0] + _given(config), PROMPT[1] + _given(config)))
    verdict = (VERDICT, (JUDGING[0] + PROMPT[0] + answer[0], JUDGING[1] + PROMPT[1] + answer[1]))
    return {
        "generator": (PROMPT, WRITING), "target": reply, "reference": reply, "judge": verdict,
        "confirm_judge": verdict,
    }  # fmt: skip


def _confirmation(config: SurfConfig) -> int:
    """Return the most candidates that probes, base rate, confirmation and perturbations ask."""
    if not config.confirm:
        return 0
    probed = (config.max_findings + config.max_rejected + 1) * PROBES * config.probe_prompts
    confirmed = config.confirm_prompts * config.confirm_samples
    perturbed = config.exemplars * config.perturbations * config.perturbation_samples
    return probed + config.base_prompts + config.max_findings * (confirmed + perturbed)


def _given(config: SurfConfig) -> int:
    """Return about how many tokens system prompt and context put before every candidate."""
    turns = sum(len(turn.content) for turn in config.context)
    return (len(config.system) + len(config.preface) + turns) // 4


def _role(
    role: str, spec: str, calls: Range, written: Range, read: Range, config: SurfConfig
) -> RoleEstimate:
    model = spec.removeprefix("checks+")
    price: Price | None = config.prices.get(role) or config.prices.get("") or list_price(model)
    tokens_in = (calls[0] * read[0], calls[1] * read[1])
    tokens_out = (calls[0] * written[0], calls[1] * written[1])
    ends = zip(tokens_in, tokens_out, strict=True)
    low, high = (price.cost(*end) if price else 0.0 for end in ends)
    cost = (low, high) if price else None
    return RoleEstimate(role, model, calls, tokens_in, tokens_out, cost)
