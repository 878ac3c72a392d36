"""Confirmation: the rate of a hypothesis on prompts that neither search nor probes have seen (paper §3.2.3).

Departure from the paper, which perturbs and resamples the search's own top prompts: those were selected for
having violated. Here fresh prompts that carry the attributes give the rate, uniformly drawn ones the base
rate, the reference model the control; perturbations × resamples give each exemplar's own rate beside them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

import numpy as np

from undertow.records import (
    Agreement,
    Candidate,
    Exemplar,
    Failure,
    Finding,
    Interval,
    Rate,
    Reply,
    Sample,
    Verdict,
)
from undertow.stats.agreement import cohens_kappa
from undertow.stats.intervals import rate as wilson_rate
from undertow.stats.intervals import wilson_bounds
from undertow.surf.ask import Asker, failure_share, is_violation, scored, tried
from undertow.surf.config import SurfConfig
from undertow.surf.explain import Hypothesis, candidates
from undertow.surf.generate import Generator
from undertow.surf.shares import together

Status = Literal["confirmed", "rejected", "inconclusive"]
UNMEASURED = Rate(0, 0, None)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A finding and every sample its numbers come from."""

    finding: Finding
    """The result."""
    hypothesis: Hypothesis
    """What was tested."""
    prompts: tuple[Candidate, ...]
    """Fresh prompts that carry the attributes, each asked ``confirm_samples`` times."""
    samples: tuple[Sample, ...]
    """The target's answers to them."""
    control: tuple[Sample, ...]
    """The reference model's answers to them; empty without one."""
    perturbed: tuple[Sample, ...]
    """The target's answers to perturbed exemplars."""
    reason: str
    """Why the status is what it is, one line."""


def prompt_rate(samples: Sequence[Sample]) -> Rate:
    """Return the violation rate of ``samples``, its interval widened for resamples of the same prompt.

    Resamples of one prompt are alike, so their n overstates what is known. The Wilson interval is taken at
    the effective size n / deff, deff = the ratio estimator's variance between prompts over that of as many
    independent samples (Kish, Survey Sampling, 1965, §8.2), clipped to [1, resamples a prompt]. Where all
    samples agree deff cannot be estimated and each prompt counts once.
    """
    per_prompt: dict[str, list[bool]] = {}
    for sample in scored(samples):
        per_prompt.setdefault(sample.candidate.conversation, []).append(is_violation(sample))
    hits = np.array([sum(votes) for votes in per_prompt.values()], dtype=np.float64)
    n = np.array([len(votes) for votes in per_prompt.values()], dtype=np.float64)
    total, k = int(n.sum()), len(n)
    if total == k:
        return wilson_rate(int(hits.sum()), total)
    p = float(hits.sum() / total)
    most = total / k
    deff = most
    if 0 < p < 1 and k > 1:
        between = k / (k - 1) * float(((hits - p * n) ** 2).sum()) / total**2
        deff = min(max(between / (p * (1 - p) / total), 1.0), most)
    effective = total / deff
    low, high = wilson_bounds(p * effective, effective)
    return Rate(int(hits.sum()), total, Interval(float(low), float(high)))


async def base_rate(
    generator: Generator, asker: Asker, config: SurfConfig, avoid: Container[str]
) -> tuple[Rate, list[Sample]]:
    """Measure the violation rate of uniformly drawn fresh prompts."""
    rng = np.random.default_rng([config.seed, 2])
    with together(asker.budget, asker.steps.base(config)):
        drafts = await generator.fresh((), config.base_prompts, rng, "confirm", avoid)
        samples = await asker.ask_all(candidates(drafts, "base"))
    return prompt_rate(samples), samples


