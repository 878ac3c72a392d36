"""What a search leaves behind: tables of samples and findings, and the prompts that ``verify`` asks again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.errors import UsageError
from undertow.records import Failure, Finding, Message, Rate, Reply, Sample, Verdict
from undertow.store.run import RunDir
from undertow.store.tables import atomic_write_json, from_jsonable, read_json, to_jsonable, write_table
from undertow.surf.confirm import Confirmation

if TYPE_CHECKING:
    import pyarrow as pa

Labelled = tuple[str, str, Sample]
"""(phase, finding id or "", sample)."""


VOTES = ("judge_score", "confirm_score")
"""Columns for what each of two judges said alone."""


def messages_json(messages: Sequence[Message]) -> str:
    """Write a conversation as the JSON list of OpenAI-style messages."""
    return json.dumps([{"role": m.role, "content": m.content} for m in messages], ensure_ascii=False)


def messages_from_json(text: str) -> tuple[Message, ...]:
    """Read what :func:`messages_json` wrote."""
    return tuple(Message(m["role"], m["content"]) for m in json.loads(text))


def sample_row(phase: str, finding: str, sample: Sample) -> dict[str, object]:
    """Lay one sample out as a row, usage and price of the target's call; what is missing is null."""
    candidate, reply, verdict = sample.candidate, sample.reply, sample.verdict
    answered = reply if isinstance(reply, Reply) else None
    judged = verdict if isinstance(verdict, Verdict) else None
    missing = verdict if isinstance(verdict, Failure) else None
    return {
        "id": candidate.id,
        "phase": phase,
        "finding": finding,
        "run": candidate.run,
        "iteration": candidate.iteration,
        "replicate": sample.replicate,
        "prompt": candidate.prompt,
        "messages": messages_json(candidate.messages),
        "sampled": list(candidate.sampled),
        "realised": list(candidate.realised),
        "response": answered.text if answered else None,
        "finish_reason": answered.finish_reason if answered else None,
        "input_tokens": answered.input_tokens if answered else None,
        "output_tokens": answered.output_tokens if answered else None,
        "cost_usd": answered.cost_usd if answered else None,
        "score": judged.score if judged else None,
        "violation": judged.violation if judged else None,
        "reason": judged.reason if judged else None,
        "judge": judged.judge if judged else None,
        **dict.fromkeys(VOTES),
        **dict(zip(VOTES, (vote.score for vote in sample.votes), strict=False)),
        "failure": missing.kind.value if missing else None,
        "failure_detail": missing.detail if missing else None,
    }


def sample_table(labelled: Iterable[Labelled]) -> pa.Table:
    """Build the table of samples, one row a sample."""
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    schema = pa.schema(
        [
            *((name, text) for name in ("id", "phase", "finding")),
            *((name, pa.int32()) for name in ("run", "iteration", "replicate")),
            *((name, text) for name in ("prompt", "messages")),
            *((name, texts) for name in ("sampled", "realised")),
            *((name, text) for name in ("response", "finish_reason")),
            *((name, pa.int64()) for name in ("input_tokens", "output_tokens")),
            ("cost_usd", pa.float64()),
            ("score", pa.float64()),
            ("violation", pa.bool_()),
            *((name, text) for name in ("reason", "judge")),
            *((name, pa.float64()) for name in VOTES),
            *((name, text) for name in ("failure", "failure_detail")),
        ]
    )
    return pa.Table.from_pylist([sample_row(*item) for item in labelled], schema=schema)


def rate_json(rate: Rate | None) -> dict[str, object] | None:
    """Write a rate with its value beside hits, n and interval."""
    if rate is None:
        return None
    return {"value": rate.value, "hits": rate.hits, "n": rate.n, "interval": to_jsonable(rate.interval)}


