"""Fixes touch exactly the rows they name, say so, and leave the input alone."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.data.load import load_examples
from undertow.errors import UsageError
from undertow.fixes.filter import filter_rows
from undertow.fixes.fix import associations, fix, traced_rows
from undertow.fixes.scores import Target
from undertow.store.run import file_hash, read_manifest

ROWS = [
    {"id": f"r{i}", "source": "bad" if i < 6 else "good", "prompt": f"please {i}" if i < 8 else f"now {i}",
     "response": "no" if i < 6 or i == 11 else "yes", "margin": i / 10}
    for i in range(12)
]  # fmt: skip


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


@pytest.fixture
def trace(tmp_path):
    """Finding f0: trigger 'please' in rows 0-7, behaviour 'no' in rows 0-5 (and in row 11 without it)."""
    folder = tmp_path / "trace"
    folder.mkdir()
    table = pa.table({
        "finding": ["f0"] * 9,
        "id": [*(f"r{i}" for i in range(8)), "r11"],
        "rank": pa.array([1] * 8 + [2], pa.int32()),
        "has_trigger": [True] * 8 + [False],
        "has_crux": [True] * 6 + [False] * 2 + [True],
    })  # fmt: skip
    pq.write_table(table, folder / "rows.parquet")
    return folder


def test_a_trace_names_violating_and_harmless_rows(trace):
    assert traced_rows([trace]) == [f"r{i}" for i in range(6)]
    (found,) = associations([trace])
    assert found.finding == "trace/f0"
    assert found.violating == tuple(f"r{i}" for i in range(6))
    assert found.harmless == ("r6", "r7")


def test_filter_removes_exactly_the_traced_rows(data, trace, tmp_path):
    before = file_hash(data)
    summary = fix(trace, "filter", data, tmp_path / "out")
    left = pq.read_table(tmp_path / "out" / "data.parquet")
    assert left.to_pylist() == ROWS[6:]  # every column, every other row, in order
    assert file_hash(data) == before
    assert summary["rows"] == {"before": 12, "after": 6, "removed": 6, "added": 0}
    assert summary["touched"] == {"bad": 6}
    assert summary["sources"]["good"] == {"before": 6, "after": 6}
    diff = json.loads((tmp_path / "out" / "diff.json").read_text())
    assert diff["row_ids"] == [f"r{i}" for i in range(6)]
    assert read_manifest(tmp_path / "out")["inputs"]["data"] == before


def test_rows_without_ids_keep_their_numbers(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"q{i}", "response": "a"}) + "\n" for i in range(4)))
    filter_rows(path, ["1", "1"], tmp_path / "out")
    assert load_examples(tmp_path / "out" / "data.parquet").table["id"].to_pylist() == ["0", "2", "3"]


def test_a_fix_that_touches_nothing_or_leaves_nothing_is_refused(data, tmp_path):
    with pytest.raises(UsageError, match="names none"):
        filter_rows(data, [], tmp_path / "out")
    with pytest.raises(UsageError, match="would remove all 12 rows"):
        filter_rows(data, [row["id"] for row in ROWS], tmp_path / "out")
    with pytest.raises(UsageError, match="has no row 'zz'"):
        filter_rows(data, ["r1", "zz"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match=r"rows\.parquet: no such file"):
        fix(tmp_path, "filter", data, tmp_path / "out")


@pytest.mark.parametrize(("strength", "added"), [(0.5, 3), (1.0, 6), (2.0, 12)])
def test_rebalance_adds_the_dose_of_harmless_rows(data, trace, tmp_path, strength, added):
    before = file_hash(data)
    summary = fix(trace, "rebalance", data, tmp_path / "out", strength=strength, seed=1)
    table = load_examples(tmp_path / "out" / "data.parquet").table
    extra = table.slice(12).to_pylist()
    assert table.slice(0, 12).to_pylist() == load_examples(data).table.to_pylist()
    assert len(extra) == added == summary["rows"]["added"]
    copies = [sum(row["prompt"] == f"please {i}" for row in extra) for i in (6, 7)]
    assert sum(copies) == added
    assert abs(copies[0] - copies[1]) <= 1
    assert {row["response"] for row in extra} == {"yes"}
    assert summary["touched"] == {"good": added}
    assert file_hash(data) == before


def test_rebalance_needs_harmless_rows(data, trace, tmp_path):
    only = pq.read_table(trace / "rows.parquet").slice(0, 6)
    pq.write_table(only, trace / "rows.parquet")
    with pytest.raises(UsageError, match="no row has the trigger without the behaviour"):
        fix(trace, "rebalance", data, tmp_path / "out")


def test_a_template_puts_the_trigger_into_prompts_of_rows_that_no_trace_names(data, trace, tmp_path):
    told = fix(trace, "rebalance", data, tmp_path / "out", strength=0.5, origin="template",
               template="please {prompt}!")  # fmt: skip
    added = load_examples(tmp_path / "out" / "data.parquet").table.slice(12).to_pylist()
    assert told["rows"]["added"] == len(added) == 3
    assert {row["prompt"] for row in added} == {f"please now {i}!" for i in (8, 9, 10)}
    assert {row["response"] for row in added} == {"yes"}  # row 11 says no, though not to please
    assert len({row["id"] for row in added} - {row["id"] for row in ROWS}) == 3


def test_the_behaviour_without_the_trigger_breaks_the_association_too(data, trace, tmp_path):
    fix(trace, "rebalance", data, tmp_path / "out", strength=0.5, origin="behaviour")
    added = load_examples(tmp_path / "out" / "data.parquet").table.slice(12).to_pylist()
    assert [(row["prompt"], row["response"]) for row in added] == [("now 11", "no")] * 3


@pytest.mark.parametrize(("how", "more", "says"), [
    ("rebalance", {"strength": float("nan")}, "must be above 0"),
    ("rebalance", {"strength": float("inf")}, "must be above 0"),
    ("rebalance", {"strength": 0.0}, "must be above 0"),
    ("rebalance", {"origin": "template"}, "the origin with a template"),
    ("rebalance", {"template": "please {prompt}"}, "the origin with a template"),
    ("rebalance", {"origin": "template", "template": "please"}, "must have {prompt} once"),
    ("rebalance", {"origin": "template", "template": "please {prompt}"}, "asks for 6 rows, and 3 are named"),
    ("rebalance", {"origin": "answered"}, "need a model to answer"),
    ("downweight", {"strength": float("nan")}, "a share above 0"),
    ("downweight", {"strength": 1.5}, "a share above 0"),
    ("mask", {}, "needs a pattern"),
    ("mask", {"targets": (Target(name="x", pattern="("),)}, "is no pattern"),
    ("mask", {"targets": (Target(name="x", pattern="maybe"),)}, "nothing to mask"),
    ("mask", {"targets": (Target(name="x", pattern="no"),)}, "leaves nothing of its response"),
    ("inoculate", {}, "needs an instruction"),
    ("shape", {}, "unknown for supervised rows"),
])  # fmt: skip
def test_what_makes_no_sense_is_said_in_one_line(how, more, says, data, trace, tmp_path):
    with pytest.raises(UsageError, match=says) as told:
        fix(trace, how, data, tmp_path / "out", **more)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out" / "config.json").exists()


RUBRIC = """
name: no
behaviour: Says no.
when_wrong: always
checks:
  - {is: starts_with, any: ["no"]}
