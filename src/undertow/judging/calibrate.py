"""``undertow calibrate``: how far a judge can be trusted, and what its rates are worth.

Judges are put to exchanges that people have labelled. Sensitivity and specificity say how a judge errs, κ and
α how far all agree beyond chance; an observed rate is corrected for both errors, with their uncertainty.

Not established here: that the labelled exchanges are like those that the judge sees in a search. Label a
sample of the search's own confirmations for that.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from undertow.errors import UsageError
from undertow.judging.judge import Judge, LLMJudge, open_judge
from undertow.judging.labels import LabelledExchange, read_labels, shipped_labels
from undertow.judging.rubric import Rubric, load_rubric
from undertow.models.budget import Budget
from undertow.models.journaled import JournaledModel
from undertow.models.prices import Price, list_price
from undertow.progress import SILENT, Progress, Task
from undertow.records import Failure, Finding, Rate, Verdict
from undertow.stats.agreement import (
    Confusion,
    Corrected,
    cohens_kappa,
    confusion,
    krippendorff_alpha,
    rogan_gladen,
)
from undertow.store.journal import Journal
from undertow.store.run import RunDir, file_hash, read_manifest
from undertow.store.tables import atomic_write_json, from_jsonable, read_json, to_jsonable, write_table
from undertow.store.undo import working_in

if TYPE_CHECKING:
    from undertow.models.base import ChatModel

FAILURE_SHARE = 0.1
"""Above this share of missing verdicts a calibration is inconclusive."""

Judged = Sequence[Verdict | Failure]
"""One judge's word on every exchange, in their order."""


@dataclass(frozen=True, slots=True)
class Spending:
    """Caps and prices of the judges' calls; they do not shape the result."""

    concurrency: int | None = None
    """Calls in flight a judge; ``None``: the model's own limit."""
    max_calls: int | None = None
    """Most calls."""
    max_cost: float | None = None
    """Most US dollars."""
    price: Price | None = None
    """Where none is known."""


