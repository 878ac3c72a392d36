"""``undertow surf``: search a model, explain what was found, confirm it, and leave a run directory."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from undertow.errors import UsageError
from undertow.models.budget import Budget
from undertow.models.silence import telling
from undertow.progress import SILENT, Progress
from undertow.records import Rate
from undertow.store.journal import Journal
from undertow.store.run import RunDir, file_hash
from undertow.store.tables import to_jsonable
from undertow.store.undo import working_in
from undertow.surf.ask import Tally
from undertow.surf.bank import open_generator, pool_hash
from undertow.surf.config import SurfConfig
from undertow.surf.confirm import prompt_rate
from undertow.surf.estimate import estimate_search
from undertow.surf.generate import BankGenerator, Pool
from undertow.surf.pipeline import SurfResult, surf
from undertow.surf.roles import Models, Roles
from undertow.surf.rows import Labelled
from undertow.surf.save import finding_json, rate_json, save
from undertow.surf.spool import Spool

if TYPE_CHECKING:
    from undertow.judging.rubric import Rubric
    from undertow.models.base import ChatModel


def run_surf(
    target: str | ChatModel,
    rubric: str | Path | Rubric,
    attributes: Path | Pool,
    out: Path,
    config: SurfConfig | None = None,
    *,
    reference: str | ChatModel | None = None,
    generator: str | ChatModel = "local",
    judge: str | ChatModel = "checks",
    confirm_judge: str | ChatModel | None = None,
    prompts: Path | None = None,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Search ``target`` for ``rubric``'s behaviour and confirm what is found, in the run directory ``out``.

    The same call goes on where it was stopped: every reply is in the run's journal before it is used, and
    every draw follows from the seed. A finished run is returned as it stands.

    Args:
        target: Model under search: a model string or a ready model.
        rubric: Name of a shipped rubric, path of a YAML file, or a rubric.
        attributes: An index directory, JSONL with ``text`` a line, or a pool.
        out: Run directory.
        config: Sizes and thresholds.
        reference: Model to control against: the same confirmation prompts are put to it.
        generator: ``local`` retrieves from a prompt bank; a model writes prompts.
        judge: ``checks`` for the rubric's programmatic checks, or a model.
        confirm_judge: A second judge, of another family: what confirms a finding must be a violation to
            both. The search and its probes ask the first alone.
        prompts: The bank, Parquet, JSONL or text; by default the index's training prompts.
        fresh: Start over in a run directory of ours.
        progress: Hears about the work.

    Returns:
        ``summary.json``: status, counts and failures of the search, the same of the confirmation, usage,
        findings, base rate, iterations.

    Raises:
        UsageError: bad input, unknown model or rubric, or ``out`` holds something else.
    """
    from undertow.judging.rubric import load_rubric

    config = config or SurfConfig()
    known = load_rubric(rubric) if isinstance(rubric, (str, Path)) else rubric
    roles = Roles(target, reference, generator, judge, confirm_judge)
    about = roles.names()
    identity = {
        **config.identity(), **about, "rubric": known.model_dump(mode="json"),
    }  # fmt: skip
    inputs = {"attributes": pool_hash(attributes), **roles.revisions()}
    if prompts:
        inputs["prompts"] = file_hash(prompts)
    run = RunDir.open(out, "surf", identity, inputs, fresh)
    with working_in(run):
        if run.complete:
            return run.summary()
        cost = estimate_search(roles, config)["cost_usd"]
        if cost and cost[1] > 0:
            progress.say(f"this search may cost {cost[0]:,.2f} to {cost[1]:,.2f} US dollars")
        with Journal(run.file("journal.sqlite")) as journal:
            budget = Budget(config.max_calls, config.max_cost, *_spent(journal))
            models = Models(roles, known, journal, config, budget)
            with Spool(run.path) as spool:
                result, pool = asyncio.run(_work(models, attributes, prompts, config, progress, spool))
                summary = {
                    **_summary(result, config), "usage": asdict(journal.usage()), "stopped": _why(budget),
                    **about, "rubric": known.name, **pool,
                }  # fmt: skip
                _save(run, result)
        status = _status(result, config, budget)
        if budget.stopped is not None:
            progress.say(f"stopped early: {budget.stopped.detail}")
        elif status == "inconclusive":
            failed = (summary["failures"], summary["confirmation"]["failures"])
            kinds = ", ".join(f"{n} {kind}" for part in failed for kind, n in part.items())
            progress.say(f"inconclusive, too many failures: {kinds}; the same command asks for them again")
        return run.finish(status, summary)