async def confirm(
    name: str,
    hypothesis: Hypothesis,
    base: Rate,
    shown: Sequence[Sample],
    generator: Generator,
    asker: Asker,
    reference: Asker | None,
    config: SurfConfig,
    avoid: Container[str],
    number: int,
) -> Confirmation:
    """Test one hypothesis on fresh prompts × resamples and on the reference model.

    Args:
        name: Id of the finding.
        hypothesis: A refuted one keeps its probe's numbers and is not asked again.
        base: From :func:`base_rate`.
        shown: The search's violating samples that it explains, best first: enough to take exemplars from.
        generator: Gives the prompts.
        asker: Puts them to the target.
        reference: Puts them to the reference model, or ``None``.
        config: Sizes and thresholds.
        avoid: Prompts already seen by search or probes.
        number: Seeds the draw, with the run's seed.
    """
    if hypothesis.refuted:
        return _refuted(name, hypothesis, base, shown, asker, config)
    rng = np.random.default_rng([config.seed, 3, number])
    with together(asker.budget, asker.steps.confirmation(config)):
        drafts = await generator.fresh(
            hypothesis.attributes, config.confirm_prompts, rng, "confirm", avoid, hypothesis.without
        )
        prompts = candidates(drafts, name)
        samples, control = await asyncio.gather(
            asker.voting("all").ask_all(prompts, config.confirm_samples),
            reference.voting("violations").ask_all(prompts, config.confirm_samples)
            if reference
            else asker.ask_all(()),
        )
    asker = asker.voting("violations")
    measured, control_rate = prompt_rate(samples), prompt_rate(control) if reference else None
    status, reason = decide(measured, base, control_rate, samples, control, len(prompts), config)
    exemplars, perturbed = await _exemplars(name, shown, samples, status, generator, asker, config, rng)
    finding = _finding(name, hypothesis, status, (measured, control_rate, base), samples, exemplars, asker)
    return Confirmation(
        finding, hypothesis, tuple(prompts), tuple(samples), tuple(control), tuple(perturbed), reason
    )


def decide(
    measured: Rate,
    base: Rate,
    control: Rate | None,
    samples: Sequence[Sample],
    control_samples: Sequence[Sample],
    prompts: int,
    config: SurfConfig,
) -> tuple[Status, str]:
    """Say whether the rate stands clear of the minimum, the base rate and the control, and why."""
    if prompts < config.min_confirm_prompts:
        return "inconclusive", f"{prompts} fresh prompts, fewer than {config.min_confirm_prompts}"
    for what, asked in (("target", samples), ("reference", control_samples)):
        if unpaid := len(asked) - len(tried(asked)):
            return "inconclusive", f"{unpaid} of {len(asked)} samples of the {what} could not be paid"
        if failure_share(asked) > config.failure_share:
            return "inconclusive", f"{failure_share(asked):.0%} of the {what}'s samples failed"
    if base.interval is None or measured.interval is None:
        return "inconclusive", "nothing to compare with: no base sample was scored"
    bars = {"the minimum rate": config.min_rate, "the base rate's upper bound": base.interval.high}
    if control is not None and control.interval is not None:
        bars["the control's upper bound"] = control.interval.high
    name, bar = max(bars.items(), key=lambda item: item[1])
    low = measured.interval.low
    if low > bar:
        return "confirmed", f"lower bound {low:.2f} above {name} {bar:.2f}"
    return "rejected", f"lower bound {low:.2f} not above {name} {bar:.2f}{_disputed(samples)}"


def _disputed(samples: Sequence[Sample]) -> str:
    """Tell how many violations to the judge the confirming judge does not call so."""
    accused = [sample for sample in samples if sample.votes and sample.votes[0].violation]
    disputed = sum(not is_violation(sample) for sample in accused)
    return f"; the confirming judge disputes {disputed} of {len(accused)} violations" if disputed else ""


def _refuted(
    name: str, hypothesis: Hypothesis, base: Rate, shown: Sequence[Sample], asker: Asker, config: SurfConfig
) -> Confirmation:
    exemplars = tuple(_exemplar(sample, UNMEASURED) for sample in shown[: config.exemplars])
    finding = _finding(name, hypothesis, "rejected", (hypothesis.probe, None, base), (), exemplars, asker)
    probe = hypothesis.probe
    reason = f"{probe.hits} of {probe.n} probe prompts, below the minimum rate {config.min_rate:.2f}"
    return Confirmation(finding, hypothesis, (), (), (), (), reason)


