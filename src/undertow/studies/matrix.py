"""Models × behaviours (paper Table 1): a search for every pair, and what its top outputs and findings say.

Each cell is a whole run directory of ``undertow surf``, so a study that was stopped goes on cell by cell,
and any cell can be reported, traced and verified on its own. The paper gives the share of the top outputs
over the threshold: those were selected for their score, so it says how badly a search can make a model
behave, not how often it does. Beside it stands the rate of the cell's strongest confirmed finding on fresh
prompts.

Not established here: that a low cell is a clean model; the search may have missed what is there. A cell that
failed, or misses too much, has no number and enters none.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.errors import UndertowError, UsageError
from undertow.progress import SILENT, Progress
from undertow.store.journal import Journal
from undertow.store.run import RunDir, file_hash
from undertow.store.tables import write_table
from undertow.surf.bank import pool_hash
from undertow.surf.config import SurfConfig
from undertow.surf.roles import Roles
from undertow.surf.run import plan_surf, run_surf

if TYPE_CHECKING:
    import pyarrow as pa

    from undertow.judging.rubric import Rubric
    from undertow.models.base import ChatModel
    from undertow.surf.generate import Pool

Cell = dict[str, Any]
"""``model, rubric, status, reason, run, top, confirmed, counts, failures, usage, seconds``."""

_UNRUN: dict[str, Any] = {
    "status": "failed", "counts": {"tried": 0, "scored": 0, "failed": 0}, "failures": {}, "usage": {},
    "seconds": None,
}  # fmt: skip
"""What a search that raised has to show."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_NAME_LENGTH = 48


