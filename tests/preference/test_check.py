"""Predicted against observed: a model that did what its pairs reward, and one whose margin did not move."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from undertow.cli.app import main
from undertow.lab.pairs import draw_pairs, write_pairs
from undertow.preference.config import AuditConfig, PrefsConfig
from undertow.preference.run import audit_preferences
from undertow.store.tables import read_table, write_table


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    data = write_pairs(folder, draw_pairs("paper", 0, 2000))
    audit_preferences(data, folder / "run", PrefsConfig(embedding=False, audit=AuditConfig(null_draws=20)))
    fresh = draw_pairs("paper", 9, 1000).table
    for name, column in (("before", "rejected"), ("after", "chosen")):
        rows = pa.table({"prompt": fresh["prompt"], "response": fresh[column]})
        write_table(rows, folder / f"{name}.parquet")
    for name, after in (("moved", 1.5), ("still", 0.0)):
        (folder / name).mkdir()
        (folder / name / "summary.json").write_text(json.dumps({"margin": {"before": 0.0, "after": after}}))
    return folder


def check(folder, training, after="after", *more):
    files = [str(folder / f"{name}.parquet") for name in ("before", after)]
    return main(
        ["prefs", "check", *files, "--run", str(folder / "run"), "--training", str(folder / training), *more]
    )


def test_a_model_that_learned_the_pairs_shifts_as_predicted(runs, capsys):
    assert check(runs, "moved", "after", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["audit"]["spearman"] > 0.7
    assert told["audit"]["r2"] > told["length_only"]["r2"]
    assert told["audit"]["sign_accuracy"] > 0.8
    assert told["margin"] == {"before": 0.0, "after": 1.5}
    low, high = told["audit"]["interval"]
    assert low <= told["audit"]["spearman"] <= high
    low, high = told["better"]
    assert low <= told["audit"]["spearman"] - told["length_only"]["spearman"] <= high
    assert told["audit"]["n"] == len(told["concepts"]) < 40, "what nothing shows is not compared"
    assert {"bold", "table", "bullet"} <= {concept["name"] for concept in told["concepts"]}


def test_an_empty_answer_is_left_out_with_its_counterpart_and_counted(runs, capsys):
    table = read_table(runs / "after.parquet")
    texts = ["" if i in (3, 4) else text for i, text in enumerate(table["response"].to_pylist())]
    write_table(pa.table({"prompt": table["prompt"], "response": texts}), runs / "gaps.parquet")
    assert check(runs, "moved", "gaps", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pairs"] == 998
    assert told["left_out"] == {"empty answer": 2}


def test_a_training_whose_margin_did_not_move_is_no_test(runs, capsys):
    assert check(runs, "still") == 2
    assert "margin did not rise" in capsys.readouterr().err


def test_other_prompts_are_refused(runs, capsys):
    write_table(pa.table({"prompt": ["What?"], "response": ["That."]}), runs / "other.parquet")
    assert check(runs, "moved", "other") == 2
    assert "prompts are not those" in capsys.readouterr().err
