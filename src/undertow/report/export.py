"""Findings and traced rows for other tools: promptfoo, Inspect, Hugging Face datasets, JSON lines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from undertow.errors import UsageError
from undertow.store.run import read_manifest
from undertow.store.tables import atomic_write_bytes, read_json, read_table

if TYPE_CHECKING:
    import pyarrow as pa

Form = Literal["promptfoo", "inspect", "hf", "jsonl"]
ASSERTION = '''"""Decides a reply by the rubric's checks: pip install undertow."""

from undertow.judging.rubric import Rubric


def get_assert(output, context):
    rubric = Rubric.model_validate(context["config"]["rubric"])
    bad = rubric.violated(context["config"]["prompt"], output)
    reason = rubric.behaviour if bad else "not: " + rubric.behaviour
    return {"pass": not bad, "score": 0.0 if bad else 1.0, "reason": reason}
'''
"""The file that promptfoo's python assertions call."""
_TEMPLATE = ("{{", "{%", "{#", "}}", "%}", "#}")
_BRACE = re.compile("[{}]")
_BREAKS = re.compile("[\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff\\ufeff\\ufffe\\uffff]")
"""Characters that parsers of YAML fold, or refuse; the file is JSON, which is YAML too."""


def export(run: Path, form: Form, out: Path) -> dict[str, Any]:
    """Write a run's findings, or a trace's rows, for another tool.

    Args:
        run: Finished search or trace.
        form: ``promptfoo``: a test of each exemplar of each confirmed finding, with the rubric's checks, or
            its text for a judge (searches only). ``inspect``: a folder with the log of the confirmation and a
            task that asks its prompts of any model (searches only). ``hf``: a folder that
            ``datasets.load_from_disk`` reads: findings and samples, or rows. ``jsonl``: findings, or rows,
            one a line.
        out: File, or folder for ``hf`` and ``inspect``.

    Returns:
        ``status, form, out`` and how much was written.

    Raises:
        UsageError: not such a run, nothing to write, ``out`` exists and is something else, no ``datasets`` or
            ``inspect_ai``.
    """
    manifest = read_manifest(Path(run))
    if manifest["verb"] not in ("surf", "trace") or manifest["status"] == "running":
        raise UsageError(f"{run}: a {manifest['verb']} run, {manifest['status']}; give a search or a trace")
    written = _WRITERS[form](Path(run), manifest, Path(out))
    return {"status": "complete", "form": form, "out": str(out), **written}


def _promptfoo(run: Path, manifest: dict[str, Any], out: Path) -> dict[str, Any]:
    if manifest["verb"] != "surf":
        raise UsageError(f"{run}: a trace has no tests; give the search it traced")
    rubric = manifest["config"]["rubric"]
    confirmed = [f for f in read_json(run / "findings.json") if f["status"] == "confirmed"]
    tests = [_test(finding, shown, rubric) for finding in confirmed for shown in finding["exemplars"]]
    if not tests:
        raise UsageError(f"{run}: no finding is confirmed, so there is nothing to test")
    config = {
        "description": f"undertow: {rubric['name']}: {rubric['behaviour']}",
        "prompts": ["{{prompt}}"],
        "providers": ["echo"],
        "tests": tests,
    }
    head = "# Set providers to the model under test, then: npx promptfoo eval -c THIS_FILE\n"
    text = head + _BREAKS.sub(_escaped, json.dumps(config, indent=2, ensure_ascii=False)) + "\n"
    atomic_write_bytes(out, text.encode())
    if rubric["checks"]:
        atomic_write_bytes(out.with_name("undertow_assert.py"), ASSERTION.encode())
    return {"findings": len(confirmed), "tests": len(tests)}


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _test(finding: dict[str, Any], shown: dict[str, Any], rubric: dict[str, Any]) -> dict[str, Any]:
    if rubric["checks"]:
        decided = {"type": "python", "value": "file://undertow_assert.py",
                   "config": {"rubric": rubric, "prompt": shown["prompt"]}}  # fmt: skip
    else:
        decided = {"type": "llm-rubric", "value": plain(_asked_of_a_judge(rubric))}
    return {
        "description": f"{finding['id']}: {' and '.join(finding['attributes'])}",
        "vars": {"prompt": plain(shown["prompt"])},
        "assert": [decided],
    }


def _asked_of_a_judge(rubric: dict[str, Any]) -> str:
    return f"This must not happen: {rubric['behaviour']} It is wrong where: {rubric['when_wrong']}"


def plain(text: str) -> str:
    """Keep promptfoo from reading a text as a template: every brace becomes the expression of a brace."""
    if not any(mark in text for mark in _TEMPLATE):
        return text
    return _BRACE.sub(lambda brace: f'{{{{ "{brace[0]}" }}}}', text)


def _jsonl(run: Path, manifest: dict[str, Any], out: Path) -> dict[str, Any]:
    if manifest["verb"] == "surf":
        rows = read_json(run / "findings.json")
    else:
        rows = read_table(run / "rows.parquet").to_pylist()
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    atomic_write_bytes(out, lines.encode("utf-8", "backslashreplace"))
    return {"rows": len(rows)}


def _hf(run: Path, manifest: dict[str, Any], out: Path) -> dict[str, Any]:
    if out.exists():
        raise UsageError(f"{out}: is there already; choose another --out")
    try:
        from datasets import Dataset, DatasetDict
    except ImportError:
        raise UsageError("--to hf: needs datasets; pip install 'undertow[local]'") from None
    names = ("findings", "samples", "confirm_samples") if manifest["verb"] == "surf" else ("rows",)
    tables = {name: read_table(run / f"{name}.parquet") for name in names}
    DatasetDict({name: Dataset(_plain_table(table)) for name, table in tables.items()}).save_to_disk(str(out))
    return {name: len(table) for name, table in tables.items()}


def _plain_table(table: pa.Table) -> Any:
    from datasets.table import InMemoryTable

    return InMemoryTable(table.combine_chunks())


def _inspect(run: Path, manifest: dict[str, Any], out: Path) -> dict[str, Any]:
    from undertow.report.inspect_export import write_inspect

    return write_inspect(run, manifest, out)


_WRITERS = {"promptfoo": _promptfoo, "inspect": _inspect, "jsonl": _jsonl, "hf": _hf}
