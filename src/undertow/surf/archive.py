"""The steady-state search, ``--algorithm archive``: every verdict changes what is asked next.

Departures from the paper (§3.1): no iterations to wait for, one posterior over all runs instead of a buffer a
run, and distinct triggers as the aim instead of high scores. The first violation of an attribute is minimised
at once; the trigger it leads to is explained away and explored no more (:mod:`undertow.surf.belief`,
:mod:`undertow.surf.diagnose`). The result has the form of the parity search: ``candidates`` candidates stand
for an iteration, all of them of run 0, and the elites of the niches for the buffer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np

from undertow.progress import SILENT, Progress
from undertow.records import Sample
from undertow.surf.ask import Asker
from undertow.surf.belief import Indices, Trigger
from undertow.surf.config import SurfConfig
from undertow.surf.diagnose import Diagnosis
from undertow.surf.generate import Generator
from undertow.surf.learn import Learner, Outcome
from undertow.surf.loop import Iteration, Search, Trial, converged, summarised
from undertow.surf.pool import Entry
from undertow.surf.seen import Seen
from undertow.surf.spool import Spool
from undertow.surf.watch import Watch

DEPTH = 4
"""Candidates for each call that the narrowest role takes at once: a candidate makes three calls, one after
another, and latencies differ."""
IN_FLIGHT = 128
"""Candidates in flight where no concurrency is set; more would mostly be drawn from an older belief."""
MAX_TESTS = 12
"""Candidates spent on one diagnosis."""


def in_flight(config: SurfConfig) -> int:
    """Return the number of candidates in flight; one at a concurrency of one, which fixes all draws."""
    limits = [config.concurrency_of(role) for role in ("generator", "target", "judge")]
    narrowest = min((limit for limit in limits if limit is not None), default=None)
    if narrowest is None:
        return IN_FLIGHT
    return 1 if config.concurrency == 1 else DEPTH * narrowest


async def archive(
    asker: Asker,
    generator: Generator,
    config: SurfConfig,
    progress: Progress = SILENT,
    spool: Spool | None = None,
) -> Search:
    """Ask ``runs × iterations × candidates`` candidates, the tests of diagnoses among them.

    The samples go to ``spool`` in order of number.
    """
    spool = Spool() if spool is None else spool
    total = config.runs * config.iterations * config.candidates
    learner = Learner(generator, config, asker.rubric.threshold, progress)
    with progress.task("search", total) as task:
        watch = Watch(task, asker.budget, config.runs * config.iterations)
        steady = _Steady(asker, generator, config, watch, learner, total, spool)
        await asyncio.gather(*(steady.work() for _ in range(min(in_flight(config), total))))
    return steady.result()


@dataclass(slots=True)
class _Steady:
    """The work in flight; workers share it, and nothing awaits between reading and changing it."""

    asker: Asker
    generator: Generator
    config: SurfConfig
    watch: Watch
    learner: Learner
    total: int
    spool: Spool
    """Where finished candidates go."""
    started: int = 0
    """Candidates."""
    finished: int = 0
    """Candidates."""
    held: dict[int, Sample] = field(default_factory=dict)
    """Finished candidates by number, until their whole block is."""
    iterations: list[Iteration] = field(default_factory=list)
    """Blocks that are on disk."""
    elites: list[list[Entry]] = field(default_factory=list)
    """The elites whenever a block's worth of candidates was finished."""
    seen: Seen = field(default_factory=Seen)
    """Prompts so far."""
    stopped: bool = False
    """The elites rise no more."""

    async def work(self) -> None:
        """Draw, ask, learn; minimise what violates anew; until the budget is spent."""
        while (number := self._take()) is not None:
            rng = np.random.default_rng([self.config.seed, 6, number, 0])
            drawn = self.learner.belief.draw(self.config.attributes, self.config.explore, rng)
            outcome = await self._ask(number, drawn)
            if outcome is None:
                continue
            self.learner.count_draw(outcome)
            if self.learner.is_news(outcome):
                self.learner.conclude(outcome, await self._minimise(outcome, rng))

    def _take(self) -> int | None:
        """Return the next candidate's number, or ``None`` when there is none."""
        if self.stopped or self.asker.budget.closed or self.started >= self.total:
            return None
        self.started += 1
        return self.started - 1

    async def _ask(self, number: int, drawn: Indices) -> Outcome | None:
        """Take one candidate to its verdict and learn from it; ``None`` for a failure."""
        block, place = divmod(number, self.config.candidates)
        trial = Trial(0, block, self.asker, self.generator, self.config, self.seen, self.watch)
        sample = await trial.candidate(place, tuple(self.generator.texts[column] for column in drawn))
        outcome = self.learner.learn(drawn, sample)
        self.watch.triggers = len(self.learner.belief.known)
        self._keep(number, sample)
        return outcome

    def _keep(self, number: int, sample: Sample) -> None:
        """File a finished candidate, and note the elites after each block's worth of them."""
        self.held[number] = sample
        self.finished += 1
        if self.finished % self.config.candidates == 0:
            self.elites.append(self.learner.elites)
            self.stopped = converged(self.elites, self.config.patience)
            while self._file(self.config.candidates):
                pass

    def _file(self, size: int) -> bool:
        """Put the next block of ``size`` candidates on disk if all of them are finished; say whether."""
        block = len(self.iterations)
        start = block * self.config.candidates
        if not size or not all(number in self.held for number in range(start, start + size)):
            return False
        new = [self.held.pop(number) for number in range(start, start + size)]
        self.spool.add(0, new)
        elites = self.elites[block] if block < len(self.elites) else self.learner.elites
        self.iterations.append(summarised(0, block, new, elites))
        return True

    async def _minimise(self, first: Outcome, rng: np.random.Generator) -> Trigger | None:
        """Regenerate subsets of a violating prompt's attributes until its trigger is clear, or seems none.

        A trigger must also violate in ``min_hits`` prompts, or it could not be proposed, one of them its own.
        """
        belief, min_hits = self.learner.belief, self.config.min_hits
        suspects = first.suspects.tolist()
        diagnosis = Diagnosis(suspects, first.single, first.half, self.learner.chance, rng)
        for _ in range(MAX_TESTS):
            if diagnosis.cleared or diagnosis.proven(min_hits) or belief.explains(first.held):
                break
            test = diagnosis.next()
            if test is None or (number := self._take()) is None:
                break
            outcome = await self._ask(number, belief.ask(test))
            if outcome is not None and not outcome.explained:
                diagnosis.observe(test, set(outcome.held.tolist()).intersection(suspects), outcome.violates)
        return diagnosis.proven(min_hits)

    def result(self) -> Search:
        """File what is left, a block that budget or patience cut short, and say what came out."""
        while self._file(min(self.config.candidates, len(self.held))):
            pass
        return Search(
            self.spool,
            tuple(self.iterations),
            (tuple(self.learner.elites),),
            tuple(tuple(self.generator.texts[c] for c in trigger) for trigger in self.learner.belief.known),
        )