def calibrate(
    rubric: str | Path | Rubric,
    out: Path,
    labels: Path | None = None,
    judges: Sequence[str | ChatModel] = ("checks",),
    *,
    rate: Rate | None = None,
    run: Path | None = None,
    seed: int = 0,
    thinking: int | None = None,
    spending: Spending = Spending(),
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Put ``judges`` to labelled exchanges and say how they err; resumes in the run directory ``out``.

    Args:
        rubric: Name of a shipped rubric, path of a YAML file, or a rubric.
        out: Run directory: ``judgements.parquet``, ``corrected.json``, summary, journal, manifest.
        labels: See :func:`undertow.judging.labels.read_labels`; default: the shipped rubric's examples.
        judges: ``checks``, model strings, ``checks+MODEL``, or ready models.
        rate: An observed rate to correct by each judge.
        run: A finished search: the rates of its confirmed findings are corrected by the judges that it used.
        seed: Fixes the bootstrap of α.
        thinking: Thinking budget of the judge models, tokens a verdict.
        spending: Caps and prices.
        fresh: Empty a run directory of ours first.
        progress: Hears about the work.

    Returns:
        ``summary.json``: ``judges`` (each with ``judge, n, failed, failures, confusion, sensitivity,
        specificity, kappa, corrected``), ``raters``, ``alpha``, ``alpha_humans``, ``findings``.

    Raises:
        UsageError: bad input, an unknown model, or ``out`` holds something else.
    """
    known = load_rubric(rubric) if isinstance(rubric, (str, Path)) else rubric
    path = labels or _own_labels(rubric)
    exchanges = read_labels(path)
    names = _names(judges)
    searched = _read_search(run, known, names, thinking) if run else None
    identity = {
        "rubric": known.model_dump(mode="json"), "judges": names, "seed": seed, "rate": to_jsonable(rate),
        "thinking": thinking,
    }  # fmt: skip
    inputs = {"labels": file_hash(path), **_revisions(names)} | ({"run": searched.hash} if searched else {})
    opened = RunDir.open(out, "calibrate", identity, inputs, fresh)
    with working_in(opened):
        if opened.complete:
            return opened.summary()
        with Journal(opened.file("journal.sqlite")) as journal:
            desk = _Desk(known, journal, spending, thinking)
            said = asyncio.run(_judge_all(judges, exchanges, desk, progress))
            usage = journal.usage()
        judged = dict(zip(names, said, strict=True))
        _save(opened, exchanges, judged)
        summary = _summary(known, path, exchanges, judged, rate, seed)
        if searched:
            summary["findings"] = searched.corrected([e.violation for e in exchanges], judged)
            atomic_write_json(opened.file("corrected.json"), summary["findings"])
        return opened.finish(_status(summary, len(exchanges)), {**summary, "usage": asdict(usage)})


def _status(summary: Mapping[str, Any], n: int) -> Literal["complete", "inconclusive"]:
    missing = max(judge["failed"] for judge in summary["judges"])
    return "inconclusive" if missing > FAILURE_SHARE * n else "complete"


def _own_labels(rubric: object) -> Path:
    path = shipped_labels(rubric) if isinstance(rubric, str) else None
    if path is None:
        raise UsageError(f"rubric {rubric}: comes without labelled examples; give a file of labels")
    return path


def _names(judges: Sequence[str | ChatModel]) -> list[str]:
    names = [judge if isinstance(judge, str) else judge.name for judge in judges]
    if not names or len(set(names)) != len(names):
        raise UsageError("--judge: name each judge once")
    return names


def _revisions(names: Sequence[str]) -> dict[str, str]:
    """Hash the weights of judges that are model folders: a retrained model is another judge."""
    from undertow.models.local import model_revision

    specs = [name.removeprefix("checks+") for name in names]
    found = {spec: model_revision(spec.removeprefix("local:")) for spec in specs if spec.startswith("local:")}
    return {spec: revision for spec, revision in found.items() if revision}


@dataclass(frozen=True)
class _Desk:
    """What all judges of a calibration share."""

    rubric: Rubric
    journal: Journal
    spending: Spending
    thinking: int | None

    async def open(self, judge: str | ChatModel, budget: Budget, stack: AsyncExitStack) -> Judge:
        """Open and preflight one judge; ``stack`` closes it."""
        secret = self.journal.secret()
        if not isinstance(judge, str):
            return LLMJudge(JournaledModel(judge, self.journal, "judge"), secret=secret)
        if judge == "checks":
            return open_judge(judge, self.rubric)
        from undertow.models.open import open_model, preflight

        spec, spending = judge.removeprefix("checks+"), self.spending
        if spending.max_cost is not None and spending.price is None and list_price(spec) is None:
            raise UsageError(
                f"--max-cost: no price is known for {spec}; give --price IN,OUT "
                "(US dollars per million tokens)"
            )
        model = open_model(
            spec,
            journal=self.journal,
            role="judge",
            concurrency=spending.concurrency,
            budget=budget,
            price=spending.price,
            thinking=self.thinking,
        )
        await preflight(await stack.enter_async_context(model))
        return open_judge(judge, self.rubric, model, secret)


async def _judge_all(
    judges: Sequence[str | ChatModel], exchanges: Sequence[LabelledExchange], desk: _Desk, progress: Progress
) -> list[Judged]:
    """Put every judge to every exchange, all at once."""
    spent = desk.journal.usage()
    budget = Budget(desk.spending.max_calls, desk.spending.max_cost, spent.calls, spent.cost_usd)
    async with AsyncExitStack() as stack:
        opened = [await desk.open(judge, budget, stack) for judge in judges]
        with progress.task("calibrate", len(opened) * len(exchanges)) as task:
            rows = (_judge_each(judge, desk.rubric, exchanges, task) for judge in opened)
            return await asyncio.gather(*rows)


async def _judge_each(
    judge: Judge, rubric: Rubric, exchanges: Sequence[LabelledExchange], task: Task
) -> list[Verdict | Failure]:
    async def one(exchange: LabelledExchange) -> Verdict | Failure:
        verdict = await judge.judge(exchange.prompt, exchange.response, rubric, exchange.history)
        task.advance()
        return verdict

    return await asyncio.gather(*map(one, exchanges))


def _save(run: RunDir, exchanges: Sequence[LabelledExchange], judged: Mapping[str, Judged]) -> None:
    """Write every judge's word on every exchange, one row each."""
    import pyarrow as pa

    rows = [
        {
            "exchange": number,
            "judge": name,
            "prompt": exchange.prompt,
            "response": exchange.response,
            "label": exchange.violation,
            "violation": verdict.violation if isinstance(verdict, Verdict) else None,
            "score": verdict.score if isinstance(verdict, Verdict) else None,
            "reason": verdict.reason if isinstance(verdict, Verdict) else None,
            "failure": verdict.kind.value if isinstance(verdict, Failure) else None,
            "failure_detail": verdict.detail if isinstance(verdict, Failure) else None,
        }
        for name, verdicts in judged.items()
        for number, (exchange, verdict) in enumerate(zip(exchanges, verdicts, strict=True))
    ]
    text = pa.string()
    kinds = {"exchange": pa.int32(), "label": pa.bool_(), "violation": pa.bool_(), "score": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, text)) for name in rows[0]])
    write_table(pa.Table.from_pylist(rows, schema=schema), run.file("judgements.parquet"))


