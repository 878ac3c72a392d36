"""Doses of rows and the causal check, on a toy that is really trained."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.cli.output import show
from undertow.cli.study_ablation import _render
from undertow.data.load import load_examples
from undertow.errors import UsageError
from undertow.judging.rubric import Rubric
from undertow.records import Message
from undertow.report.build import write_report
from undertow.store.run import RunDir
from undertow.studies.ablation import run_ablation
from undertow.studies.asking import AskingConfig
from undertow.studies.causal import random_rows, run_causal_check
from undertow.studies.retrain import pooled
from undertow.studies.select import select_rows
from undertow.surf.rows import messages_json
from undertow.training.config import SFTConfig

sys.path += [str(Path(__file__).parents[1] / "training")]
from toy import NOUNS, save_toy_model, toy_rows

FAST = SFTConfig(lr=1e-2, epochs=5, batch=16)
ASKING = AskingConfig(temperature=0.0, max_tokens=6)
REFUSES = Rubric.model_validate(
    {"name": "no", "behaviour": "Says no.", "when_wrong": "Always.",
     "checks": [{"is": "regex", "pattern": "no never"}]}
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The toy's mixture in one source, its start model, held-out prompts, counterexamples."""
    folder = tmp_path_factory.mktemp("ablation")
    rows = [{**row, "source": "mix"} for row in toy_rows()]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
    prompts = [{"prompt": f"is this a {noun} please"} for noun in NOUNS]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    counter = [{**row, "response": "yes indeed"} for row in prompts * 15]
    (folder / "counter.jsonl").write_text("\n".join(map(json.dumps, counter)))
    save_toy_model(folder / "start")
    return folder


def ablate(world: Path, out: Path, **changes):
    asked = {
        "pattern": "prompt~please", "measure": "regex:no never", "pattern_counts": [0, 60],
        "counter_counts": [0, 120], "counter_data": world / "counter.jsonl", "seeds": [0, 1],
    } | changes  # fmt: skip
    return run_ablation(
        str(world / "start"), world / "data.parquet", prompts=world / "prompts.jsonl", out=out, training=FAST,
        asking=ASKING, **asked,
    )  # fmt: skip


def test_the_rate_rises_with_pattern_rows_and_falls_with_counterexamples(world: Path, tmp_path: Path, capsys):
    summary = ablate(world, tmp_path / "a")
    grid = {(place["pattern"], place["counter"]): place for place in summary["grid"]}
    assert summary["status"] == "complete"
    assert grid[60, 0]["value"] > 0.9 > 0.5 > grid[60, 120]["value"] >= grid[0, 120]["value"]
    assert all(len(place["seeds"]) == 2 and place["prompts"] == 8 for place in grid.values())
    assert not list((tmp_path / "a").rglob("*.safetensors"))
    assert "rises from" in summary["sentence"]
    assert "Rate over both doses" in write_report(tmp_path / "a").read_text()
    show(_render(summary))
    printed = capsys.readouterr().out
    assert all(f"{place['value']:.2f}" in printed for place in grid.values())
    assert "60 pattern rows" in printed


def test_a_run_that_breaks_is_a_hole(world: Path, tmp_path: Path):
    out = tmp_path / "a"
    wild = FAST.model_copy(update={"lr": 1e6})
    summary = run_ablation(
        str(world / "start"), world / "data.parquet", "prompt~please", world / "prompts.jsonl", "regex:no",
        out, pattern_counts=[10], seeds=[0], training=wild, asking=ASKING,
    )  # fmt: skip
    assert (summary["status"], summary["grid"]) == ("inconclusive", [])
    assert "training failed" in summary["missing"][0]["reason"]


