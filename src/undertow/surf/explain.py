"""From violations to minimal hypotheses, one after another, each screened by a probe on fresh prompts.

A probe does three things: it refutes what the search only saw by chance, it decides deletions (an attribute
goes if the rate holds without it), and its samples join the evidence for the next proposal, because the
search draws attributes together and so flatters each of them. Probe prompts are never confirmation prompts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from undertow.progress import SILENT, Progress
from undertow.records import Candidate, Rate, Sample
from undertow.stats.intervals import rate
from undertow.surf.ask import Asker, is_violation, scored
from undertow.surf.config import SurfConfig
from undertow.surf.findings import Pattern, carries, propose, synonyms
from undertow.surf.generate import Draft, Generator
from undertow.surf.generate import Pattern as Texts

MIN_PROBED = 5
"""Scored probe samples below which a probe refutes nothing."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A set of attributes that seems to elicit the behaviour."""

    attributes: Texts
    """What a prompt must carry."""
    without: tuple[Texts, ...]
    """Patterns of earlier hypotheses, which its prompts must not carry: they are explained already."""
    hits: int
    """Violating prompts that carry it, among those no earlier hypothesis explains."""
    n: int
    """Prompts that carry it, likewise."""
    probe: Rate
    """Rate on the probe's fresh prompts."""
    refuted: bool
    """The probe fell below the minimum rate."""
    covered: tuple[str, ...] = ()
    """Ids of the search's violating candidates that it explains."""
    synonyms: Texts = ()
    """Attributes that hold for much the same prompts; the same finding in other words."""


def candidates(drafts: Sequence[Draft], name: str) -> list[Candidate]:
    """Number ``drafts`` outside the search: run and iteration are -1."""
    return [
        Candidate(f"{name}/{number}", draft.messages, draft.realised, draft.realised, -1, -1)
        for number, draft in enumerate(drafts)
    ]


@dataclass(slots=True)
class _Evidence:
    """Distinct scored prompts so far; a prompt that came twice counts once, as it was first answered."""

    generator: Generator
    samples: list[Sample] = field(default_factory=list)
    prompts: set[str] = field(default_factory=set)
    incidence: csr_array | None = None
    violating: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    open: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    """Rows that no accepted hypothesis explains."""

    def add(self, samples: Sequence[Sample], explained: Sequence[tuple[int, ...]] = ()) -> None:
        """Take in the scored samples of new prompts."""
        new = [s for s in scored(samples) if s.replicate == 0]
        new = list({s.candidate.prompt: s for s in reversed(new)}.values())[::-1]
        new = [s for s in new if s.candidate.prompt not in self.prompts]
        if not new:
            return
        rows = self.generator.incidence([s.candidate for s in new])
        free = np.ones(len(new), dtype=np.bool_)
        for attributes in explained:
            free &= ~carries(rows, attributes)
        self.samples += new
        self.prompts |= {s.candidate.prompt for s in new}
        self.incidence = rows if self.incidence is None else csr_array(vstack([self.incidence, rows]))
        self.violating = np.append(self.violating, [is_violation(s) for s in new])
        self.open = np.append(self.open, free)


async def explain(
    found: Sequence[Sample],
    generator: Generator,
    asker: Asker,
    config: SurfConfig,
    progress: Progress = SILENT,
) -> tuple[list[Hypothesis], list[Sample]]:
    """Propose and probe until nothing stands out, then return hypotheses and the probes' samples.

    Args:
        found: All samples of the search, failures among them.
        generator: Gives fresh prompts.
        asker: Puts them to the target.
        config: Limits and thresholds.
        progress: Hears each hypothesis.
    """
    evidence = _Evidence(generator)
    evidence.add(found)
    lengths = np.array([len(text) for text in generator.texts], dtype=np.int64)
    probes: list[Sample] = []
    hypotheses: list[Hypothesis] = []
    explained: list[tuple[int, ...]] = []
    banned: set[tuple[int, ...]] = set()
    probed: dict[tuple[int, ...], Rate] = {}
    for _ in range(2 * config.max_findings + config.max_rejected):
        if evidence.incidence is None or len(explained) >= config.max_findings:
            break
        rows = np.flatnonzero(evidence.open)
        pattern = propose(
            evidence.incidence[rows],
            evidence.violating[rows],
            lengths,
            banned,
            config.min_hits,
            config.min_rate / 2,
        )
        if pattern is None:
            break
        before = pattern.hits / pattern.n
        again = pattern.attributes in probed
        if not again:
            pattern, samples, measured = await _probe(
                pattern, explained, evidence, asker, config, len(probes)
            )
            probes += samples
            evidence.add(samples, explained)
            probed[pattern.attributes] = measured
        measured = probed[pattern.attributes]
        refuted = measured.n >= MIN_PROBED and (measured.value or 0.0) < config.min_rate
        holds = measured.n < MIN_PROBED or (measured.value or 0.0) >= config.keep_share * before
        if not (refuted or again or holds):
            continue  # the search flattered it: propose again with the probe's samples beside it
        hypotheses.append(_hypothesis(pattern, explained, evidence, measured, refuted))
        progress.say(_told(hypotheses[-1]))
        if refuted:
            banned.add(pattern.attributes)
            if len(banned) > config.max_rejected:
                break
        else:
            explained.append(pattern.attributes)
            evidence.open &= ~carries(evidence.incidence, pattern.attributes)
    return hypotheses, probes