def plan_surf(
    target: str,
    rubric: str | Path | Rubric,
    attributes: Path,
    config: SurfConfig | None = None,
    *,
    reference: str | None = None,
    generator: str = "local",
    judge: str = "checks",
    confirm_judge: str | None = None,
) -> dict[str, Any]:
    """Say what ``run_surf`` would ask of each role and what that costs; nothing is asked or written.

    Raises:
        UsageError: an unknown rubric, or no such attributes.
    """
    from undertow.judging.rubric import load_rubric

    known = load_rubric(rubric) if isinstance(rubric, (str, Path)) else rubric
    if not Path(attributes).exists():
        raise UsageError(f"{attributes}: no such file or folder; give an index, or JSONL with text a line")
    planned = estimate_search(
        Roles(target, reference, generator, judge, confirm_judge), config or SurfConfig()
    )
    told = to_jsonable({**planned, "roles": [asdict(each) for each in planned["roles"]]})
    return {"status": "complete", "dry_run": True, "rubric": known.name, **told}


async def _work(
    models: Models,
    attributes: Path | Pool,
    prompts: Path | None,
    config: SurfConfig,
    progress: Progress,
    spool: Spool,
) -> tuple[SurfResult, dict[str, object]]:
    """Open what the search needs, in the event loop it will run in, and search."""
    async with AsyncExitStack() as stack:
        opened = await models.open(stack)
        await stack.enter_async_context(telling(progress.say))
        progress.say("reading attributes and prompts")
        generator = open_generator(opened.generator, attributes, prompts, config)
        pool: dict[str, object] = {"attributes": len(generator.texts)}
        if isinstance(generator, BankGenerator):
            pool["bank"] = len(generator)
        return await surf(opened.target, generator, config, opened.reference, progress, spool), pool


def _save(run: RunDir, result: SurfResult) -> None:
    others: list[Labelled] = [("probe", "", sample) for sample in result.probes]
    others += [("base", "", sample) for sample in result.base]
    for confirmation in result.confirmations:
        parts = (
            ("confirm", confirmation.samples),
            ("control", confirmation.control),
            ("perturbed", confirmation.perturbed),
        )
        name = confirmation.finding.id
        others += [(phase, name, sample) for phase, samples in parts for sample in samples]
    save(run, result.search.samples, others, result.confirmations)


def _spent(journal: Journal) -> tuple[int, float]:
    usage = journal.usage()
    return usage.calls, usage.cost_usd


def _why(budget: Budget) -> str | None:
    return budget.stopped.detail if budget.stopped else None


def _told(tally: Tally) -> dict[str, Any]:
    return {
        "counts": {"tried": tally.tried, "scored": tally.scored, "failed": tally.failed},
        "unpaid": tally.unpaid,
        "failures": tally.failures,
    }


def _summary(result: SurfResult, config: SurfConfig) -> dict[str, Any]:
    found, after = result.search.samples, _told(Tally().add(result.confirming))
    places = {entry.candidate for buffer in result.search.buffers for entry in buffer}
    base: Rate | None = prompt_rate(result.base) if result.base else None
    return {
        **_told(found.tally),
        "planned": config.runs * config.iterations * config.candidates,
        "confirmation": {**after.pop("counts"), **after},
        "violations": found.tally.violations,
        "top": rate_json(prompt_rate(list(found.pick(places)))),
        "base_rate": rate_json(base),
        "findings": [finding_json(confirmation) for confirmation in result.confirmations],
        "iterations": [asdict(iteration) for iteration in result.search.iterations],
    }


def _status(result: SurfResult, config: SurfConfig, budget: Budget) -> Literal["complete", "inconclusive"]:
    """Say whether too much is missing: of the search, of all that was asked after it, or by an early stop."""
    parts = (result.search.samples.tally, Tally().add(result.confirming))
    missing = any(part.failure_share > config.failure_share for part in parts)
    return "inconclusive" if missing or budget.stopped else "complete"
