"""Shift, grid, context and robustness over a real server process and real tiny weights."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from undertow.errors import UsageError
from undertow.records import Message
from undertow.report.build import write_report
from undertow.store.tables import read_table
from undertow.studies.asking import AskingConfig, Question
from undertow.studies.context import preceded, run_context
from undertow.studies.grid import axis, fill, run_grid
from undertow.studies.robustness import run_robustness
from undertow.studies.shift import run_shift
from undertow.studies.transforms import RULES, open_transform

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / folder) for folder in ("servers", "surf", "models")]

import fault_server  # noqa: E402

QUESTIONS = [f"How many boats are in harbour {n}?" for n in range(20)]
CONFIG = AskingConfig(replicates=2, seed=1)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": q, "response": "7"}) + "\n" for q in QUESTIONS))
    return path


@pytest.fixture
def echo():
    with fault_server.running() as url:
        yield f"openai-compatible:{url}/v1#echo", url


def calls(url: str) -> int:
    return asyncio.run(fault_server.stats(url)).get("calls", 0)


def shift_of(summary: dict, transform: str, measure: str) -> dict:
    [found] = [s for s in summary["shifts"] if (s["transform"], s["measure"]) == (transform, measure)]
    return found


def test_a_transform_moves_what_it_plants_and_a_decoy_does_not(tmp_path: Path, prompts: Path, echo):
    target, url = echo  # it says back what it is asked, so what a transform adds is what it elicits
    summary = run_shift(
        [target],
        prompts,
        ["prefix:kite", "prefix:Hello!"],
        ["regex:kite", "words", "gold"],
        tmp_path / "s",
        CONFIG,
    )
    assert summary["status"] == "complete"
    planted, decoy = (shift_of(summary, f"prefix:{word}", "regex:kite") for word in ("kite", "Hello!"))
    assert (planted["delta"], planted["n"]) == (1.0, 40)
    assert planted["interval"]["low"] > 0.7
    assert (decoy["delta"], decoy["interval"]["low"] <= 0 <= decoy["interval"]["high"]) == (0.0, True)
    assert shift_of(summary, "prefix:kite", "words")["delta"] == pytest.approx(1.0)
    asked = calls(url)
    again = run_shift(
        [target],
        prompts,
        ["prefix:kite", "prefix:Hello!"],
        ["regex:kite", "words", "gold"],
        tmp_path / "s",
        CONFIG,
    )
    assert (again["shifts"], calls(url)) == (summary["shifts"], asked)
    assert "prefix:kite" in write_report(tmp_path / "s").read_text()
    rows = read_table(tmp_path / "s" / "samples.parquet")
    assert rows.num_rows == 3 * 40
    assert set(rows["version"].to_pylist()) == {"original", "prefix:kite", "prefix:Hello!"}


def test_a_model_that_cannot_be_reached_is_a_hole_and_is_tried_again(tmp_path: Path, prompts: Path, echo):
    target, _ = echo
    dead = "openai-compatible:http://127.0.0.1:9/v1#none"
    summary = run_shift([target, dead], prompts, ["prefix:kite"], ["regex:kite"], tmp_path / "s", CONFIG)
    assert summary["status"] == "inconclusive"
    assert {hole["model"] for hole in summary["missing"]} == {dead}
    assert len(summary["shifts"]) == 1
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:9"):
        run_shift([dead], prompts, ["prefix:kite"], ["regex:kite"], tmp_path / "t", CONFIG)


def test_a_cell_that_lost_too_much_has_no_number(tmp_path: Path, prompts: Path):
    with fault_server.running("--faults", "shape", "--share", "0.97", "--after", "5") as url:
        target = f"openai-compatible:{url}/v1#echo"
        summary = run_shift([target], prompts, ["prefix:kite"], ["regex:kite"], tmp_path / "s", CONFIG)
    assert summary["status"] == "inconclusive"
    assert summary["counts"]["failed"] > 10
    assert summary["shifts"] == []
    assert all("are missing" in hole["reason"] for hole in summary["missing"])


def test_a_cap_of_calls_ends_it_with_what_was_paid(tmp_path: Path, prompts: Path, echo):
    target, url = echo
    capped = CONFIG.model_copy(update={"max_calls": 25})
    summary = run_shift([target], prompts, ["prefix:kite"], ["words"], tmp_path / "s", capped)
    assert (summary["status"], summary["usage"]["calls"] <= 25, calls(url) <= 26) == (
        "inconclusive",
        True,
        True,
    )
    rest = run_shift([target], prompts, ["prefix:kite"], ["words"], tmp_path / "s", CONFIG)
    assert (rest["status"], len(rest["shifts"])) == ("complete", 1)


def test_a_grid_has_a_rate_in_every_place(tmp_path: Path, echo):
    target, _ = echo
    summary = run_grid(
        [target], "regex:1[02]", tmp_path / "g", CONFIG, template="Is {a}+{b}={a+b}?", a="1:6", b="1:9:2"
    )
    by_place = {(rate["a"], rate["b"]): rate["value"] for rate in summary["rates"]}
    assert len(by_place) == 20
    assert all(value == float(a + b in (10, 12)) for (a, b), value in by_place.items())
    assert "<svg" in write_report(tmp_path / "g").read_text()


def test_rewrites_are_sorted_by_rate(tmp_path: Path, prompts: Path, echo):
    summary = run_grid([echo[0]], "regex:harbour 1[0-4]", tmp_path / "g", CONFIG, rewrites=prompts)
    values = [rate["value"] for rate in summary["rates"]]
    assert values == sorted(values, reverse=True)
    assert sum(values) == 5


@pytest.mark.parametrize(
    "template", ["{a.__class__}", "{c}", "{a**b}", "{().__class__}", "{open('x')}", "{a+}", "{1/0}", "{a//0}"]
)
def test_a_template_is_arithmetic_and_nothing_else(template: str):
    with pytest.raises(UsageError, match="cannot be filled"):
        fill(template, {"a": 2, "b": 3})


@pytest.mark.parametrize("spec", ["", "3", "5:5", "a:b", "1:2:0", "1:2:3:4", "0:99999999"])
def test_an_axis_is_a_range(spec: str):
    with pytest.raises(UsageError, match="axis"):
        axis(spec)


def test_context_stands_in_front_and_is_not_judged(tmp_path: Path, prompts: Path, echo):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"prompt": f"kite {n}?", "response": "A kite. " * 5}) + "\n" for n in range(30))
    )
    summary = run_context(
        [echo[0]], prompts, {"kites": rows}, [20, 60], "words", tmp_path / "c", CONFIG, limit=8
    )
    cells = {(cell["context"], cell["tokens"]): cell for cell in summary["cells"]}
    assert set(cells) == {("none", 0), ("kites", 20), ("kites", 60)}
    assert cells["kites", 60]["n"] == 16
    assert {cells[place]["value"] for place in cells} == {cells["none", 0]["value"]}
    assert "<svg" in write_report(tmp_path / "c").read_text()


def test_a_longer_context_begins_with_the_shorter_and_never_holds_the_question():
    question = Question("0", (Message("user", "kite 3?"),))
    pairs = [(f"kite {n}?", "A kite. " * 5) for n in range(30)]
    short, long = (preceded(question, pairs, n, np.random.default_rng(0)).asked for n in (20, 60))
    assert long[: len(short) - 1] == short[:-1]
    assert len(long) > len(short) > 2
    assert short[-1] == long[-1] == question.messages[0]
    assert question.messages[0] not in long[:-1]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_changes_the_prompt_and_keeps_what_it_asks(name: str):
    prompt = "How many planets are there in the system of 1,200 stars?"
    changed = RULES[name](prompt)
    assert changed != prompt
    assert "planets" in changed
    assert "1,200" in changed


@pytest.mark.parametrize("spec", ["", "nothing", "table:", "table:/no/such", "prefix:", "write:"])
def test_an_unknown_transform_is_told(spec: str):
    with pytest.raises(UsageError):
        open_transform(spec)


def test_a_search_is_perturbed_as_a_whole(tmp_path: Path):
    pytest.importorskip("torch")
    from surf_world import WordPool
    from tiny_model import save_tiny_model

    from undertow.judging.rubric import Rubric
    from undertow.surf.config import SurfConfig
    from undertow.surf.run import run_surf

    words = Rubric.model_validate(
        {"name": "words", "behaviour": "Says words.", "when_wrong": "Always.", "empty_reply": "judge",
         "checks": [{"is": "regex", "pattern": "."}]}
    )  # fmt: skip
    tiny = f"local:{save_tiny_model(tmp_path / 'tiny')}"
    small = SurfConfig(runs=1, iterations=2, candidates=20, max_tokens=12, truncated="judge", confirm=False)
    run_surf(tiny, words, WordPool(), tmp_path / "run", small)
    config = AskingConfig(replicates=2, max_tokens=12)
    summary = run_robustness(tmp_path / "run", tmp_path / "r", config, top=5, versions=4)
    assert len(summary["cells"]) == 5
    assert all(cell["n"] == 8 for cell in summary["cells"])
    assert 0 <= summary["stable"]["hits"] <= summary["stable"]["n"] == 5