async def _probe(
    pattern: Pattern,
    explained: Sequence[tuple[int, ...]],
    evidence: _Evidence,
    asker: Asker,
    config: SurfConfig,
    number: int,
) -> tuple[Pattern, list[Sample], Rate]:
    """Measure ``pattern`` and, of a pair, each half without the other; keep what is needed."""
    generator = evidence.generator
    searched = {sample.candidate.prompt for sample in evidence.samples if sample.candidate.run >= 0}
    earlier = [_texts(generator, attributes) for attributes in explained]

    async def measure(attributes: tuple[int, ...], absent: tuple[int, ...], part: int) -> list[Sample]:
        rng = np.random.default_rng([config.seed, 1, number, part])
        without = [*earlier, *([_texts(generator, absent)] if absent else [])]
        drafts = await generator.fresh(
            _texts(generator, attributes), config.probe_prompts, rng, "probe", searched, without
        )
        return await asker.ask_all(candidates(drafts, f"probe/{number}/{part}"))

    halves = [((a,), (b,)) for a in pattern.attributes for b in pattern.attributes if a != b]
    whole, *parts = await asyncio.gather(
        measure(pattern.attributes, (), 0),
        *(measure(held, absent, part) for part, (held, absent) in enumerate(halves, start=1)),
    )
    measured = _rate(whole)
    samples = [sample for part in (whole, *parts) for sample in part]
    sufficient = [
        (_rate(part), held)
        for part, (held, _) in zip(parts, halves, strict=True)
        if len(scored(part)) >= MIN_PROBED
        and (_rate(part).value or 0.0) >= config.keep_share * (measured.value or 1.0)
    ]
    if not sufficient:
        return pattern, samples, measured
    alone, held = max(sufficient, key=lambda half: half[0].value or 0.0)
    return replace(pattern, attributes=held), samples, alone


def _hypothesis(
    pattern: Pattern,
    explained: Sequence[tuple[int, ...]],
    evidence: _Evidence,
    measured: Rate,
    refuted: bool,
) -> Hypothesis:
    assert evidence.incidence is not None  # noqa: S101 - narrows the type; a pattern was proposed from it
    generator = evidence.generator
    rows = carries(evidence.incidence, pattern.attributes) & evidence.open
    violating = np.flatnonzero(rows & evidence.violating)
    searched = [evidence.samples[row].candidate for row in violating]
    same = [] if refuted else synonyms(evidence.incidence, pattern.attributes)
    return Hypothesis(
        attributes=_texts(generator, pattern.attributes),
        without=tuple(_texts(generator, attributes) for attributes in explained),
        hits=len(violating),
        n=int(rows.sum()),
        probe=measured,
        refuted=refuted,
        covered=tuple(candidate.id for candidate in searched if candidate.run >= 0),
        synonyms=_texts(generator, tuple(same[:10])),
    )


def _rate(samples: Sequence[Sample]) -> Rate:
    return rate(sum(map(is_violation, samples)), len(scored(samples)))


def _texts(generator: Generator, attributes: tuple[int, ...]) -> Texts:
    return tuple(generator.texts[column] for column in attributes)


def _told(hypothesis: Hypothesis) -> str:
    verdict = "refuted by its probe" if hypothesis.refuted else "to be confirmed"
    probe = f"{hypothesis.probe.hits} of {hypothesis.probe.n} fresh prompts"
    return f"{' + '.join(hypothesis.attributes)}: {probe}, {verdict}"