def run_matrix(
    targets: Sequence[str | ChatModel],
    rubrics: Sequence[str | Path | Rubric],
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
    """Search every target for every rubric's behaviour; cells in ``out/cells/MODEL/RUBRIC``.

    The same call goes on where it was stopped, and tries missing cells again. ``matrix.parquet`` has a row a
    cell.

    Args:
        targets: Models, the rows of the table.
        rubrics: Behaviours, its columns.
        attributes: As for :func:`undertow.surf.run.run_surf`, as are the others.
        out: Run directory of the study.
        config: Sizes and thresholds of each search (paper: 15 runs × a buffer of 5 are 75 top outputs); its
            caps of calls and cost hold for all cells together.
        reference: Model of the null control in every cell.
        generator: ``local`` or a model.
        judge: ``checks`` or a model.
        confirm_judge: A second judge, without whose agreement nothing is confirmed.
        prompts: Prompt bank.
        fresh: Start over in a run directory of ours.
        progress: Hears about the work.

    Returns:
        ``summary.json``: ``cells``, each with ``top`` (share of the top outputs over the threshold, with n
        and interval) and ``confirmed`` (``findings``, and ``rate``, ``attributes`` of the strongest; the rate
        is ``None`` where none is confirmed), both ``None`` in a missing cell; ``missing`` with the reasons;
        ``sentence``; counts, failures and usage over all cells. Status ``inconclusive`` while a cell is
        missing.

    Raises:
        UsageError: bad input, something named twice, every cell failed at once, or ``out`` holds something
            else.
    """
    from undertow.judging.rubric import load_rubric

    config = config or SurfConfig()
    known = [load_rubric(r) if isinstance(r, (str, Path)) else r for r in rubrics]
    roles = [Roles(target, reference, generator, judge, confirm_judge) for target in targets]
    names = [str(each.names()["target"]) for each in roles]
    _refuse_repeats("--target", names)
    _refuse_repeats("--rubric", [rubric.name for rubric in known])
    run = RunDir.open(
        out, "matrix", _identity(config, roles, names, known), _inputs(roles, attributes, prompts), fresh
    )
    if run.complete:
        run.close()
        return run.summary()
    pairs = [(target, name, rubric) for target, name in zip(targets, names, strict=True) for rubric in known]
    outcomes: list[dict[str, Any] | UndertowError] = []
    try:
        with progress.task("matrix", len(pairs)) as task:
            for target, name, rubric in pairs:
                progress.say(f"{name} × {rubric.name}")
                where = run.path / _folder(name, rubric)
                outcome = _searched(
                    target, rubric, attributes, where, _capped(config, run, where), reference=reference,
                    generator=generator, judge=judge, confirm_judge=confirm_judge, prompts=prompts,
                    progress=progress,
                )  # fmt: skip
                outcomes.append(outcome)
                task.advance()
        if isinstance(outcomes[0], UsageError) and not run.resumed and not any(map(_was_run, outcomes)):
            _forget(run)
            raise outcomes[0]
        cells = [_cell(n, r, outcome) for (_, n, r), outcome in zip(pairs, outcomes, strict=True)]
        write_table(_table(cells), run.file("matrix.parquet"))
        return run.finish("inconclusive" if _missing(cells) else "complete", _summary(cells, names, known))
    finally:
        run.close()


def plan_matrix(
    targets: Sequence[str],
    rubrics: Sequence[str | Path | Rubric],
    attributes: Path,
    config: SurfConfig | None = None,
    **roles: Any,
) -> dict[str, Any]:
    """Say what ``run_matrix`` would ask of each role of each row, and what that costs; nothing is asked.

    Raises:
        UsageError: an unknown rubric, no such attributes, or something named twice.
    """
    _refuse_repeats("--target", targets)
    plans = [
        [plan_surf(target, rubric, attributes, config, **roles) for rubric in rubrics] for target in targets
    ]
    if not rubrics:
        raise UsageError("--rubric: none is given; give at least one")
    asked = [added([plan["roles"][k] for plan in row]) for row in plans for k in range(len(row[0]["roles"]))]
    whole = added([plan for row in plans for plan in row])
    return {"status": "complete", "dry_run": True, "searches": len(targets) * len(rubrics), "roles": asked,
            **{key: whole[key] for key in ("calls", "cost_usd")}}  # fmt: skip


def added(plans: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Add up ranges, from and to, of plans alike; what is unknown in one is unknown in the sum."""
    whole = dict(plans[0])
    for key, value in whole.items():
        ranges = [plan[key] for plan in plans]
        if isinstance(value, list | tuple) and all(isinstance(n, int | float) for n in value):
            whole[key] = [sum(r[0] for r in ranges), sum(r[1] for r in ranges)]
        if any(r is None for r in ranges):
            whole[key] = None
    return whole


def _searched(*of: Any, **how: Any) -> dict[str, Any] | UndertowError:
    """Search one cell; the one place where a cell's error becomes a hole in the table."""
    try:
        return run_surf(*of, **how)
    except UndertowError as error:
        return error


def _capped(config: SurfConfig, run: RunDir, where: Path) -> SurfConfig:
    """Leave to one cell what the others, of this process or an earlier one, have not spent of the caps."""
    calls, cost = 0, 0.0
    for file in run.path.glob("cells/*/*/journal.sqlite"):
        if file.parent != where:
            with Journal(file) as journal:
                spent = journal.usage()
            calls, cost = calls + spent.calls, cost + spent.cost_usd
    left = {
        "max_calls": None if config.max_calls is None else max(0, config.max_calls - calls),
        "max_cost": None if config.max_cost is None else max(0.0, config.max_cost - cost),
    }
    return config.model_copy(update=left)


def _was_run(outcome: object) -> bool:
    return not isinstance(outcome, UndertowError)


def _folder(model: str, rubric: Rubric) -> Path:
    return Path("cells", safe_name(model), safe_name(rubric.name))


def safe_name(name: str) -> str:
    """Make a name a folder's: what a model string holds beyond letters, digits and ``_.-`` becomes a hash."""
    plain = _UNSAFE.sub("-", name).strip("-.")[:_NAME_LENGTH]
    if plain == name:
        return plain
    return f"{plain}-{blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest()}".lstrip("-")


def _refuse_repeats(option: str, names: Sequence[str]) -> None:
    if not names:
        raise UsageError(f"{option}: none is given; give at least one")
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise UsageError(f"{option} {twice[0]}: given twice; each needs a row or column of its own")


def _identity(
    config: SurfConfig, roles: Sequence[Roles], names: Sequence[str], rubrics: Sequence[Rubric]
) -> dict[str, object]:
    others = {role: name for role, name in roles[0].names().items() if role != "target"}
    return {
        **config.identity(),
        **others,
        "targets": list(names),
        "rubrics": [rubric.model_dump(mode="json") for rubric in rubrics],
    }


def _inputs(roles: Sequence[Roles], attributes: Path | Pool, prompts: Path | None) -> dict[str, str]:
    inputs = {"attributes": pool_hash(attributes)}
    for number, each in enumerate(roles):
        for role, revision in each.revisions().items():
            inputs[f"target {number}" if role == "target" else role] = revision
    if prompts:
        inputs["prompts"] = file_hash(prompts)
    return inputs


def _forget(run: RunDir) -> None:
    """Undo the start of a study that a wrong input ended, so that the mended command may start there."""
    shutil.rmtree(run.file("cells"), ignore_errors=True)
    run.file("config.json").unlink(missing_ok=True)


def _cell(model: str, rubric: Rubric, outcome: dict[str, Any] | UndertowError) -> Cell:
    """Read a search; one that failed or is inconclusive keeps its counts and gives no numbers."""
    summary = _UNRUN if isinstance(outcome, UndertowError) else outcome
    whole = summary["status"] == "complete" and bool(summary["top"]["n"])
    told = str(outcome).removeprefix(f"model {model}: ")
    reason = told if isinstance(outcome, UndertowError) else _why_missing(outcome)
    return {
        "model": model,
        "rubric": rubric.name,
        "status": "complete" if whole else "missing",
        "reason": "" if whole else reason,
        "run": _folder(model, rubric).as_posix(),
        "top": summary["top"] if whole else None,
        "confirmed": _confirmed(summary["findings"]) if whole and summary["base_rate"] else None,
        **{key: summary[key] for key in ("counts", "failures", "usage", "seconds")},
    }


def _why_missing(summary: dict[str, Any]) -> str:
    parts = {"of the search": summary["counts"], "of the confirmation": summary["confirmation"]}
    lost = [f"{c['failed']} of {c['tried']} calls {what} failed" for what, c in parts.items() if c["failed"]]
    stopped = [summary["stopped"]] if summary.get("stopped") else []
    return f"{summary['status']}: {'; '.join(stopped + lost) or 'nothing was scored'}"


def _confirmed(findings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Count the confirmed findings and take the rate of the strongest; they come by falling rate."""
    confirmed = [finding for finding in findings if finding["status"] == "confirmed"]
    first = confirmed[0] if confirmed else {}
    return {
        "findings": len(confirmed),
        "finding": first.get("id"),
        "attributes": first.get("attributes", []),
        "rate": first.get("rate"),
    }


def _missing(cells: Sequence[Cell]) -> list[dict[str, str]]:
    keys = ("model", "rubric", "reason")
    return [{key: cell[key] for key in keys} for cell in cells if cell["status"] == "missing"]


def _summary(cells: Sequence[Cell], names: Sequence[str], rubrics: Sequence[Rubric]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    usage: dict[str, Any] = {}
    for cell in cells:
        counts.update(cell["counts"])
        failures.update(cell["failures"])
        for key, value in cell["usage"].items():
            usage[key] = usage.get(key, 0) + value
    return {
        "models": list(names),
        "rubrics": [rubric.name for rubric in rubrics],
        "cells": list(cells),
        "missing": _missing(cells),
        "sentence": _sentence(cells),
        "counts": {key: counts[key] for key in ("tried", "scored", "failed")},
        "failures": dict(failures.most_common()),
        "usage": usage,
    }


def _sentence(cells: Sequence[Cell]) -> str:
    measured = [cell for cell in cells if cell["top"]]
    head = f"{len(measured)} of {len(cells)} cells were measured"
    if not measured:
        return f"{head}: {cells[0]['reason']}"
    worst = max(measured, key=lambda cell: cell["top"]["value"])
    top = worst["top"]
    confirmed = sum(bool(cell["confirmed"] and cell["confirmed"]["findings"]) for cell in measured)
    return (
        f"{head}; {worst['model']} on {worst['rubric']} has the most top outputs over the threshold, "
        f"{top['hits']} of {top['n']}; a finding is confirmed on fresh prompts in {confirmed}."
    )


def _table(cells: Sequence[Cell]) -> pa.Table:
    import pyarrow as pa

    text, count, real = pa.string(), pa.int64(), pa.float64()
    measures = [
        (f"{which}_{part}", kind)
        for which in ("top", "confirmed")
        for part, kind in (("hits", count), ("n", count), ("rate", real), ("low", real), ("high", real))
    ]
    schema = pa.schema(
        [
            *((name, text) for name in ("model", "rubric", "status", "reason", "run")),
            *measures,
            ("findings", count),
            ("attributes", pa.list_(text)),
            ("tried", count),
            ("failed", count),
            ("seconds", real),
        ]
    )
    return pa.Table.from_pylist([_row(cell) for cell in cells], schema=schema)


def _row(cell: Cell) -> dict[str, object]:
    confirmed = cell["confirmed"] or {}
    row = {key: cell[key] for key in ("model", "rubric", "status", "reason", "run", "seconds")}
    row |= {"tried": cell["counts"]["tried"], "failed": cell["counts"]["failed"]}
    row |= {"findings": confirmed.get("findings"), "attributes": confirmed.get("attributes")}
    for which, measured in (("top", cell["top"]), ("confirmed", confirmed.get("rate"))):
        if measured:
            interval = measured["interval"] or {}
            row |= {f"{which}_{key}": measured[key] for key in ("hits", "n")}
            row |= {f"{which}_rate": measured["value"]}
            row |= {f"{which}_{key}": interval.get(key) for key in ("low", "high")}
    return row
