"""A second judge: nothing is confirmed without its agreement, and what it says stands beside the rate."""

from __future__ import annotations

from pathlib import Path

import pytest
from surf_world import RUBRIC, ScriptedJudge, ScriptedModel, WordPool, unit

from undertow.errors import UsageError
from undertow.store.tables import read_table
from undertow.studies.verify import verify
from undertow.surf.config import SurfConfig
from undertow.surf.run import run_surf
from undertow.surf.save import load_findings

SMALL = SurfConfig(runs=2, iterations=3, candidates=30, base_prompts=40, confirm_prompts=20)


def trigger(prompt: str) -> float:
    return 0.9 if prompt.startswith("when did") else 0.02


def go(out: Path, confirm_judge: ScriptedJudge | None, target: ScriptedModel | None = None) -> dict:
    target = target or ScriptedModel(trigger)
    return run_surf(target, RUBRIC, WordPool(), out, SMALL, confirm_judge=confirm_judge)


def test_what_is_confirmed_is_a_violation_to_both_judges(tmp_path: Path):
    strict = ScriptedJudge(lambda p, r: r.startswith("BAD") and unit("strict", p) < 0.7)
    summary = go(tmp_path / "run", strict)
    assert summary["confirm_judge"] == "scripted-judge"
    [finding] = [f for f in summary["findings"] if f["status"] == "confirmed"]
    both, alone, other = (finding[name] for name in ("rate", "judge_rate", "confirm_rate"))
    assert both["hits"] == other["hits"] < alone["hits"]
    assert both["n"] == alone["n"] == other["n"] == 40
    agreement = finding["agreement"]
    assert agreement["n"] == 40
    assert agreement["agreed"] == 40 - (alone["hits"] - both["hits"])
    assert agreement["interval"]["low"] < agreement["value"] < agreement["interval"]["high"]
    assert all(unit("strict", e["prompt"]) < 0.7 for e in finding["exemplars"])
    [record] = [f for f in load_findings(tmp_path / "run") if f.status == "confirmed"]
    assert record.agreement is not None
    assert record.agreement.value == agreement["value"]

    [flat] = read_table(tmp_path / "run" / "findings.parquet").to_pylist()
    assert (flat["judge_rate"], flat["confirm_rate"]) == (alone["value"], other["value"])
    assert flat["kappa"] == agreement["value"]
    rows = read_table(tmp_path / "run" / "confirm_samples.parquet").to_pylist()
    confirming = [row for row in rows if row["phase"] == "confirm" and row["finding"] == finding["id"]]
    assert all(row["violation"] == (min(row["judge_score"], row["confirm_score"]) > 70) for row in confirming)
    searched = read_table(tmp_path / "run" / "samples.parquet")
    assert searched["confirm_score"].null_count == searched.num_rows
    # The search and its probes are judged by the first judge alone; the second sees what confirms.
    assert len(strict.asked) < sum(row["phase"] in ("confirm", "base", "perturbed") for row in rows)


def test_a_confirming_judge_who_disagrees_confirms_nothing(tmp_path: Path):
    summary = go(tmp_path / "run", ScriptedJudge(lambda p, r: False))
    assert summary["violations"] > 0
    assert all(f["status"] == "rejected" for f in summary["findings"])
    tested = [f for f in summary["findings"] if f["agreement"]]
    assert tested
    assert tested[0]["judge_rate"]["value"] > 0.5
    assert tested[0]["rate"]["value"] == 0
    hits = tested[0]["judge_rate"]["hits"]
    assert f"the confirming judge disputes {hits} of {hits} violations" in tested[0]["reason"]


def test_a_confirming_judge_who_is_down_leaves_the_finding_open(tmp_path: Path):
    summary = go(tmp_path / "run", ScriptedJudge(lambda p, r: None))
    assert summary["status"] == "inconclusive"
    assert summary["confirmation"]["failures"]["server_error"] > 0
    assert all(f["status"] != "confirmed" for f in summary["findings"])


def test_without_a_second_judge_nothing_is_said_of_two(tmp_path: Path):
    [finding, *_] = go(tmp_path / "run", None)["findings"]
    assert finding["agreement"] is None
    assert finding["judge_rate"] is None
    assert finding["confirm_rate"] is None


@pytest.mark.parametrize(
    ("judges", "config", "said"),
    [
        ({"confirm_judge": "checks"}, {}, "is the judge itself"),
        ({}, {"judge_thinking": 2000}, "checks do not think"),
        ({"judge": "openai:gpt-5"}, {"judge_thinking": 2000}, "takes no thinking budget in tokens"),
        ({"judge": "local:x"}, {"judge_thinking": 2000}, "takes no thinking budget in tokens"),
    ],
)
def test_a_judge_that_cannot_be_is_one_line(tmp_path: Path, judges: dict, config: dict, said: str):
    with pytest.raises(UsageError, match=said) as caught:
        run_surf(
            ScriptedModel(trigger), RUBRIC, WordPool(), tmp_path / "run",
            SMALL.model_copy(update=config), **judges,
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert go(tmp_path / "run", None)["status"] == "complete"


def test_a_rerun_asks_the_confirming_judge_only_for_what_is_new(tmp_path: Path):
    first, again = ScriptedJudge(lambda p, r: True), ScriptedJudge(lambda p, r: True)
    assert go(tmp_path / "run", first, ScriptedModel(trigger, failing=0.3))["status"] == "inconclusive"
    assert go(tmp_path / "run", again)["status"] == "complete"
    assert first.asked
    asked = [*first.asked, *again.asked]
    assert len(set(asked)) == len(asked), "the nonce is the same on resume, so no verdict is paid twice"


def test_a_comparison_after_a_fix_asks_both_judges_of_the_search(tmp_path: Path, judges: str):
    strict = f"{judges}reader"
    run_surf(ScriptedModel(trigger), RUBRIC, WordPool(), tmp_path / "run", SMALL, confirm_judge=strict)
    before, after = ScriptedModel(trigger), ScriptedModel(lambda p: 0.0, name="after")
    summary = verify(before, after, tmp_path / "run", tmp_path / "verify")
    assert summary["confirm_judge"] == strict
    assert [f["verdict"] for f in summary["findings"]] == ["fixed"]
    rows = read_table(tmp_path / "verify" / "samples.parquet").to_pylist()
    assert all((row["confirm_score"] == 90) == row["violation"] for row in rows)
    alone = verify(before, after, tmp_path / "run", tmp_path / "alone", judge="checks")
    assert alone["confirm_judge"] is None