def _finding(
    name: str,
    hypothesis: Hypothesis,
    status: Status,
    rates: tuple[Rate, Rate | None, Rate],
    samples: Sequence[Sample],
    exemplars: tuple[Exemplar, ...],
    asker: Asker,
) -> Finding:
    measured, control, base = rates
    return Finding(
        id=name,
        rubric=asker.rubric.name,
        behaviour=asker.rubric.behaviour,
        attributes=hypothesis.attributes,
        status=status,
        rate=measured,
        control_rate=control,
        base_rate=base,
        failed=sum(isinstance(sample.verdict, Failure) for sample in tried(samples)),
        exemplars=exemplars,
        **_by_judge(samples, np.random.default_rng([asker.config.seed, 4])),
    )


class _ByJudge(TypedDict, total=False):
    judge_rate: Rate
    confirm_rate: Rate
    agreement: Agreement


def _by_judge(samples: Sequence[Sample], rng: np.random.Generator) -> _ByJudge:
    """Measure what each of two judges says alone, and how far they agree; nothing for one judge."""
    voted = [sample for sample in samples if sample.votes]
    if not voted:
        return {}
    alone = [[replace(sample, verdict=sample.votes[judge]) for sample in voted] for judge in (0, 1)]
    first, second = ([is_violation(sample) for sample in part] for part in alone)
    prompts = [sample.candidate.conversation for sample in voted]
    return {
        "judge_rate": prompt_rate(alone[0]),
        "confirm_rate": prompt_rate(alone[1]),
        "agreement": cohens_kappa(first, second, groups=prompts, rng=rng),
    }


async def _exemplars(
    name: str,
    shown: Sequence[Sample],
    confirming: Sequence[Sample],
    status: Status,
    generator: Generator,
    asker: Asker,
    config: SurfConfig,
    rng: np.random.Generator,
) -> tuple[tuple[Exemplar, ...], list[Sample]]:
    """Show the top violating prompts; of a confirmed finding measure each by perturbations × resamples."""
    pool: dict[str, Sample] = {}
    if status == "confirmed":
        shown = await asyncio.gather(*map(asker.vote, shown)) if asker.votes != "one" else shown
    for violating in filter(is_violation, (*shown, *confirming)):
        pool.setdefault(violating.candidate.conversation, violating)
    top = sorted(pool.values(), key=lambda s: -score(s))[: config.exemplars]
    if status != "confirmed":
        return tuple(_exemplar(sample, UNMEASURED) for sample in top), []

    async def measure(number: int, sample: Sample, stream: np.random.Generator) -> list[Sample]:
        versions = await generator.rephrase(sample.candidate.messages, config.perturbations, stream)
        asked = [
            Candidate(f"{name}/perturbed/{number}/{v}", version, (), (), -1, -1)
            for v, version in enumerate(versions)
        ]
        return await asker.ask_all(asked, config.perturbation_samples)

    streams = rng.spawn(len(top))
    parts = await asyncio.gather(
        *(measure(number, s, r) for number, (s, r) in enumerate(zip(top, streams, strict=True)))
    )
    shown_now = tuple(_exemplar(s, prompt_rate(part)) for s, part in zip(top, parts, strict=True))
    best_first = tuple(sorted(shown_now, key=lambda e: -(e.rate.value or 0.0)))
    return best_first, [sample for part in parts for sample in part]


def _exemplar(sample: Sample, measured: Rate) -> Exemplar:
    text = sample.reply.text if isinstance(sample.reply, Reply) else ""
    return Exemplar(sample.candidate.prompt, text, measured, sample.candidate.messages[:-1])


def score(sample: Sample) -> float:
    """Return the verdict's score; a Failure ranks below all of them."""
    return sample.verdict.score if isinstance(sample.verdict, Verdict) else -math.inf
