"""SURF, the search of the paper (§3.1, Fig. 3): reweight attributes by the prompts that scored highest.

This is the parity mode, ``--algorithm surf``. Departures: inside an iteration nothing waits for a stage, each
candidate goes query → target → judge on its own; failures are never scores; credit goes to realised
attributes only. What a search finds are proposals: :mod:`undertow.surf.confirm` decides on unseen samples.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertow.models.limiter import turn
from undertow.progress import SILENT, Progress
from undertow.records import Candidate, Failure, Message, Sample, Verdict
from undertow.surf.ask import Asker, failed, is_violation, scored, tried
from undertow.surf.config import SurfConfig
from undertow.surf.generate import Generator
from undertow.surf.pool import Entry, attribute_weights, draw_attributes, top_k
from undertow.surf.seen import Seen
from undertow.surf.shares import together
from undertow.surf.spool import Spool
from undertow.surf.watch import Watch


@dataclass(frozen=True, slots=True)
class Iteration:
    """What one iteration of one run did."""

    run: int
    """Parallel run, from 0."""
    iteration: int
    """t, from 0."""
    tried: int
    """Candidates, without those that the budget cut short."""
    scored: int
    """Candidates with a verdict."""
    failed: int
    """Tried candidates without."""
    violations: int
    """Scored candidates that violate."""
    mean_score: float | None
    """Mean over the scored; ``None`` when nothing was scored."""
    buffer_mean: float | None
    """Mean score of the buffer after the iteration; ``None`` while it is empty."""


@dataclass(frozen=True, slots=True)
class Search:
    """Everything the search asked, and its runs' buffers at the end."""

    samples: Spool
    """All candidates in the order run, iteration, number."""
    iterations: tuple[Iteration, ...]
    """In the same order."""
    buffers: tuple[tuple[Entry, ...], ...]
    """The replay buffer of each run, best first."""
    triggers: tuple[tuple[str, ...], ...] = ()
    """Attributes, alone or in pairs, that the search itself took for triggers; parity names none."""


async def search(
    asker: Asker,
    generator: Generator,
    config: SurfConfig,
    progress: Progress = SILENT,
    spool: Spool | None = None,
) -> Search:
    """Run ``config.runs`` pipelines in parallel (§3.1.6); their order never depends on timing.

    The samples go to ``spool``, a lane a run.
    """
    spool = Spool() if spool is None else spool
    total = config.runs * config.iterations * config.candidates
    with progress.task("search", total) as task:
        watch = Watch(task, asker.budget, config.iterations)
        runs = await asyncio.gather(
            *(_pipeline(run, asker, generator, config, watch, spool) for run in range(config.runs))
        )
    iterations = tuple(iteration for done, _ in runs for iteration in done)
    return Search(spool, iterations, tuple(buffer for _, buffer in runs))


async def _pipeline(
    run: int, asker: Asker, generator: Generator, config: SurfConfig, watch: Watch, spool: Spool
) -> tuple[list[Iteration], tuple[Entry, ...]]:
    """Iterate one run: weight attributes, generate candidates, score, select; return its buffer, too."""
    # Runs in lockstep would all wait for their last candidate at once and leave every role idle.
    turn.set(run)
    index = {text: number for number, text in enumerate(generator.texts)}
    buffer: list[Entry] = []
    seen = Seen()
    iterations: list[Iteration] = []
    buffers: list[list[Entry]] = []
    for t in range(config.iterations):
        # Attribute weighting (§3.1.3, eq. 1); an empty buffer gives the uniform draw of t = 0.
        weights = attribute_weights(buffer, len(index))
        rng = np.random.default_rng([config.seed, run, t])
        drawn = draw_attributes(weights, config.candidates, config.attributes, config.explore, rng)

        # Candidate generation (§3.1.4), reply and judgement (§3.1.5): one task a candidate, no barrier.
        wanted = [tuple(generator.texts[a] for a in attributes) for attributes in drawn]
        trial = Trial(run, t, asker, generator, config, seen, watch)
        new = await asyncio.gather(*(trial.candidate(number, texts) for number, texts in enumerate(wanted)))

        # Selection (§3.1.5, eq. 2), in candidate order whatever finished first.
        buffer = top_k(buffer, [_entry(sample, index) for sample in scored(new)], config.buffer)
        spool.add(run, new)
        iterations.append(summarised(run, t, new, buffer))
        buffers.append(buffer)
        if asker.budget.closed or converged(buffers, config.patience):
            break
    return iterations, tuple(buffer)


@dataclass(frozen=True, slots=True)
class Trial:
    """What all candidates of one iteration share."""

    run: int
    iteration: int
    asker: Asker
    generator: Generator
    config: SurfConfig
    seen: Seen
    """Prompts of the run so far; grows."""
    watch: Watch

    async def candidate(self, number: int, wanted: tuple[str, ...]) -> Sample:
        """Take one candidate from its attributes to its verdict; paid to the end or not begun."""
        self.watch.began(self.run, self.iteration)
        with together(self.asker.budget, self.asker.steps.candidate):
            sample = await self._sample(number, wanted)
        self.watch.ended(sample)
        return sample

    async def _sample(self, number: int, wanted: tuple[str, ...]) -> Sample:
        rng = np.random.default_rng([self.config.seed, self.run, self.iteration, number])
        draft = await self.generator.generate(wanted, rng, self.seen)
        name = f"{self.run}/{self.iteration}/{number}"
        if isinstance(draft, Failure):
            nothing = Candidate(name, (Message("user", ""),), wanted, (), self.run, self.iteration)
            return failed(nothing, draft)
        self.seen.add(draft.conversation)
        return await self.asker.ask(
            Candidate(name, draft.messages, wanted, draft.realised, self.run, self.iteration)
        )


def _entry(sample: Sample, index: dict[str, int]) -> Entry:
    assert isinstance(sample.verdict, Verdict)  # noqa: S101 - narrows the type; scored() kept only these
    realised = tuple(index[text] for text in sample.candidate.realised)
    return Entry(sample.verdict.score, realised, sample.candidate.id)


def summarised(run: int, t: int, new: Sequence[Sample], buffer: Sequence[Entry]) -> Iteration:
    """Count what iteration ``t`` of ``run`` asked; ``buffer`` is how it left the buffer."""
    scores = [sample.verdict.score for sample in new if isinstance(sample.verdict, Verdict)]
    return Iteration(
        run=run,
        iteration=t,
        tried=len(tried(new)),
        scored=len(scores),
        failed=len(tried(new)) - len(scores),
        violations=sum(map(is_violation, new)),
        mean_score=float(np.mean(scores)) if scores else None,
        buffer_mean=_mean(buffer),
    )


def _mean(buffer: Sequence[Entry]) -> float | None:
    return float(np.mean([entry.score for entry in buffer])) if buffer else None


def converged(buffers: Sequence[Sequence[Entry]], patience: int | None) -> bool:
    """Say whether the mean of a run's buffer has not risen for ``patience`` iterations (§3.1.6)."""
    if patience is None or len(buffers) <= patience:
        return False
    means = [-1.0 if (mean := _mean(buffer)) is None else mean for buffer in buffers]
    return max(means[-patience:]) <= max(means[:-patience])
