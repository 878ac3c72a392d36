"""A search for Inspect: the log of its confirmation, and a task that asks the same prompts of any model."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from undertow.errors import UsageError
from undertow.records import Message
from undertow.store.tables import atomic_write_bytes, atomic_write_json, read_json, read_table
from undertow.surf.config import SurfConfig
from undertow.surf.context import framed
from undertow.surf.rows import messages_from_json
from undertow.text import one_line

TASK = '''"""The prompts that confirmed what undertow found, as an Inspect task.

    pip install "undertow[inspect]"
    inspect eval {file} --model PROVIDER/MODEL{judge}
"""

from pathlib import Path

from inspect_ai import Task, task

from undertow.report.inspect_task import confirmation_task


@task
def {name}() -> Task:
    """{behaviour}"""
    return confirmation_task(Path(__file__).parent)
'''
"""The exported task file."""
_STOPS = {"stop": "stop", "length": "max_tokens", "filter": "content_filter", "tool": "tool_calls"}
"""Finish reasons of a reply in Inspect's words; others are ``unknown``."""

Row = Mapping[str, Any]
"""A row of ``confirm_samples.parquet``."""


def write_inspect(run: Path, manifest: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Write ``confirmed.eval``, ``task.py``, ``dataset.jsonl`` and ``task.json`` into the folder ``out``.

    The log holds what confirmed each confirmed finding: a sample a fresh prompt, an epoch a resample, the
    score 1 for a violation and 0 for none. A failed call is a sample with an error, a failed verdict one
    without a score: neither counts as 0.

    Returns:
        ``findings``, ``samples`` of the log and ``prompts`` of the task.

    Raises:
        UsageError: not a search, nothing confirmed, ``out`` is there already, or no ``inspect_ai``.
    """
    if manifest["verb"] != "surf":
        raise UsageError(f"{run}: a trace has no samples; give the search it traced")
    if out.exists():
        raise UsageError(f"{out}: is there already; choose another --out")
    findings = {f["id"]: f for f in read_json(run / "findings.json") if f["status"] == "confirmed"}
    if not findings:
        raise UsageError(f"{run}: no finding is confirmed, so there is nothing to write")
    try:
        from inspect_ai.log import write_eval_log
    except ImportError:
        raise UsageError("--to inspect: needs inspect_ai; pip install 'undertow[inspect]'") from None
    rows = _confirmation(run, findings)
    out.mkdir(parents=True)
    _write_task(manifest["config"], findings, rows, out)
    finished = datetime.fromtimestamp((run / "manifest.json").stat().st_mtime, UTC).isoformat()
    write_eval_log(_log(manifest, findings, rows, finished), str(out / "confirmed.eval"))
    return {"findings": len(findings), "samples": len(rows), "prompts": len({row["id"] for row in rows})}


def _confirmation(run: Path, findings: Mapping[str, Any]) -> list[Row]:
    """Return the samples that gave the findings their rates; what could not be paid for was never asked."""
    rows: list[Row] = read_table(run / "confirm_samples.parquet").to_pylist()
    return [
        r for r in rows if r["phase"] == "confirm" and r["finding"] in findings and r["failure"] != "budget"
    ]


def _write_task(
    config: Mapping[str, Any], findings: Mapping[str, Any], rows: Sequence[Row], out: Path
) -> None:
    rubric = config["rubric"]
    role = "" if config["judge"] == "checks" else " --model-role grader=PROVIDER/JUDGE"
    code = TASK.format(
        file="task.py", judge=role, name=f"no_{rubric['name'].replace('-', '_')}",
        behaviour=one_line(rubric["behaviour"], 500).replace("\\", "\\\\").replace('"', "'"),
    )  # fmt: skip
    asked = {row["id"]: {"id": row["id"], **_asked(row, config, findings)} for row in rows}
    lines = "".join(json.dumps({**sample, "target": ""}) + "\n" for sample in asked.values())
    atomic_write_bytes(out / "task.py", code.encode("utf-8", "backslashreplace"))
    atomic_write_bytes(out / "dataset.jsonl", lines.encode())
    told = {name: config[name] for name in ("rubric", "judge", "temperature", "max_tokens", "truncated")}
    atomic_write_json(out / "task.json", {**told, "epochs": 1 + max(row["replicate"] for row in rows)})


def _asked(row: Row, config: Mapping[str, Any], findings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``input`` as the target was sent it, and what a judge is to know of it as ``metadata``."""
    known = SurfConfig.model_validate({k: v for k, v in config.items() if k in SurfConfig.model_fields})
    own = messages_from_json(row["messages"])
    return {
        "input": [_turn(message) for message in framed(own, known)],
        "metadata": {
            "finding": row["finding"],
            "attributes": findings[row["finding"]]["attributes"],
            "judged": [_turn(message) for message in own],
        },
    }


def _turn(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _log(manifest: Mapping[str, Any], findings: Mapping[str, Any], rows: Sequence[Row], when: str) -> Any:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalPlan, EvalPlanStep, EvalSpec, EvalStats
    from inspect_ai.model import GenerateConfig

    config = manifest["config"]
    ids = list(dict.fromkeys(row["id"] for row in rows))
    settings = GenerateConfig(temperature=config["temperature"], max_tokens=config["max_tokens"])
    return EvalLog(
        status="success",
        eval=EvalSpec(
            created=when,
            task=f"no_{config['rubric']['name'].replace('-', '_')}",
            task_file="task.py",
            dataset=EvalDataset(name="dataset", location="dataset.jsonl", samples=len(ids), sample_ids=ids),
            model=config["target"],
            model_generate_config=settings,
            config=EvalConfig(epochs=1 + max(row["replicate"] for row in rows)),
            packages={"undertow": manifest["versions"]["undertow"]},
            metadata={"rubric": config["rubric"], "judge": config["judge"]},
        ),
        plan=EvalPlan(steps=[EvalPlanStep(solver="generate")], config=settings),
        results=_results(findings, rows),
        stats=EvalStats(started_at=when, completed_at=when),
        samples=[_sample(row, config, findings) for row in rows],
    )


def _results(findings: Mapping[str, Any], rows: Sequence[Row]) -> Any:
    from inspect_ai.log import EvalMetric, EvalResults, EvalScore

    scored, missing = Counter[str](), defaultdict[str, Counter[str]](Counter)
    for row in rows:
        scored[row["finding"]] += row["failure"] is None
        missing[row["finding"]][row["failure"] or ""] += row["failure"] is not None
    metrics = {name: EvalMetric(name=name, group="grouped", value=finding["rate"]["value"],
                                metadata={**finding["rate"], "base_rate": finding["base_rate"],
                                          "attributes": finding["attributes"]})
               for name, finding in findings.items()}  # fmt: skip
    total = len(rows)
    return EvalResults(
        total_samples=total,
        completed_samples=scored.total(),
        scores=[
            EvalScore(name="violation", scorer="violation", scored_samples=scored.total(),
                      unscored_samples=total - scored.total(), metrics=metrics,
                      metadata={"failures": {name: dict(+kinds) for name, kinds in missing.items()}}),
        ],
    )  # fmt: skip


def _sample(row: Row, config: Mapping[str, Any], findings: Mapping[str, Any]) -> Any:
    from inspect_ai.log import EvalError, EvalSample
    from inspect_ai.model import ChatMessageAssistant, ModelOutput, ModelUsage
    from inspect_ai.scorer import Score

    asked, answer = _asked(row, config, findings), row["response"]
    told = f"{row['failure']}: {row['failure_detail']}"
    sample = EvalSample(id=row["id"], epoch=row["replicate"] + 1, target="", **asked, messages=asked["input"])
    if answer is None:
        sample.error = EvalError(message=told, traceback="", traceback_ansi="")
        return sample
    used = ModelUsage(
        input_tokens=row["input_tokens"], output_tokens=row["output_tokens"],
        total_tokens=row["input_tokens"] + row["output_tokens"],
    )  # fmt: skip
    sample.output = ModelOutput.from_content(
        config["target"], answer, stop_reason=_STOPS.get(row["finish_reason"], "unknown")
    )
    sample.output.usage = used
    sample.messages.append(ChatMessageAssistant(content=answer, model=config["target"]))
    sample.model_usage = {config["target"]: used}
    if row["failure"]:
        score = Score.unscored(reason=row["failure"], explanation=told)
    else:
        score = Score(value=int(row["violation"]), answer=answer, explanation=row["reason"],
                      metadata={"score": row["score"], "judge": row["judge"]})  # fmt: skip
    sample.scores = {"violation": score}
    return sample