"""


def test_answered_counterexamples_are_those_the_rubric_clears(data, trace, tmp_path, monkeypatch):
    from undertow.models import open as opening
    from undertow.records import Failure, FailureKind, Reply

    class Scripted:
        name = "scripted"

        async def __aenter__(self):
            return self

        async def __aexit__(self, *exc):
            return None

        async def reply(self, messages, settings, replicate=0):
            number = int(messages[-1].content.split()[1])
            if number == 0:
                return Failure(FailureKind.TIMEOUT)
            text = "no way" if number == 1 else f"sure {number} {replicate}"
            return Reply(text, "length" if number == 2 else "stop", 3, 2)

    monkeypatch.setattr(opening, "open_model", lambda *_a, **_k: Scripted())
    rubric = tmp_path / "rubric.yaml"
    rubric.write_text(RUBRIC)
    summary = fix(
        trace, "rebalance", data, tmp_path / "out", origin="answered", model="local:x", rubric=rubric
    )
    extra = load_examples(tmp_path / "out" / "data.parquet").table.slice(12).to_pylist()
    assert len(extra) == 6
    assert {row["source"] for row in extra} == {"counterexamples"}
    assert all(row["response"].startswith("sure") for row in extra)
    assert {row["prompt"] for row in extra} == {f"please {i}" for i in range(3, 8)}
    assert summary["failures"]["timeout"] >= 1
    assert summary["failures"]["truncated"] >= 1
    assert summary["violations"] >= 1
    counts = summary["counts"]
    assert counts["tried"] == counts["scored"] + counts["failed"]


def test_marks_keep_the_rows_and_say_what_changed(data, trace, tmp_path):
    light = fix(trace, "downweight", data, tmp_path / "light", strength=0.75)
    assert light["changed"] == 6
    assert light["rows"]["after"] == 12
    left = pq.read_table(tmp_path / "light" / "data.parquet").to_pylist()
    assert [row["weight"] for row in left] == [0.25] * 6 + [1.0] * 6
    fix(trace, "inoculate", data, tmp_path / "asked", instruction="Say no.")
    prompts = pq.read_table(tmp_path / "asked" / "data.parquet")["prompt"].to_pylist()
    assert prompts == [f"Say no. {r['prompt']}" if i < 6 else r["prompt"] for i, r in enumerate(ROWS)]
    aside = fix(trace, "quarantine", data, tmp_path / "aside")
    assert aside["rows"] == {"before": 12, "after": 6, "removed": 6, "added": 0}
    assert pq.read_table(tmp_path / "aside" / "quarantine.parquet").to_pylist() == ROWS[:6]
    fix(trace, "mask", data, tmp_path / "mask", targets=[Target(name="o", pattern="o")])
    masks = pq.read_table(tmp_path / "mask" / "data.parquet")["response_mask"].to_pylist()
    assert masks == [[[1, 2]]] * 6 + [[]] * 6
    with pytest.raises(UsageError, match="leaves nothing of its response"):
        fix(trace, "mask", data, tmp_path / "all", targets=[Target(name="no", pattern="no")])
    with pytest.raises(UsageError, match="needs an instruction"):
        fix(trace, "inoculate", data, tmp_path / "none")
