"""From violations to minimal hypotheses, one after another, each screened by a probe on fresh prompts.

A probe does three things: it refutes what the search only saw by chance, it decides deletions (an attribute
goes if the rate holds without it), and its samples join the evidence for the next proposal, because the
search draws attributes together and so flatters each of them. Probe prompts are never confirmation prompts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from undertow.progress import SILENT, Progress
from undertow.records import Candidate, Rate, Sample, Verdict
from undertow.stats.intervals import rate
from undertow.surf.ask import Asker, is_violation, scored
from undertow.surf.config import SurfConfig
from undertow.surf.findings import Pattern, carries, propose, synonyms
from undertow.surf.generate import Draft, Generator
from undertow.surf.generate import Pattern as Texts
from undertow.surf.seen import Seen
from undertow.surf.shares import together

MIN_PROBED = 5
"""Scored probe samples below which a probe decides nothing: the pattern is too rare and waits for the end."""
HELD = 0.75
"""Share of its proposed rate that a pattern must reach in its probe; else the search flattered it."""
STANDS_IN = 0.7
"""Share of a flattered pattern's violations that a better one must cover to be accepted in its place."""
MAX_RARE = 12
"""Patterns too rare for a probe after which only such are left."""
BLOCK = 1_000
"""Prompts whose attributes are looked up together."""
MAX_PROPOSALS = 6
"""Proposals looked at for each finding that may be kept."""


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
    ids: list[str] = field(default_factory=list)
    """Candidate of each row; empty for a probe's."""
    prompts: Seen = field(default_factory=Seen)
    """Prompts of all rows."""
    searched: Seen = field(default_factory=Seen)
    """Those of the search's rows."""
    incidence: csr_array | None = None
    violating: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    open: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    """Rows that no accepted hypothesis explains."""

    def add(self, samples: Iterable[Sample], explained: Sequence[tuple[int, ...]] = ()) -> None:
        """Take in the scored samples of new prompts, a block of them at a time."""
        new = (sample for sample in samples if isinstance(sample.verdict, Verdict) and sample.replicate == 0)
        blocks = []
        while block := list(islice(new, BLOCK)):
            if fresh := [sample for sample in block if self._is_new(sample.candidate)]:
                blocks.append(self.generator.incidence([sample.candidate for sample in fresh]))
                self.violating = np.append(self.violating, [is_violation(sample) for sample in fresh])
        if not blocks:
            return
        rows = csr_array(vstack(blocks))
        free = np.ones(rows.shape[0], dtype=np.bool_)
        for attributes in explained:
            free &= ~carries(rows, attributes)
        self.incidence = rows if self.incidence is None else csr_array(vstack([self.incidence, rows]))
        self.open = np.append(self.open, free)

    def _is_new(self, candidate: Candidate) -> bool:
        """Note a candidate if its prompt is new, and say whether it is."""
        prompt, searched = candidate.conversation, candidate.run >= 0
        if prompt in self.prompts:
            return False
        self.prompts.add(prompt)
        if searched:
            self.searched.add(prompt)
        self.ids.append(candidate.id if searched else "")
        return True

    def unexplained(self, pattern: Pattern) -> int:
        """Count violating prompts that carry the pattern and that no accepted hypothesis explains."""
        if self.incidence is None:
            return 0
        return int((carries(self.incidence, pattern.attributes) & self.violating & self.open).sum())

    def close(self, pattern: Pattern) -> None:
        """Take whatever carries the pattern out of the picture."""
        if self.incidence is not None:
            self.open &= ~carries(self.incidence, pattern.attributes)