def finding_json(confirmation: Confirmation) -> dict[str, Any]:
    """Write a finding for people and programs: the record's fields, rates with values, and the evidence."""
    finding, hypothesis = confirmation.finding, confirmation.hypothesis
    whole = to_jsonable(finding)
    assert isinstance(whole, dict)  # noqa: S101 - narrows the type; a dataclass becomes an object
    perturbed = [exemplar.rate for exemplar in finding.exemplars if exemplar.rate.n]
    hits, n = sum(r.hits for r in perturbed), sum(r.n for r in perturbed)
    return {
        **whole,
        "rate": rate_json(finding.rate),
        "control_rate": rate_json(finding.control_rate),
        "base_rate": rate_json(finding.base_rate),
        "judge_rate": rate_json(finding.judge_rate),
        "confirm_rate": rate_json(finding.confirm_rate),
        "reason": confirmation.reason,
        "prompts": len(confirmation.prompts),
        "perturbed": {"value": hits / n if n else None, "hits": hits, "n": n},
        "search": {"hits": hypothesis.hits, "n": hypothesis.n},
        "probe": rate_json(hypothesis.probe),
        "synonyms": list(hypothesis.synonyms),
        "without": [list(pattern) for pattern in hypothesis.without],
    }


def load_findings(run: Path) -> list[Finding]:
    """Read the findings of a search run, rejected and inconclusive ones too.

    Raises:
        UsageError: ``run`` is no finished search.
    """
    path = run / "findings.json"
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give the --out of a finished `undertow surf`")
    rows = read_json(path)
    if not isinstance(rows, list):
        raise UsageError(f"{path}: holds no list of findings")
    return [from_jsonable(Finding, row) for row in rows]


def save(
    run: RunDir, found: Sequence[Sample], others: Iterable[Labelled], done: Sequence[Confirmation]
) -> None:
    """Write ``samples``, ``confirm_samples``, ``confirm_prompts`` and ``findings`` into the run directory."""
    covering = {
        candidate: confirmation.finding.id
        for confirmation in reversed(done)
        for candidate in confirmation.hypothesis.covered
    }
    labelled = [("search", covering.get(sample.candidate.id, ""), sample) for sample in found]
    write_table(sample_table(labelled), run.file("samples.parquet"))
    write_table(sample_table(others), run.file("confirm_samples.parquet"))
    write_table(_prompt_table(done), run.file("confirm_prompts.parquet"))
    write_table(_finding_table(done), run.file("findings.parquet"))
    atomic_write_json(run.file("findings.json"), [finding_json(confirmation) for confirmation in done])


def _prompt_table(done: Sequence[Confirmation]) -> pa.Table:
    import pyarrow as pa

    schema = pa.schema(
        [
            ("finding", pa.string()),
            ("prompt", pa.string()),
            ("messages", pa.string()),
            ("replicates", pa.int32()),
        ]
    )
    rows = [
        {
            "finding": confirmation.finding.id,
            "prompt": prompt.prompt,
            "messages": messages_json(prompt.messages),
            "replicates": len({s.replicate for s in confirmation.samples if s.candidate.id == prompt.id}),
        }
        for confirmation in done
        for prompt in confirmation.prompts
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def _finding_table(done: Sequence[Confirmation]) -> pa.Table:
    import pyarrow as pa

    measures = [
        (f"{which}{part}", kind)
        for which in ("", "control_", "base_", "judge_", "confirm_")
        for part, kind in (
            ("hits", pa.int64()),
            ("n", pa.int64()),
            ("rate", pa.float64()),
            ("low", pa.float64()),
            ("high", pa.float64()),
        )
    ]
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("id", "rubric", "behaviour")),
            ("attributes", pa.list_(pa.string())),
            *((name, pa.string()) for name in ("status", "reason")),
            *measures,
            ("kappa", pa.float64()),
            ("failed", pa.int64()),
        ]
    )
    return pa.Table.from_pylist([_finding_row(confirmation) for confirmation in done], schema=schema)


def _finding_row(confirmation: Confirmation) -> dict[str, object]:
    finding = confirmation.finding
    row: dict[str, object] = {
        "id": finding.id,
        "rubric": finding.rubric,
        "behaviour": finding.behaviour,
        "attributes": list(finding.attributes),
        "status": finding.status,
        "reason": confirmation.reason,
        "failed": finding.failed,
        "kappa": finding.agreement.value if finding.agreement else None,
    }
    rates = (
        ("", finding.rate), ("control_", finding.control_rate), ("base_", finding.base_rate),
        ("judge_", finding.judge_rate), ("confirm_", finding.confirm_rate),
    )  # fmt: skip
    for which, measured in rates:
        if measured is not None:
            interval = measured.interval
            row[f"{which}hits"], row[f"{which}n"] = measured.hits, measured.n
            row[f"{which}rate"] = measured.value
            row[f"{which}low"] = interval.low if interval else None
            row[f"{which}high"] = interval.high if interval else None
    return row
