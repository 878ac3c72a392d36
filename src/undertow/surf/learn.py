"""What the archive search learns from one verdict: belief, ordinary score, niches, known triggers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertow.progress import Progress
from undertow.records import Reply, Sample, Verdict
from undertow.surf.belief import Belief, Floats, Indices, Ordinary, Trigger
from undertow.surf.config import SurfConfig
from undertow.surf.generate import Generator
from undertow.surf.niches import Niches
from undertow.surf.pool import Entry

STANDARD_ERRORS = 2.0
"""How far an attribute's violations must stand above the minimum rate to make it known undiagnosed."""
BYSTANDERS = 3
"""Attributes looked at for a violation that were not asked for but came with the prompt."""
ELITES = 4
"""Niches kept for each place of the buffers."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scored candidate in pool indices, and what was believed of it before its verdict."""

    suspects: Indices
    """Open attributes that may be to blame: drawn and realised, and the best known of the others held."""
    held: Indices
    """All that the prompt satisfies, as far as the generator can say."""
    violates: bool
    """The verdict."""
    single: Floats
    """Probability of each suspect to be a trigger."""
    half: Floats
    """Likewise to be half of one: its mean credit."""
    explained: bool
    """The prompt carries a known trigger."""


class Learner:
    """State of the archive search; changed by one verdict at a time."""

    def __init__(
        self, generator: Generator, config: SurfConfig, threshold: float, progress: Progress
    ) -> None:
        """Know nothing yet; scores over ``threshold`` violate, and ``progress`` hears of triggers."""
        self.belief = Belief(len(generator.texts))
        self.niches = Niches(ELITES * config.runs * config.buffer)
        self._ordinary = Ordinary()
        self._generator, self._config, self._threshold = generator, config, threshold
        self._progress = progress
        self._draws = self._draws_violating = 0
        self._diagnosed: dict[int, float] = {}

    @property
    def chance(self) -> float:
        """Violation rate of drawn prompts without a known trigger; one in fifty before any."""
        return (self._draws_violating + 1) / (self._draws + 50)

    @property
    def elites(self) -> list[Entry]:
        """The best elites, as many as the buffers of all runs have places."""
        return self.niches.top(self._config.runs * self._config.buffer)

    def learn(self, drawn: Indices, sample: Sample) -> Outcome | None:
        """Take in a candidate for which ``drawn`` was asked; a failure teaches nothing and gives ``None``."""
        belief, verdict = self.belief, sample.verdict
        if not isinstance(verdict, Verdict):
            belief.settle(drawn, drawn[:0])
            return None
        held = np.sort(self._generator.incidence([sample.candidate]).indices).astype(np.intp)
        realised = np.intersect1d(drawn, held)
        suspects = self._suspects(realised, held)
        explained = belief.explains(held) is not None
        single = (belief.hits[suspects] + self.chance) / (belief.n[suspects] + 1)
        outcome = Outcome(suspects, held, verdict.violation, single, belief.mean(suspects), explained)
        belief.settle(drawn, realised)
        if not (verdict.violation or explained):
            belief.tested(suspects.tolist())
        belief.observe(held, self._credit(verdict), verdict.violation)
        self._keep(sample, held, tuple(realised.tolist()), verdict.score)
        self._know_habitual(suspects)
        return outcome

    def count_draw(self, outcome: Outcome) -> None:
        """Count a candidate that no diagnosis asked for towards :attr:`chance`."""
        self._draws += not outcome.explained
        self._draws_violating += outcome.violates and not outcome.explained

    def is_news(self, outcome: Outcome) -> bool:
        """Say whether a violation is some attribute's first, or its second, fourth, … since it was named."""
        hits = self.belief.hits
        fresh = (hits[a] >= 2 * self._diagnosed.get(a, 0.25) for a in outcome.suspects.tolist())
        return outcome.violates and not outcome.explained and any(fresh)

    def conclude(self, outcome: Outcome, trigger: Trigger | None) -> None:
        """End the diagnosis of a violation: ``trigger`` is known, or its attributes wait for more of them."""
        for attribute in outcome.suspects.tolist():
            self._diagnosed[attribute] = max(float(self.belief.hits[attribute]), 0.25)
        if trigger is not None and self.belief.explains(trigger) is None:
            self._know(trigger)

    def _suspects(self, realised: Indices, held: Indices) -> Indices:
        others = np.setdiff1d(held, realised)
        others = others[self.belief.credit[others] > 0]
        best = others[np.argsort(-self.belief.mean(others), kind="stable")[:BYSTANDERS]]
        both = np.sort(np.concatenate([realised, best]))
        suspects: Indices = both[self.belief.open[both]]
        return suspects

    def _credit(self, verdict: Verdict) -> float:
        if verdict.violation:
            return 1.0
        self._ordinary.add(verdict.score)
        return self._ordinary.credit(verdict.score, self._threshold)

    def _keep(self, sample: Sample, held: Indices, realised: tuple[int, ...], score: float) -> None:
        """Offer the sample to the niches by its cause: a known trigger, else its most suspect attribute."""
        cause: Sequence[int] = self.belief.explains(held) or ()
        if not cause and len(held):
            cause = (int(held[np.argmax(self.belief.mean(held))]),)
        assert isinstance(sample.reply, Reply)  # noqa: S101 - narrows the type: there is a verdict on it
        entry = Entry(score, realised, sample.candidate.id)
        self.niches.admit(entry, tuple(cause), sample.candidate.conversation, sample.reply.text)

    def _know_habitual(self, suspects: Indices) -> None:
        """Know attributes whose violations alone say so: triggers that act only now and then."""
        belief = self.belief
        tried = suspects[belief.alone[suspects] >= self._config.min_hits]
        rate = (belief.alone[tried] + self.chance) / (belief.n[tried] + 1)
        low = rate - STANDARD_ERRORS * np.sqrt(rate * (1 - rate) / (belief.n[tried] + 2))
        for attribute in tried[low > max(self._config.min_rate, 2 * self.chance)].tolist():
            self._know((attribute,))

    def _know(self, trigger: Trigger) -> None:
        self.belief.know(trigger)
        named = " and ".join(self._generator.texts[column] for column in trigger)
        self._progress.say(f"trigger {len(self.belief.known)}: {named}")
