"""Exports are read back by the tools they are for, hostile text in them stays text."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from undertow.errors import UsageError
from undertow.judging.rubric import load_rubric
from undertow.report.export import export, plain
from undertow.store.run import RunDir
from undertow.store.tables import atomic_write_json, write_table

HOSTILE = "{{ env.SECRET }} {% endraw %}{# x #} : - 'quoted' \"x\"\n# no: list\u2028"


def searched(out: Path, prompt: str = "A formal letter?", rubric: str = "code") -> Path:
    import pyarrow as pa

    run = RunDir.open(out, "surf", {"rubric": load_rubric(rubric).model_dump(mode="json")})
    finding = {
        "id": "code-0", "rubric": rubric, "attributes": ["The query is formal"], "status": "confirmed",
        "exemplars": [{"prompt": prompt, "response": "def f(): ..."}],
    }  # fmt: skip
    atomic_write_json(run.file("findings.json"), [finding, {**finding, "id": "code-1", "status": "rejected"}])
    for name in ("findings", "samples", "confirm_samples"):
        write_table(pa.table({"id": ["a"], "prompt": [prompt]}), run.file(f"{name}.parquet"))
    run.finish("complete", {})
    return out


@pytest.mark.parametrize("prompt", ["A formal letter?", HOSTILE])
def test_promptfoo_gets_a_test_of_each_exemplar_that_the_rubric_decides(tmp_path: Path, prompt: str):
    out = tmp_path / "tests.yaml"
    assert export(searched(tmp_path / "run", prompt), "promptfoo", out)["tests"] == 1
    [test] = yaml.safe_load(out.read_text())["tests"]
    [assertion] = test["assert"]
    spec = importlib.util.spec_from_file_location("asserted", tmp_path / "undertow_assert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = {"config": assertion["config"], "vars": {}}
    code = "```python\ndef f():\n    return 1\n```"
    assert module.get_assert(code, context)["pass"] is False
    assert module.get_assert("Dear Sir or Madam,", context)["pass"] is True
    assert assertion["config"]["prompt"] == prompt


def test_a_template_in_a_prompt_is_shown_and_not_run():
    jinja2 = pytest.importorskip("jinja2")  # nunjucks' syntax
    for text in (HOSTILE, "{{ 7 * 7 }}", "{% raw %}", "plain {text}"):
        assert jinja2.Environment().from_string(plain(text)).render() == text


@pytest.mark.skipif(shutil.which("promptfoo") is None, reason="needs npm's promptfoo on the path")
@pytest.mark.parametrize("prompt", ["A formal letter?", HOSTILE])
def test_promptfoo_takes_the_file_and_runs_it(tmp_path: Path, prompt: str):
    export(searched(tmp_path / "run", prompt), "promptfoo", tmp_path / "promptfooconfig.yaml")
    quiet = {f"PROMPTFOO_DISABLE_{what}": "1" for what in ("TELEMETRY", "UPDATE")}
    quiet |= {"PROMPTFOO_PYTHON": sys.executable, "PROMPTFOO_CONFIG_DIR": str(tmp_path / "config")}
    for verb in (["validate"], ["eval", "--no-cache", "-o", "out.json"]):
        command = ["promptfoo", *verb, "-c", "promptfooconfig.yaml"]
        ran = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **quiet}, capture_output=True, timeout=120
        )
        assert ran.returncode == 0, ran.stdout.decode()
    [result] = json.loads((tmp_path / "out.json").read_text())["results"]["results"]
    assert result["success"]
    assert result["response"]["output"] == prompt  # of the provider that echoes


def test_datasets_loads_the_folder(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    export(searched(tmp_path / "run"), "hf", tmp_path / "hf")
    loaded = datasets.load_from_disk(str(tmp_path / "hf"))
    assert set(loaded) == {"findings", "samples", "confirm_samples"}
    assert loaded["samples"][0]["prompt"] == "A formal letter?"
    with pytest.raises(UsageError, match="already"):
        export(tmp_path / "run", "hf", tmp_path / "hf")


def test_datasets_loads_traced_rows(tmp_path: Path):
    import pyarrow as pa

    datasets = pytest.importorskip("datasets")
    run = RunDir.open(tmp_path / "trace", "trace", {})
    rows = [{"id": f"row-{i}", "prompt": HOSTILE, "has_trigger": i > 0} for i in range(3)]
    write_table(pa.Table.from_pylist(rows), run.file("rows.parquet"))
    run.finish("complete", {})
    assert export(tmp_path / "trace", "hf", tmp_path / "hf")["rows"] == 3
    assert datasets.load_from_disk(str(tmp_path / "hf"))["rows"].to_list() == rows
    assert export(tmp_path / "trace", "jsonl", tmp_path / "rows.jsonl")["rows"] == 3


def test_lines_hold_every_finding(tmp_path: Path):
    export(searched(tmp_path / "run", HOSTILE), "jsonl", tmp_path / "f.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().split("\n") if line]
    assert [row["id"] for row in rows] == ["code-0", "code-1"]
    assert rows[0]["exemplars"][0]["prompt"] == HOSTILE


def test_what_cannot_be_exported_is_told(tmp_path: Path):
    RunDir.open(tmp_path / "index", "index", {}).finish("complete", {})
    with pytest.raises(UsageError, match="give a search or a trace"):
        export(tmp_path / "index", "jsonl", tmp_path / "x")
