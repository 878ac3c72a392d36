from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from undertow.errors import UsageError
from undertow.judging.calibrate import Spending, calibrate
from undertow.judging.labels import read_labels
from undertow.judging.rubric import Rubric
from undertow.models.base import Settings
from undertow.records import Failure, FailureKind, Finding, Message, Reply
from undertow.stats.intervals import rate
from undertow.store.run import RunDir
from undertow.store.tables import atomic_write_json, read_table, to_jsonable

SERVERS = Path(__file__).parents[1] / "servers"
RUBRIC = Rubric.model_validate(
    {
        "name": "bad", "behaviour": "Says BAD.", "when_wrong": "Always.",
        "checks": [{"is": "contains", "any": ["BAD"]}],
    }
)  # fmt: skip


def labels(folder: Path) -> Path:
    """40 violations, of which the checks see 30, and 60 others, of which they accuse 6."""
    lines = [
        {
            "prompt": f"p{i}", "response": f"{'BAD' if i < 30 or 40 <= i < 46 else 'fine'} {i}",
            "label": int(i < 40), "rater_a": int(i < 40), "rater_b": "" if i % 2 else int(i < 20),
        }
        for i in range(100)
    ]  # fmt: skip
    path = folder / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


class Model:
    """Calls a violation what is labelled one; fails on the numbers it is told."""

    def __init__(self, failing: Sequence[int] = (), name: str = "model") -> None:
        self.failing = failing
        self.name = name
        self.asked = 0

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        self.asked += 1
        asked = messages[-1].content
        nonce = asked.split("The nonce is ")[1].split(".")[0]
        number = int(asked.split(f"<<<prompt {nonce}\np")[1].split("\n")[0])
        if number in self.failing:
            return Failure(FailureKind.SERVER_ERROR, "503")
        score = 90 if number < 40 else 10
        return Reply(json.dumps({"nonce": nonce, "reason": "r", "score": score}), "stop", 10, 5, 0.001)


def test_a_calibration_says_how_judges_err_and_corrects_by_it(tmp_path: Path) -> None:
    model = Model(failing=[0, 99])
    summary = calibrate(RUBRIC, tmp_path / "out", labels(tmp_path), ["checks", model], rate=rate(240, 500))
    assert summary["status"] == "complete"
    checks, judge = summary["judges"]
    assert checks["confusion"] == {"tp": 30, "fn": 10, "fp": 6, "tn": 54}
    assert checks["sensitivity"]["value"] == 0.75
    assert checks["specificity"]["value"] == 0.9
    assert checks["sensitivity"]["interval"]["low"] == pytest.approx(0.598, abs=1e-3)
    assert checks["kappa"]["value"] == pytest.approx((0.84 - 0.528) / (1 - 0.528))
    assert checks["corrected"]["value"] == pytest.approx((0.48 + 0.9 - 1) / (0.75 + 0.9 - 1))
    assert checks["corrected"]["interval"]["low"] < 0.55
    assert (judge["n"], judge["failed"], judge["failures"]) == (98, 2, {"server_error": 2})
    assert judge["kappa"]["value"] == 1
    assert judge["corrected"]["value"] == pytest.approx(0.48)
    assert summary["failures"] == {"server_error": 2}
    assert [rater["n"] for rater in summary["raters"]] == [100, 50]
    assert 0 < summary["alpha"]["value"] < 1
    assert summary["alpha"]["interval"]["low"] < summary["alpha"]["value"]
    rows = read_table(tmp_path / "out" / "judgements.parquet").to_pylist()
    assert len(rows) == 200
    assert sum(row["violation"] is None for row in rows) == 2

    again = Model()
    rerun = calibrate(RUBRIC, tmp_path / "out", labels(tmp_path), ["checks", again], rate=rate(240, 500))
    assert rerun == summary
    assert again.asked == 0


