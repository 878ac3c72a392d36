"""One question to a model and its verdict; and what a list of such samples says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from undertow.models.base import ChatModel, Settings
from undertow.models.budget import Budget
from undertow.records import Candidate, Failure, FailureKind, Message, Reply, Sample, Verdict
from undertow.surf.config import SurfConfig
from undertow.surf.context import framed
from undertow.surf.shares import Steps

if TYPE_CHECKING:
    from undertow.judging.judge import Judge
    from undertow.judging.rubric import Rubric


Votes = Literal["one", "violations", "all"]


@dataclass(frozen=True, slots=True)
class Asker:
    """A model, the judge of its replies, and how both are used."""

    target: ChatModel
    """The model under search, or the reference."""
    judge: Judge
    """Scores replies."""
    rubric: Rubric
    """What counts as a violation."""
    config: SurfConfig
    """Sampling settings, what stands around a candidate, what a cut reply is."""
    budget: Budget = field(default_factory=Budget)
    """What all calls are paid from; once it is closed there is no point in new candidates."""
    confirm_judge: Judge | None = None
    """A second judge, of another family."""
    votes: Votes = "one"
    """``one``: the judge decides. ``violations``: the confirming judge must agree where it sees a violation.
    ``all``: the confirming judge is asked about every reply, so that the two can be compared."""
    steps: Steps = field(default_factory=Steps)
    """What its calls take of the budget."""
    heard: Callable[[Sample], object] | None = None
    """Told of every sample of :meth:`ask_all`, for progress."""

    def of(self, target: ChatModel) -> Asker:
        """Return the same questions put to another model."""
        return replace(self, target=target)

    def voting(self, votes: Votes) -> Asker:
        """Return the same questions, with the confirming judge where there is one."""
        return replace(self, votes=votes) if self.confirm_judge else self

    async def ask(self, candidate: Candidate, replicate: int = 0) -> Sample:
        """Ask the target, judge the reply. A missing reply or verdict is a Failure, never a score."""
        reply = await self._reply(candidate.messages, replicate)
        if isinstance(reply, Failure):
            return Sample(candidate, reply, reply, replicate)
        if reply.finish_reason == "length" and self.config.truncated == "fail":
            cut = Failure(FailureKind.TRUNCATED, f"cut after {reply.output_tokens} tokens")
            return Sample(candidate, reply, cut, replicate)
        history = candidate.messages[:-1]
        verdict = await self.judge.judge(candidate.prompt, reply.text, self.rubric, history)
        return await self.vote(Sample(candidate, reply, verdict, replicate))

    async def vote(self, sample: Sample) -> Sample:
        """Let the confirming judge say its word on a judged reply, where one is to be asked."""
        first, judge = sample.verdict, self.confirm_judge
        if judge is None or self.votes == "one" or isinstance(first, Failure):
            return sample
        if isinstance(sample.reply, Failure) or not (first.violation or self.votes == "all"):
            return sample
        asked = sample.candidate
        second = await judge.judge(asked.prompt, sample.reply.text, self.rubric, asked.messages[:-1])
        if isinstance(second, Failure):
            return replace(sample, verdict=second)
        return replace(sample, verdict=both(first, second), votes=(first, second))

    async def _reply(self, messages: Sequence[Message], replicate: int) -> Reply | Failure:
        settings = Settings(self.config.temperature, self.config.max_tokens, self.config.seed)
        return await self.target.reply(framed(messages, self.config), settings, replicate)

    async def ask_all(self, candidates: Sequence[Candidate], replicates: int = 1) -> list[Sample]:
        """Ask every candidate ``replicates`` times, all at once; in candidate order, replicates together."""
        return await asyncio.gather(*(self._told(c, r) for c in candidates for r in range(replicates)))

    async def _told(self, candidate: Candidate, replicate: int) -> Sample:
        sample = await self.ask(candidate, replicate)
        if self.heard is not None:
            self.heard(sample)
        return sample


def both(first: Verdict, second: Verdict) -> Verdict:
    """Return what two judges both say: a violation where both see one, and the lower score."""
    lower = first if first.score <= second.score else second
    names = f"{first.judge} & {second.judge}"
    return Verdict(lower.score, first.violation and second.violation, lower.reason, names)


def failed(candidate: Candidate, failure: Failure) -> Sample:
    """Return the sample of a candidate that never reached the target."""
    return Sample(candidate, failure, failure)


def is_violation(sample: Sample) -> bool:
    """Say whether the sample was scored and violates; a Failure is neither."""
    return isinstance(sample.verdict, Verdict) and sample.verdict.violation


def scored(samples: Iterable[Sample]) -> list[Sample]:
    """Keep the samples that have a verdict."""
    return [sample for sample in samples if isinstance(sample.verdict, Verdict)]


@dataclass(slots=True)
class Tally:
    """What samples say, counted as they come."""

    scored: int = 0
    """With a verdict."""
    violations: int = 0
    """Of them those that violate."""
    unpaid: int = 0
    """Cut short by the budget: neither scored nor failed."""
    kinds: Counter[FailureKind] = field(default_factory=Counter)
    """Failures of all others."""

    def add(self, samples: Iterable[Sample]) -> Tally:
        """Count ``samples`` too."""
        for sample in samples:
            verdict = sample.verdict
            if isinstance(verdict, Verdict):
                self.scored += 1
                self.violations += verdict.violation
            elif verdict.kind is FailureKind.BUDGET:
                self.unpaid += 1
            else:
                self.kinds[verdict.kind] += 1
        return self

    @property
    def failed(self) -> int:
        """What was tried and has no verdict."""
        return self.kinds.total()

    @property
    def tried(self) -> int:
        """All but the unpaid."""
        return self.scored + self.failed

    @property
    def failures(self) -> dict[str, int]:
        """Failures by kind, most frequent first."""
        return {kind.value: n for kind, n in sorted(self.kinds.items(), key=lambda item: (-item[1], item[0]))}

    @property
    def failure_share(self) -> float:
        """Share of failures among what was tried; 0 of nothing is 0."""
        return self.failed / max(self.tried, 1)


def tried(samples: Iterable[Sample]) -> list[Sample]:
    """Leave out the samples that the budget cut short: they are neither scored nor failed."""
    return [
        s for s in samples if not (isinstance(s.verdict, Failure) and s.verdict.kind is FailureKind.BUDGET)
    ]


def failures(samples: Iterable[Sample]) -> dict[str, int]:
    """Count the failures by kind, most frequent first; what could not be paid was never tried."""
    return Tally().add(samples).failures


def failure_share(samples: Iterable[Sample]) -> float:
    """Return the share of failures among what was tried; 0 of nothing is 0."""
    return Tally().add(samples).failure_share
