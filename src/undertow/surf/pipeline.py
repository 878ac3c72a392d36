"""The three steps of a search in order: search (§3.1), explain, confirm (§3.2.3)."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from undertow.models.budget import Budget
from undertow.progress import SILENT, Progress
from undertow.records import Sample
from undertow.surf.archive import archive
from undertow.surf.ask import Asker
from undertow.surf.config import SurfConfig
from undertow.surf.confirm import Confirmation, base_rate, confirm, score
from undertow.surf.explain import Hypothesis, explain
from undertow.surf.generate import Generator
from undertow.surf.loop import Search, search
from undertow.surf.seen import Seen
from undertow.surf.shares import Amount, keep_for_findings
from undertow.surf.spool import Spool
from undertow.surf.watch import Count

SEARCHES = {"surf": search, "archive": archive}
"""By ``--algorithm``."""


@dataclass(frozen=True, slots=True)
class SurfResult:
    """A whole search: what was asked, what it proposed, and what was confirmed."""

    search: Search
    """All candidates with their samples, and the iterations."""
    probes: tuple[Sample, ...]
    """Samples that screened hypotheses."""
    base: tuple[Sample, ...]
    """Samples of the base rate."""
    confirmations: tuple[Confirmation, ...]
    """Findings with their evidence: confirmed ones first, each group by falling rate."""

    @property
    def confirming(self) -> list[Sample]:
        """All samples asked after the search, the reference model's too."""
        tested = chain.from_iterable((*c.samples, *c.control, *c.perturbed) for c in self.confirmations)
        return [*self.probes, *self.base, *tested]


async def surf(
    asker: Asker,
    generator: Generator,
    config: SurfConfig,
    reference: Asker | None = None,
    progress: Progress = SILENT,
    spool: Spool | None = None,
) -> SurfResult:
    """Search (§3.1), explain, confirm (§3.2.3); the search's samples go to ``spool``."""
    if not keep_for_findings(asker.budget, asker.steps, config):
        needed = asker.steps.finding(config)
        progress.say(
            f"the cap pays for no confirmation, which takes {needed.calls} calls: all goes to the search"
        )
    found = await SEARCHES[config.algorithm](asker, generator, config, progress, spool)
    if not config.confirm or not found.samples.tally.scored:
        return SurfResult(found, (), (), ())
    with progress.task("confirm") as task:
        count = Count(task, asker.budget)
        told = reference and replace(reference, heard=count)
        return await _explained(found, generator, replace(asker, heard=count), told, config, progress)


async def _explained(
    found: Search,
    generator: Generator,
    asker: Asker,
    reference: Asker | None,
    config: SurfConfig,
    progress: Progress,
) -> SurfResult:
    """Say what the violations share, and confirm it on prompts that the search has not seen."""
    budget, steps = asker.budget, asker.steps
    last = steps.confirmation(config)
    _leave(budget, last + steps.base(config))
    progress.say("looking for what the violations share")
    hypotheses, probes = await explain(found.samples, generator, asker, config, progress)
    seen = Seen(sample.candidate.conversation for sample in chain(found.samples, probes))
    shown = _top_covered(found.samples, hypotheses, 2 * config.exemplars)
    _leave(budget, last)
    base, base_samples = await base_rate(generator, asker.voting("violations"), config, seen)
    progress.say(f"confirming {sum(not h.refuted for h in hypotheses)} hypotheses on fresh prompts")
    budget.keep()
    done = await asyncio.gather(
        *(
            confirm(
                f"{asker.rubric.name}-{number}",
                hypothesis,
                base,
                shown[number - 1],
                generator,
                asker,
                reference,
                config,
                seen,
                number,
            )
            for number, hypothesis in enumerate(hypotheses, start=1)
        )
    )
    return SurfResult(found, tuple(probes), tuple(base_samples), tuple(sorted(done, key=_rank)))


def _top_covered(samples: Spool, hypotheses: Sequence[Hypothesis], n: int) -> list[list[Sample]]:
    """Return of each hypothesis the ``n`` violating samples with the highest scores, best first."""
    covering = defaultdict(list)
    for number, hypothesis in enumerate(hypotheses):
        for candidate in hypothesis.covered:
            covering[candidate].append(number)
    top: list[list[Sample]] = [[] for _ in hypotheses]
    for sample in samples.pick(covering):
        for number in covering[sample.candidate.id]:
            insort(top[number], sample, key=lambda s: -score(s))
            del top[number][n:]
    return top


def _leave(budget: Budget, amount: Amount) -> None:
    """Leave ``amount`` to later stages, if the cap is so high."""
    fits = (budget.max_calls is None or budget.calls + amount.calls < budget.max_calls) and (
        budget.max_cost is None or budget.cost_usd + amount.cost < budget.max_cost
    )
    budget.keep(*((amount.calls, amount.cost) if fits else ()))


def _rank(confirmation: Confirmation) -> tuple[int, float]:
    finding = confirmation.finding
    return ("confirmed", "inconclusive", "rejected").index(finding.status), -(finding.rate.value or 0.0)