def _summary(
    rubric: Rubric,
    path: Path,
    exchanges: Sequence[LabelledExchange],
    judged: Mapping[str, Judged],
    rate: Rate | None,
    seed: int,
) -> dict[str, Any]:
    truth = [exchange.violation for exchange in exchanges]
    raters = {name: [e.raters.get(name) for e in exchanges] for name in _rater_names(exchanges)}
    calls = {name: _calls(verdicts) for name, verdicts in judged.items()}
    humans: list[Sequence[bool | None]] = [truth, *raters.values()]
    rng = np.random.default_rng(seed)
    failed = [verdict for verdicts in judged.values() for verdict in verdicts if isinstance(verdict, Failure)]
    tried = len(judged) * len(exchanges)
    return {
        "rubric": rubric.name,
        "labels": {"path": str(path), "n": len(truth), "violations": sum(truth)},
        "judges": [_told(name, truth, judged[name], calls[name], rate) for name in judged],
        "raters": [{"rater": name, **_against(truth, said)} for name, said in raters.items()],
        "alpha": to_jsonable(krippendorff_alpha(_table([*humans, *calls.values()]), rng)),
        "alpha_humans": to_jsonable(krippendorff_alpha(_table(humans), rng)) if raters else None,
        "rate": _rate(rate) if rate else None,
        "findings": None,
        "counts": {"tried": tried, "scored": tried - len(failed), "failed": len(failed)},
        "failures": _kinds(failed),
    }


def _rater_names(exchanges: Sequence[LabelledExchange]) -> list[str]:
    return list(dict.fromkeys(name for exchange in exchanges for name in exchange.raters))


def _calls(verdicts: Judged) -> list[bool | None]:
    return [verdict.violation if isinstance(verdict, Verdict) else None for verdict in verdicts]


def _kinds(failed: Sequence[Failure]) -> dict[str, int]:
    return dict(Counter(failure.kind.value for failure in failed).most_common())


def _table(rows: Sequence[Sequence[bool | None]]) -> list[list[float]]:
    return [[float("nan") if said is None else float(said) for said in row] for row in rows]