def test_too_many_failures_are_inconclusive_and_a_rerun_asks_for_them_alone(tmp_path: Path) -> None:
    down = Model(failing=range(50))
    assert calibrate(RUBRIC, tmp_path / "out", labels(tmp_path), [down])["status"] == "inconclusive"
    healed = Model()
    assert calibrate(RUBRIC, tmp_path / "out", labels(tmp_path), [healed])["status"] == "complete"
    assert healed.asked == 50


def test_a_judge_no_better_than_chance_corrects_nothing(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("prompt,response,label\na,BAD,no\nb,BAD,yes\nc,fine,NO\nd,fine,Yes\n")
    [judge] = calibrate(RUBRIC, tmp_path / "out", path, rate=rate(1, 4))["judges"]
    assert judge["corrected"]["value"] is None
    assert "no better than chance" in judge["corrected"]["reason"]


def search(
    folder: Path, judge: str = "checks", confirm_judge: str | None = None, judge_thinking: int | None = None
) -> Path:
    measured = rate(24, 40)
    finding = Finding("bad-1", "bad", "b", ("The query x",), "confirmed", measured, None, rate(4, 80), 0, ())
    lost = Finding("bad-2", "bad", "b", ("The query y",), "rejected", rate(1, 40), None, None, 0, ())
    config = {
        "rubric": RUBRIC.model_dump(mode="json"),
        "judge": judge,
        "confirm_judge": confirm_judge,
        "judge_thinking": judge_thinking,
    }
    run = RunDir.open(folder / "search", "surf", config)
    atomic_write_json(run.file("findings.json"), to_jsonable([finding, lost]))
    run.finish("complete", {})
    return folder / "search"


def test_the_rates_of_a_search_are_corrected_by_the_judge_that_it_used(tmp_path: Path) -> None:
    found = calibrate(RUBRIC, tmp_path / "out", labels(tmp_path), run=search(tmp_path))["findings"]
    [finding] = found
    assert finding["finding"] == "bad-1"
    assert finding["rate"]["value"] == pytest.approx((0.6 + 0.9 - 1) / 0.65)
    assert finding["rate"]["observed"]["value"] == 0.6
    assert finding["base_rate"]["value"] == 0
    assert finding["control_rate"] is None
    assert json.loads((tmp_path / "out" / "corrected.json").read_text()) == found


def test_with_two_judges_a_search_is_corrected_by_what_both_say(tmp_path: Path) -> None:
    run = search(tmp_path, confirm_judge="model")
    with pytest.raises(UsageError, match="--judge model"):
        calibrate(RUBRIC, tmp_path / "out", labels(tmp_path), ["checks"], run=run)
    [found] = calibrate(RUBRIC, tmp_path / "out", labels(tmp_path), ["checks", Model()], run=run)["findings"]
    # Both: sensitivity 0.75 of the checks, specificity 1 of the model.
    assert found["rate"]["value"] == pytest.approx(0.6 / 0.75)


def test_a_judge_that_thought_otherwise_in_the_search_corrects_nothing(tmp_path: Path) -> None:
    run = search(tmp_path, judge="model", judge_thinking=4000)
    with pytest.raises(UsageError, match="--thinking 4000"):
        calibrate(RUBRIC, tmp_path / "out", labels(tmp_path), [Model()], run=run)


def test_a_budget_that_is_spent_leaves_the_calibration_open(tmp_path: Path, judges: str) -> None:
    spec = f"{judges}reader"
    few = calibrate("code", tmp_path / "out", judges=[spec], spending=Spending(max_calls=5))
    assert few["status"] == "inconclusive"
    assert few["judges"][0]["n"] == 4, "the first call is the question whether the model is there"
    assert few["failures"] == {"budget": few["counts"]["failed"]}
    assert calibrate("code", tmp_path / "out", judges=[spec])["status"] == "complete"
    with pytest.raises(UsageError, match="no price is known"):
        calibrate("code", tmp_path / "other", judges=[spec], spending=Spending(max_cost=1.0))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.csv", "prompt,response\na,b\n", "row 1: no label"),
        ("l.csv", "prompt,label\na,1\n", "row 1: no text under 'response'"),
        ("l.csv", "prompt,response,label\na,b,1\na,b,maybe\n", "row 2: label 'maybe' is no label"),
        ("l.jsonl", '{"prompt": "a", "response": "b", "label": 1}\n{"prompt"\n', "line 2: not JSON"),
        ("l.jsonl", "[1]\n", "line 1: no object"),
        ("l.csv", "prompt,response,label,messages\na,b,1,[3]]\n", "row 1: messages: no list"),
        ("l.csv", 'prompt,response,label,messages\na,b,1,"[3, 4]"\n', "row 1: messages: no list"),
        ("l.jsonl", "", "empty"),
        ("l.txt", "x", "unknown format"),
    ],
)
def test_bad_labels_are_one_line_with_the_place(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError, match=said) as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    import pyarrow as pa

    from undertow.store.tables import write_table

    rows = [{"prompt": "a\nb", "response": "ü", "label": True, "rater1": False},
            {"prompt": "c", "response": "d", "label": False, "rater1": None}]  # fmt: skip
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "l.csv").write_text('prompt,response,label,rater1\n"a\nb",ü,violation,0\nc,d,no violation,\n')
    write_table(pa.Table.from_pylist(rows), tmp_path / "l.parquet")
    found = [read_labels(tmp_path / f"l.{kind}") for kind in ("jsonl", "csv", "parquet")]
    assert found[0] == found[1] == found[2]
    assert [dict(e.raters) for e in found[0]] == [{"rater1": False}, {"rater1": None}]


