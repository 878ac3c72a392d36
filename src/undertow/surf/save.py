"""What a search leaves behind: tables of samples and findings, and the prompts that ``verify`` asks again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.errors import UsageError
from undertow.records import Finding, Rate
from undertow.store.run import RunDir
from undertow.store.tables import (
    atomic_write_json,
    from_jsonable,
    read_json,
    to_jsonable,
    write_table,
    write_tables,
)
from undertow.surf.confirm import Confirmation
from undertow.surf.rows import Labelled, messages_json, sample_schema, sample_table
from undertow.surf.spool import Spool

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1_000
"""Samples laid out together."""


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


def save(run: RunDir, found: Spool, others: Iterable[Labelled], done: Sequence[Confirmation]) -> None:
    """Write ``samples``, ``confirm_samples``, ``confirm_prompts`` and ``findings`` into the run directory."""
    covering = {
        candidate: confirmation.finding.id
        for confirmation in reversed(done)
        for candidate in confirmation.hypothesis.covered
    }
    schema = sample_schema()
    write_tables(_covered(found.tables(), covering), schema, run.file("samples.parquet"))
    write_tables(_laid_out(others), schema, run.file("confirm_samples.parquet"))
    write_table(_prompt_table(done), run.file("confirm_prompts.parquet"))
    write_table(_finding_table(done), run.file("findings.parquet"))
    atomic_write_json(run.file("findings.json"), [finding_json(confirmation) for confirmation in done])


def _covered(tables: Iterable[pa.Table], covering: Mapping[str, str]) -> Iterator[pa.Table]:
    """Name beside each sample of the search the finding that it led to."""
    import pyarrow as pa

    for table in tables:
        findings = pa.array([covering.get(name, "") for name in table["id"].to_pylist()], pa.string())
        yield table.set_column(table.schema.get_field_index("finding"), "finding", findings)


def _laid_out(labelled: Iterable[Labelled]) -> Iterator[pa.Table]:
    rest = iter(labelled)
    while block := list(islice(rest, BLOCK)):
        yield sample_table(block)


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