async def explain(
    found: Iterable[Sample],
    generator: Generator,
    asker: Asker,
    config: SurfConfig,
    progress: Progress = SILENT,
) -> tuple[list[Hypothesis], list[Sample]]:
    """Propose and probe until nothing stands out, then return hypotheses and the probes' samples.

    Patterns too rare to be probed wait until the others are done: a narrow slice of a trigger must not take
    the place of the trigger.

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
    explanation = _Explanation(evidence, asker, config, progress)
    for _ in range(MAX_PROPOSALS * config.max_findings):
        pattern = None if explanation.done else explanation.propose(lengths)
        if pattern is None:
            break
        needed = await explanation.probe(pattern)
        explanation.decide(needed, pattern.hits / pattern.n)
    explanation.accept_rare()
    return explanation.hypotheses, explanation.probes


@dataclass(slots=True)
class _Explanation:
    """The hypotheses so far, and what is known of the patterns that were looked at."""

    evidence: _Evidence
    asker: Asker
    config: SurfConfig
    progress: Progress
    hypotheses: list[Hypothesis] = field(default_factory=list)
    probes: list[Sample] = field(default_factory=list)
    explained: list[tuple[int, ...]] = field(default_factory=list)
    """Patterns of accepted hypotheses."""
    probed: dict[tuple[int, ...], Rate] = field(default_factory=dict)
    needed: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)
    """What a probe left of a proposed pattern."""
    repeated: bool = False
    """The last proposal had been probed before."""
    banned: set[tuple[int, ...]] = field(default_factory=set)
    """Patterns that are refuted, or too rare to be probed."""
    rare: list[Pattern] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether enough was accepted, or refuted."""
        refuted = len(self.banned) - len(self.rare)
        fruitless = refuted > self.config.max_rejected or len(self.rare) >= MAX_RARE
        return fruitless or len(self.explained) >= self.config.max_findings

    def propose(self, lengths: NDArray[np.int64]) -> Pattern | None:
        """Return the best pattern of what is not explained yet."""
        if self.evidence.incidence is None:
            return None
        rows, config = np.flatnonzero(self.evidence.open), self.config
        seen = self.evidence.incidence[rows], self.evidence.violating[rows]
        return propose(*seen, lengths, self.banned, config.min_hits, config.min_rate / 2)

    async def probe(self, pattern: Pattern) -> Pattern:
        """Probe a pattern that is new, and return what is needed of it."""
        proposed = pattern.attributes
        self.repeated = proposed in self.needed
        if self.repeated:
            return replace(pattern, attributes=self.needed[proposed])
        pattern, samples, measured = await _probe(
            pattern, self.explained, self.evidence, self.asker, self.config, len(self.probes)
        )
        self.probes += samples
        self.evidence.add(samples, self.explained)
        self.probed[pattern.attributes] = measured
        self.needed |= dict.fromkeys((proposed, pattern.attributes), pattern.attributes)
        return pattern

    def decide(self, pattern: Pattern, proposed: float) -> None:
        """Accept, refute or put off a probed pattern; it, or its pair, was ``proposed`` with that rate.

        One that the search flattered is none of these: it is proposed again, the probe's samples beside it.
        """
        measured = self.probed[pattern.attributes]
        if measured.n < MIN_PROBED:
            self.rare.append(pattern)
            self.banned.add(pattern.attributes)
        elif (measured.value or 0.0) < self.config.min_rate:
            self._tell(pattern, refuted=True)
            self.banned.add(pattern.attributes)
        elif (measured.value or 0.0) >= HELD * proposed:
            self._accept(pattern)
        elif self.repeated:
            self._accept(self._best_probed(pattern))

    def _best_probed(self, pattern: Pattern) -> Pattern:
        """Of the patterns whose probes fell short, return the one that did best on the same violations."""
        needed = STANDS_IN * self.evidence.unexplained(pattern)
        known = [a for a in self.probed if a not in self.banned and a not in self.explained]
        same = [a for a in known if self.evidence.unexplained(replace(pattern, attributes=a)) >= needed]
        best = max([pattern.attributes, *same], key=lambda a: _lower(self.probed[a]))
        return replace(pattern, attributes=best)

    def accept_rare(self) -> None:
        """Accept the rare patterns whose violations nothing else explains."""
        for pattern in self.rare:
            left = self.evidence.unexplained(pattern)
            if len(self.explained) < self.config.max_findings and left >= self.config.min_hits:
                self._accept(pattern)

    def _accept(self, pattern: Pattern) -> None:
        self._tell(pattern, refuted=False)
        self.explained.append(pattern.attributes)
        self.evidence.close(pattern)

    def _tell(self, pattern: Pattern, refuted: bool) -> None:
        measured = self.probed[pattern.attributes]
        self.hypotheses.append(_hypothesis(pattern, self.explained, self.evidence, measured, refuted))
        self.progress.say(_told(self.hypotheses[-1]))


async def _probe(
    pattern: Pattern,
    explained: Sequence[tuple[int, ...]],
    evidence: _Evidence,
    asker: Asker,
    config: SurfConfig,
    number: int,
) -> tuple[Pattern, list[Sample], Rate]:
    """Measure ``pattern`` and, of a pair, each half without the other; keep what is needed.

    A half is enough when its rate is not clearly below the pair's: at least ``keep_share`` of the pair's
    lower bound, because a pair seen on two prompts proves no need of both.
    """
    generator = evidence.generator
    earlier = [_texts(generator, attributes) for attributes in explained]

    async def measure(attributes: tuple[int, ...], absent: tuple[int, ...], part: int) -> list[Sample]:
        rng = np.random.default_rng([config.seed, 1, number, part])
        without = [*earlier, *([_texts(generator, absent)] if absent else [])]
        steps = asker.steps
        with together(asker.budget, (steps.written + steps.sample) * config.probe_prompts):
            drafts = await generator.fresh(
                _texts(generator, attributes), config.probe_prompts, rng, "probe", evidence.searched, without
            )
            return await asker.ask_all(candidates(drafts, f"probe/{number}/{part}"))

    halves = [((a,), (b,)) for a in pattern.attributes for b in pattern.attributes if a != b]
    whole, *parts = await asyncio.gather(
        measure(pattern.attributes, (), 0),
        *(measure(held, absent, part) for part, (held, absent) in enumerate(halves, start=1)),
    )
    measured = _rate(whole)
    samples = [sample for part in (whole, *parts) for sample in part]
    needed = config.keep_share * (measured.interval.low if measured.interval else 1.0)
    sufficient = [
        (_rate(part), held)
        for part, (held, _) in zip(parts, halves, strict=True)
        if len(scored(part)) >= MIN_PROBED and (_rate(part).value or 0.0) >= max(needed, config.min_rate)
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
    searched = [evidence.ids[row] for row in violating]
    same = [] if refuted else synonyms(evidence.incidence, pattern.attributes)
    return Hypothesis(
        attributes=_texts(generator, pattern.attributes),
        without=tuple(_texts(generator, attributes) for attributes in explained),
        hits=len(violating),
        n=int(rows.sum()),
        probe=measured,
        refuted=refuted,
        covered=tuple(filter(None, searched)),
        synonyms=_texts(generator, tuple(same[:10])),
    )


def _rate(samples: Sequence[Sample]) -> Rate:
    return rate(sum(map(is_violation, samples)), len(scored(samples)))


def _lower(measured: Rate) -> float:
    return measured.interval.low if measured.interval else 0.0


def _texts(generator: Generator, attributes: tuple[int, ...]) -> Texts:
    return tuple(generator.texts[column] for column in attributes)


def _told(hypothesis: Hypothesis) -> str:
    verdict = "refuted by its probe" if hypothesis.refuted else "to be confirmed"
    probe = f"{hypothesis.probe.hits} of {hypothesis.probe.n} fresh prompts"
    return f"{' + '.join(hypothesis.attributes)}: {probe}, {verdict}"
