"""The gate over run directories as the verbs write them; what is missing never passes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest

from undertow.cli import main
from undertow.errors import UsageError
from undertow.stats.intervals import rate
from undertow.store.run import RunDir
from undertow.store.tables import atomic_write_json, to_jsonable
from undertow.studies.gate import gate

WORST = '\x00 <b>"quoted"</b> \u202e ]]> \ud800'


def searched(out: Path, findings=(), base=(4, 120), status="complete", rubric="code", failed=0) -> Path:
    """A finished search with findings of (trigger, hits, n, status)."""
    run = RunDir.open(out, "surf", {"rubric": {"name": rubric}})
    told = [
        {"id": f"{rubric}-{k}", "rubric": rubric, "behaviour": "Writes code.", "attributes": [trigger],
         "status": word, "rate": {**to_jsonable(rate(hits, n)), "value": hits / n}, "control_rate": None,
         "base_rate": None, "failed": 0, "exemplars": [], "reason": ""}
        for k, (trigger, hits, n, word) in enumerate(findings)
    ]  # fmt: skip
    atomic_write_json(run.file("findings.json"), told)
    counts = {"tried": 100, "scored": 100 - failed, "failed": failed}
    run.finish(status, {"rubric": rubric, "base_rate": rate(*base), "counts": counts})
    return out


FORMAL = ("The query is formal", 70, 80, "confirmed")


def test_equal_runs_pass(tmp_path: Path):
    old, new = (searched(tmp_path / name, [FORMAL]) for name in ("old", "new"))
    summary = gate(new, old)
    assert (summary["verdict"], summary["status"], len(summary["cases"])) == ("pass", "complete", 2)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (("The query is formal", 10, 80, "confirmed"), FORMAL, "fail"),
        (("The query is formal", 2, 80, "rejected"), FORMAL, "fail"),
        (("Another trigger", 60, 80, "confirmed"), FORMAL, "fail"),
        (("The query is formal", 66, 80, "confirmed"), FORMAL, "pass"),
        (FORMAL, ("The query is formal", 3, 80, "rejected"), "pass"),
    ],
)
def test_a_rise_that_is_no_noise_fails(tmp_path: Path, before, after, verdict):
    old, new = searched(tmp_path / "old", [before]), searched(tmp_path / "new", [after])
    assert gate(new, old)["verdict"] == verdict


def test_what_is_allowed_is_let_through_and_the_base_rate_is_a_case(tmp_path: Path):
    old, new = searched(tmp_path / "old"), searched(tmp_path / "new", base=(60, 120))
    assert gate(new, old)["verdict"] == "fail"
    assert gate(new, old, allow=0.6)["verdict"] == "pass"


@pytest.mark.parametrize("which", ["old", "new"])
def test_too_many_failures_never_pass(tmp_path: Path, which: str):
    runs = {
        name: searched(tmp_path / name, status="inconclusive" if name == which else "complete", failed=40)
        for name in ("old", "new")
    }
    summary = gate(runs["new"], runs["old"])
    assert (summary["verdict"], summary["status"]) == ("inconclusive", "inconclusive")
    assert "40 of 100" in summary["cases"][0]["reason"]


def test_the_verb_exits_and_writes_junit(tmp_path: Path, capsys):
    old = searched(tmp_path / "old")
    new = searched(tmp_path / "new", [(WORST.replace("\ud800", ""), 70, 80, "confirmed")])
    code = main(["gate", str(new), "--baseline", str(old), "--junit", str(tmp_path / "g.xml"), "--json"])
    assert code == 10
    assert json.loads(capsys.readouterr().out)["verdict"] == "fail"
    suite = xml.parse(tmp_path / "g.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert len(suite.findall("testcase/failure")) == 1
    assert "<b>" in suite.findall("testcase")[1].get("name")
    assert main(["gate", str(old), "--baseline", str(old)]) == 0


def test_runs_of_different_kinds_are_told(tmp_path: Path):
    old = searched(tmp_path / "old")
    with pytest.raises(UsageError, match="only one of them"):
        gate(searched(tmp_path / "other", rubric="story"), old)
    RunDir.open(tmp_path / "trace", "trace", {}).finish("complete", {})
    with pytest.raises(UsageError, match="a gate needs"):
        gate(tmp_path / "trace", old)
    with pytest.raises(UsageError, match="--allow"):
        gate(old, old, allow=2)