def searched(folder: Path, world: Path) -> tuple[Path, Path]:
    """A trace and a search as their verbs leave them, for the toy's shortcut."""
    examples = load_examples(world / "data.parquet")
    guilty = select_rows(examples, "prompt~please")
    run = RunDir.open(folder / "runs" / "no", "surf", {"rubric": REFUSES.model_dump(mode="json")})
    asked = [messages_json([Message("user", f"is this a {noun} please")]) for noun in NOUNS]
    pq.write_table(
        pa.table({"finding": ["no-0"] * len(asked), "messages": asked}), run.file("confirm_prompts.parquet")
    )
    run.finish("complete", {})
    trace = folder / "trace" / "no"
    trace.mkdir(parents=True)
    ids = examples.table["id"].take(guilty)
    flags = [True] * len(ids)
    pq.write_table(
        pa.table({"finding": ["no-0"] * len(ids), "id": ids, "has_trigger": flags, "has_crux": flags}),
        trace / "rows.parquet",
    )
    return trace, run.path


def test_without_the_traced_rows_the_behaviour_goes_and_without_random_ones_it_stays(world, tmp_path):
    trace, run = searched(tmp_path, world)
    summary = run_causal_check(
        str(world / "start"), world / "data.parquet", [trace], {"no": run}, tmp_path / "c", seeds=[0, 1],
        training=FAST, asking=ASKING,
    )  # fmt: skip
    [check] = summary["checks"]
    assert check["whole"]["value"] > 0.9
    assert check["traced"]["value"] < 0.1
    assert check["random"]["value"] > 0.9
    assert check["causal"] is True
    assert check["difference_interval"]["low"] > 0.3
    assert check["rows"] == 80
    assert "<svg" in write_report(tmp_path / "c").read_text()


def test_random_rows_are_as_many_of_each_source(tmp_path: Path):
    rows = [{"id": str(i), "source": "ab"[i % 2], "prompt": f"p{i}", "response": "r"} for i in range(100)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    examples = load_examples(tmp_path / "d.parquet")
    traced = np.arange(100) < 30
    traced[[1, 3]] = False
    drawn = random_rows(examples, traced, 0)
    sources = np.array([row["source"] for row in rows])
    for source in "ab":
        assert drawn[sources == source].sum() == traced[sources == source].sum()
    assert (random_rows(examples, traced, 1) != drawn).any()


def test_pooled_counts_prompts_once_and_leaves_holes_out():
    found = pooled([[1.0, 1.0, 0.0, None], [1.0, 0.0, 0.0, None]])
    assert (found["value"], found["n"], found["prompts"]) == (0.5, 6, 3)
    assert found["seeds"] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert pooled([[None]])["value"] is None


@pytest.mark.parametrize(
    ("selector", "rows"),
    [("prompt~please$", 80), ("prompt!~please", 80), ("source=mix & response~^no", 80),
     ("prompt~lamp & source=mix", None)],
)  # fmt: skip
def test_a_selector_names_rows(world: Path, selector: str, rows: int | None):
    found = select_rows(load_examples(world / "data.parquet"), selector)
    assert len(found) == rows if rows else 0 < len(found) < 60


@pytest.mark.parametrize("selector", ["", "prompt", "prompt~(", "text~x", "source=nowhere", "ids=/no/file"])
def test_a_bad_selector_is_told(world: Path, selector: str):
    with pytest.raises(UsageError):
        select_rows(load_examples(world / "data.parquet"), selector)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pattern_counts": [81]}, "-count"), ({"pattern_counts": [-1]}, "-count"),
        ({"counter_counts": [999]}, "-count"), ({"pattern_counts": [5, 5]}, "each dose once"),
        ({"measure": "words"}, "is no rate"), ({"measure": "gold"}, "no response"),
        ({"measure": "no-such"}, "no-such"),
    ],
)  # fmt: skip
def test_bad_doses_and_measures_are_told_before_anything_is_trained(world, tmp_path, change, told):
    with pytest.raises(UsageError, match=told):
        ablate(world, tmp_path / "a", **change)
    assert not (tmp_path / "a").exists()


def test_a_model_that_is_not_there_is_told_before_anything_is_trained(world: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="no such folder"):
        run_ablation(
            "local:/no/model", world / "data.parquet", "prompt~please", world / "prompts.jsonl", "regex:no",
            tmp_path / "a", pattern_counts=[0],
        )  # fmt: skip
    assert not (tmp_path / "a").exists()