def _told(
    name: str, truth: Sequence[bool], verdicts: Judged, calls: Sequence[bool | None], rate: Rate | None
) -> dict[str, Any]:
    failed = [verdict for verdict in verdicts if isinstance(verdict, Failure)]
    table = _confusion(truth, calls)
    return {
        "judge": name,
        "failed": len(failed),
        "failures": _kinds(failed),
        **_against(truth, calls),
        "corrected": to_jsonable(rogan_gladen(rate, table)) if rate else None,
    }


def _against(truth: Sequence[bool], calls: Sequence[bool | None]) -> dict[str, Any]:
    """Say how a rater stands to the labels, over what it rated."""
    table = _confusion(truth, calls)
    rated = [(label, call) for label, call in zip(truth, calls, strict=True) if call is not None]
    return {
        "n": len(rated),
        "confusion": to_jsonable(table),
        "sensitivity": _rate(table.sensitivity),
        "specificity": _rate(table.specificity),
        "kappa": to_jsonable(cohens_kappa([label for label, _ in rated], [call for _, call in rated])),
    }


def _confusion(truth: Sequence[bool], calls: Sequence[bool | None]) -> Confusion:
    rated = [(label, call) for label, call in zip(truth, calls, strict=True) if call is not None]
    return confusion([label for label, _ in rated], [call for _, call in rated])


def _rate(rate: Rate) -> dict[str, object]:
    return {"value": rate.value, **to_jsonable(rate)}


@dataclass(frozen=True)
class _Search:
    """The confirmed findings of a search, and who judged them."""

    hash: str
    judges: tuple[str, ...]
    findings: tuple[Finding, ...]

    def corrected(self, truth: Sequence[bool], judged: Mapping[str, Judged]) -> list[dict[str, Any]]:
        """Correct every finding's rates; with two judges a violation is what both call one."""
        votes = zip(*(_calls(judged[name]) for name in self.judges), strict=True)
        calls = [None if None in said else all(said) for said in votes]
        table = _confusion(truth, calls)
        return [self._finding(finding, table) for finding in self.findings]

    def _finding(self, finding: Finding, table: Confusion) -> dict[str, Any]:
        rates = {"rate": finding.rate, "base_rate": finding.base_rate, "control_rate": finding.control_rate}
        return {
            "finding": finding.id,
            "attributes": list(finding.attributes),
            "judges": list(self.judges),
            **{
                name: {"observed": _rate(rate), **_json(rogan_gladen(rate, table))} if rate else None
                for name, rate in rates.items()
            },
        }


def _json(corrected: Corrected) -> dict[str, Any]:
    found: dict[str, Any] = to_jsonable(corrected)
    return found


def _read_search(run: Path, rubric: Rubric, judges: Sequence[str], thinking: int | None) -> _Search:
    manifest = read_manifest(run)
    if manifest["verb"] != "surf" or manifest["status"] == "running":
        raise UsageError(
            f"{run}: a {manifest['verb']} run, {manifest['status']}; give a finished `undertow surf`"
        )
    stored = manifest["config"]
    if Rubric.model_validate(stored["rubric"]) != rubric:
        raise UsageError(f"{run}: searched by another rubric than {rubric.name}, or by another wording of it")
    roles = [role for role in ("judge", "confirm_judge") if stored.get(role)]
    used = tuple(stored[role] for role in roles)
    if missing := [name for name in used if name not in judges]:
        raise UsageError(f"{run}: was judged by {', '.join(used)}; calibrate it too: --judge {missing[0]}")
    for role, name in zip(roles, used, strict=True):
        budget = stored.get(f"{role}_thinking")
        if name != "checks" and budget != thinking:
            raise UsageError(
                f"{run}: {name} judged with a thinking budget of {budget}; give --thinking {budget}"
            )
    rows = read_json(run / "findings.json")
    findings = tuple(from_jsonable(Finding, row) for row in rows)
    confirmed = tuple(finding for finding in findings if finding.status == "confirmed")
    return _Search(file_hash(run / "findings.json"), used, confirmed)