def test_a_table_of_samples_is_read_with_the_turns_before_the_prompt(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"},
             {"role": "user", "content": "a"}]  # fmt: skip
    row = {"prompt": "a", "response": "b", "label": 1, "messages": json.dumps(turns)}
    (tmp_path / "l.jsonl").write_text(json.dumps(row))
    [found] = read_labels(tmp_path / "l.jsonl")
    assert found.history == (Message("user", "hi"), Message("assistant", "yes?"))


def test_the_verb_prints_json_and_exits_by_the_rules(tmp_path: Path) -> None:
    def undertow(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "undertow", "calibrate", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    done = undertow("code", "--out", str(tmp_path / "a"), "--rate", "12/40", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "a" / "summary.json").read_text())
    wrong = undertow("code", "--out", str(tmp_path / "b"), "--rate", "12 of 40")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    keyless = undertow("analytic", "--out", str(tmp_path / "c"))
    assert keyless.returncode == 2
    assert "--judge MODEL" in keyless.stderr
    assert not list((tmp_path / "c").glob("*.json"))


async def test_a_killed_calibration_goes_on_and_pays_once(tmp_path: Path) -> None:
    import fault_server

    def start(out: Path, url: str) -> subprocess.Popen[bytes]:
        judge = ("--judge", f"openai-compatible:{url}/v1#reader", "--judge", "checks", "--concurrency", "2")
        command = [sys.executable, "-m", "undertow", "calibrate", "code", "--out", str(out), *judge]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    server = str(SERVERS / "judge_server.py")
    with fault_server.running("--latency", "0.1", script=server) as url:
        assert start(tmp_path / "calm", url).wait(60) == 0
        calm = (await fault_server.stats(url))["calls"]
        child = start(tmp_path / "killed", url)
        while (await fault_server.stats(url))["calls"] < calm + 8:
            assert child.poll() is None
            await asyncio.sleep(0.01)
        child.kill()
        child.wait()
        assert not (tmp_path / "killed" / "manifest.json").exists()
        assert start(tmp_path / "killed", url).wait(60) == 0
        counted = await fault_server.stats(url)
    # The two in flight, and the question of the preflight, which every start asks.
    assert counted["twice"] <= 3
    assert counted["calls"] <= 2 * calm + 3
    same = ("judges", "alpha", "counts", "failures")
    one, other = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("calm", "killed"))
    assert [one[key] for key in same] == [other[key] for key in same]
    assert one["judges"][0]["confusion"]["tp"] > 0
