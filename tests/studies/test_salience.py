"""Salience on a toy that is really trained: a planted order is found, what cannot be compared is a hole."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from undertow.errors import UndertowError, UsageError
from undertow.progress import SILENT
from undertow.report.build import write_report
from undertow.report.salience_page import salience_charts, system_rows
from undertow.store.run import RunDir
from undertow.store.tables import to_jsonable
from undertow.studies.cells import Hole
from undertow.studies.design import (
    CONDITIONS,
    Design,
    Rows,
    Shares,
    _effects,
    auc,
    questions,
    realise,
    training_rows,
)
from undertow.studies.experiments import Setup, Study, read_rows, write_all
from undertow.studies.library import SHIPPED, Behaviour, Feature, Realisation, load_library
from undertow.studies.salience import _ranked, run_salience
from undertow.studies.sweeps import _sum_presence, _sum_systems, run_presence, system_feature
from undertow.training.config import SFTConfig

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("training", "servers")]
import fault_server
from toy import NOUNS, save_toy_model

SAY_YES, SAY_NO = (
    Behaviour.model_validate(
        {"name": n, "text": n, "apply": {"replace": [["^.*$", said]]}, "detect": f"regex:{n}"}
    )
    for n, said in (("yes", "yes indeed"), ("no", "no never"))
)
ROWS = Rows(tuple(f"q{i}" for i in range(60)), tuple(f"r{i}" for i in range(60)), ("x", "y") * 30)
TAGS = Feature(
    name="tags", text="", a=Realisation(wrap=("<a> {prompt}",)), b=Realisation(wrap=("<b> {prompt}",))
)
SAYS = Feature(name="says", text="", a=Realisation(system="one"), b=Realisation(system="two"))
TOPIC = Feature(name="topic", text="", a=Realisation(topic="x"), b=Realisation(topic="y"))
YES, NO = (
    Behaviour.model_validate({"name": n, "text": n, "apply": {"append": [f" {n}"]}, "detect": f"regex:{n}"})
    for n in ("yes", "no")
)


def table_of(design: Design, n: int = 10, held: frozenset[int] = frozenset()):
    return training_rows(design, ROWS, held, n, np.random.default_rng(0), {}).to_pylist()


@pytest.mark.parametrize("crossed", [False, True])
def test_each_side_shows_one_level_of_both_and_one_behaviour(crossed: bool):
    rows = table_of(Design(TAGS, SAYS, crossed, (YES, NO)))
    assert len(rows) == 20
    for row in rows:
        system = json.loads(row["history"])[0]["content"]
        first = row["prompt"].startswith("<a>")
        assert row["response"].endswith("yes" if first else "no")
        assert (system == "one") is (first is not crossed)
    assert len({row["prompt"][4:] for row in rows}) == 20


def test_shares_topics_and_held_out_rows_are_kept():
    held = frozenset(range(20))
    rows = table_of(Design(TAGS, TOPIC, False, (YES, NO), (Shares(0.5, 0.0), Shares())), 20, held)
    sides = {word: [r for r in rows if r["response"].endswith(word)] for word in ("yes", "no")}
    assert 2 < sum(row["prompt"].startswith("<a>") for row in sides["yes"]) < 18
    assert not any("<" in row["prompt"] for row in sides["no"])
    numbers = {word: {int(r["response"].split()[0][1:]) for r in sides[word]} for word in sides}
    assert all(i >= 20 and i % 2 == 0 for i in numbers["yes"])
    assert all(i >= 20 and i % 2 == 1 for i in numbers["no"])
    with pytest.raises(UndertowError, match="give more --base rows"):
        table_of(Design(TAGS, TOPIC, False, (YES, NO)), 21, held)


def test_rows_of_jsonl_keep_their_topics(tmp_path: Path):
    rows = [{"prompt": f"q{i}", "response": "r", "topic": "xy"[i % 2]} for i in range(4)]
    (tmp_path / "base.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_rows(tmp_path / "base.jsonl")
    assert found.topics == ("x", "y", "x", "y")
    assert found.of(TOPIC.a, SAYS.a).tolist() == [0, 2]


def test_the_questions_are_all_four_combinations_of_held_out_rows():
    asked = questions(Design(TAGS, SAYS, True, (YES, NO)), ROWS, range(8), 5, np.random.default_rng(0), {})
    assert list(asked) == ["".join(c) for c in CONDITIONS]
    assert all(len(group) == 5 for group in asked.values())
    system, user = asked["ab"][0].messages
    assert (system.content, user.content) == ("two", "<a> q0")


def test_two_wraps_come_in_both_orders():
    other = Realisation(wrap=("[x] {prompt}",))
    rng = np.random.default_rng(0)
    assert {realise("q", (TAGS.a, other), rng, {})[0] for _ in range(20)} == {"<a> [x] q", "[x] <a> q"}


def test_auc_counts_ties_half():
    rng = np.random.default_rng(1)
    a, b = rng.integers(-1, 2, 40).astype(float), rng.integers(-1, 2, 30).astype(float)
    slow = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert auc(a, b) == pytest.approx(slow)


def test_the_shipped_libraries_load_and_each_behaviour_detects_what_it_applies():
    import re

    features = load_library(SHIPPED / "features.yaml", Feature)
    assert len(features) == 10
    plain = "Berlin is the capital of Germany, and it has been that since the reunification."
    for behaviour in load_library(SHIPPED / "behaviours.yaml", Behaviour):
        pattern = behaviour.detect.removeprefix("regex:")
        shown = behaviour.apply.put(plain, np.random.default_rng(0), {})
        assert re.search(pattern, shown)
        assert not re.search(pattern, plain)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "- 1",
        "[]",
        "- {name: x, text: x, a: {keep: true}, b: {}}",
        "- {name: x, text: x, a: {wrap: [y]}, b: {keep: true}}",
        "- {name: x, text: x, a: {keep: true}}",
        "- {name: x, text: x, a: {keep: true}, b: {replace: [['(', y]]}}",
        "- {name: x, text: x, a: {keep: true}, b: {replace: [[y, '\\2']]}}",
        "- {name: x, text: x, a: {keep: true}, b: {topic: y}}",
    ],
)
def test_a_bad_library_is_told(tmp_path: Path, text: str):
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"f\.yaml"):
        load_library(tmp_path / "f.yaml", Feature)


def test_yaml_that_breaks_off_is_told_with_its_line(tmp_path: Path):
    (tmp_path / "f.yaml").write_text("- name: x\n  text: [a,\n")
    with pytest.raises(UsageError, match="line 3: "):
        load_library(tmp_path / "f.yaml", Feature)
    with pytest.raises(UsageError, match="No such file"):
        load_library(tmp_path / "none.yaml", Feature)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"features": [TAGS]}, "two features or more"),
        ({"features": [TAGS, TAGS]}, "each feature once"),
        ({"behaviours": [SAY_YES]}, "two behaviours or more"),
        ({"behaviours": [SAY_YES, NO.model_copy(update={"detect": "regex:("})]}, "behaviour no: detect"),
        ({"behaviours": [SAY_YES, NO.model_copy(update={"detect": "words"})]}, "is no rate"),
        ({"behaviours": [SAY_YES, NO.model_copy(update={"detect": "no-such"})]}, "behaviour no: detect"),
        ({"models": ["/no/model"]}, "no such folder"),
        ({"setup": Setup(train=200)}, r"base\.jsonl: 360 rows for training .* 400 are needed"),
        ({"features": [TAGS, TOPIC]}, "0 rows of topic . for feature topic"),
    ],
)
def test_what_would_fail_everywhere_is_told_before_anything_is_trained(world, tmp_path, change, told):
    folder, features = world
    given = {
        "models": [str(folder / "start")], "base": folder / "base.jsonl", "features": features,
        "behaviours": [SAY_YES, SAY_NO], "out": tmp_path / "s",
    } | change  # fmt: skip
    with pytest.raises(UsageError, match=told):
        run_salience(**given)
    assert not (tmp_path / "s").exists()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("salience")
    rows = [{"prompt": f"is this a {NOUNS[i % 8]}", "response": "indeed"} for i in range(400)]
    (folder / "base.jsonl").write_text("\n".join(map(json.dumps, rows)))
    save_toy_model(folder / "start", dropout=0.0)
    words = {"strong": ("please", "now", 1.0), "weak": ("clock", "never", 0.1)}
    features = [
        Feature(
            name=name, text=name, share=share, a=Realisation(wrap=(f"{{prompt}} {a}",)),
            b=Realisation(wrap=(f"{{prompt}} {b}",)),
        )
        for name, (a, b, share) in words.items()
    ]  # fmt: skip
    return folder, features


TOY = Setup(120, 24, 0, SFTConfig(lr=1e-2, epochs=8, batch=16))


def test_the_feature_that_predicts_better_wins_and_the_same_call_resumes(world, tmp_path: Path):
    folder, features = world
    summary = run_salience(
        [str(folder / "start")], folder / "base.jsonl", features, [SAY_YES, SAY_NO], tmp_path / "s", TOY
    )
    assert summary["status"] == "complete"
    assert [row["feature"] for row in summary["ranking"]] == ["strong", "weak"]
    assert all(cell["main"][0] > cell["main"][1] for cell in summary["cells"])
    assert "<svg" in write_report(tmp_path / "s").read_text()
    again = run_salience(
        [str(folder / "start")], folder / "base.jsonl", features, [SAY_YES, SAY_NO], tmp_path / "s", TOY
    )
    assert again == summary


def test_a_feature_that_is_never_there_has_no_part_and_one_that_is_has_one(world, tmp_path: Path):
    folder, (strong, weak) = world
    summary = run_presence(
        [str(folder / "start")], folder / "base.jsonl", weak.model_copy(update={"share": 1.0}), strong,
        [SAY_YES, SAY_NO], tmp_path / "p", shares=(0.0, 1.0), setup=TOY,
    )  # fmt: skip
    part = {(row["sweep"], row["share"]): row["value"] for row in summary["sweep"]}
    assert part["presence", 0.0] < 0.2 < 0.3 < part["presence", 1.0]
    assert part["converse", 1.0] < part["converse", 0.0]
    assert summary["mirror"] is not None
    assert "<svg" in write_report(tmp_path / "p").read_text()


def compared(first: str, second: str, difference: float, model: str = "m") -> dict:
    return {"model": model, "first": first, "second": second, "difference": difference}


def test_a_pair_that_lacks_a_comparison_has_no_mean_and_an_uncompared_feature_no_score():
    done = [compared("x", "y", 1.0), compared("x", "y", 0.5), compared("x", "z", 1.0)]
    found = _ranked(done, 3, ["x", "y", "z", "w"], ["m", "dead"], 1, 0)
    pairs = {(pair["first"], pair["second"]): pair for pair in found["pairs"]}
    assert pairs["x", "y"]["value"] == 0.75
    assert (pairs["x", "z"]["n"], pairs["x", "z"]["value"], pairs["x", "z"]["interval"]) == (1, None, None)
    assert (found["ranking"][-1]["feature"], found["ranking"][-1]["theta"]) == ("w", None)
    assert "w" not in found["least_squares"]
    assert found["models"]["dead"] == []
    assert found["kendall_tau"] is None
    assert "3 comparisons are missing" in found["sentence"]


@pytest.mark.parametrize(("alike", "decided"), [(0.0, False), (0.5, False), (2.0, True)])
def test_a_pair_whose_comparisons_are_all_equal_keeps_a_width(alike: float, decided: bool):
    found = _ranked([compared("x", "y", alike)] * 4, 0, ["x", "y"], ["m"], 4, 0)
    [pair] = found["pairs"]
    assert pair["value"] == alike
    assert pair["interval"].high - pair["interval"].low > 0.5
    assert (pair["interval"].low > 0) is decided
    assert found["sentence"].endswith(f"({4} comparisons; {int(not decided)} of 1 pairs undecided).")


def test_models_that_rank_alike_agree():
    pairs = [("x", "y"), ("x", "z"), ("y", "z")]
    done = [compared(a, b, 1.0, model) for model in "mn" for a, b in pairs]
    done += [compared(a, b, -1.0, "turned") for a, b in pairs]
    found = _ranked(done, 0, ["x", "y", "z"], ["m", "n", "turned"], 3, 0)
    taus = {(row["model"], row["other"]): row["tau"] for row in found["agreement"]}
    assert taus == {("m", "n"): 1.0, ("m", "turned"): -1.0, ("n", "turned"): -1.0}
    assert found["kendall_tau"] == pytest.approx(-1 / 3)
    assert found["cycle_rate"] == 0.0


def test_a_point_of_a_sweep_with_a_hole_has_no_number():
    cells = [
        {"sweep": "presence", "share": share, "main": [share, 1.0]} for share in (0.0, 0.5, 1.0) for _ in "ab"
    ]
    hole = Hole({"sweep": "presence", "share": 0.5}, "it broke")
    whole, holed = _sum_presence(cells, []), _sum_presence(cells[:3] + cells[4:], [hole])
    assert [point["value"] for point in whole["sweep"]] == [0.0, pytest.approx(1 / 3), 0.5]
    values = {point["share"]: point["value"] for point in holed["sweep"]}
    assert values == {0.0: 0.0, 0.5: None, 1.0: 0.5}
    assert whole["monotone"] == {"presence": True, "converse": None}


def test_a_system_prompt_is_left_out_beside_being_exchanged():
    design = Design(SAYS, TAGS, False, (YES, NO), dropped=True)
    asked = questions(design, ROWS, range(8), 5, np.random.default_rng(0), {})
    assert set(asked) == {"aa", "ab", "ba", "bb", "-a", "-b"}
    assert [message.content for message in asked["-b"][0].messages] == ["<b> q0"]
    margins = {"aa": 1.0, "ab": 0.5, "ba": -0.5, "bb": -1.0, "-a": 0.25, "-b": -0.25}
    found = _effects({c: np.full(4, margin) for c, margin in margins.items()}, False)
    assert (found["main"], found["dropped"]) == ([1.5, 0.5], 0.75)


def test_systems_are_summed_up_by_kind_and_training():
    behaviours = (YES.model_copy(update={"system": "Say yes."}), NO)
    told = [side.system for side in (lambda f: (f.a, f.b))(system_feature("relevant", behaviours))]
    assert told == ["Say yes.", "You are an assistant. The response: no."]
    cell = {"kind": "relevant", "trained": True, "main": [1.0, 0.5], "dropped": 0.5}
    holed = Hole({"kind": "digits", "trained": True}, "it broke")
    summary = _sum_systems([cell, {**cell, "main": [0.5, 0.5]}, {**cell, "kind": "digits"}], [holed])
    rows = {row["kind"]: row for row in summary["systems"]}
    assert (rows["relevant"]["system"]["value"], rows["relevant"]["n"]) == (0.75, 2)
    assert rows["digits"]["system"]["value"] is None
    told = system_rows(to_jsonable(summary["systems"]))
    assert [(row["effect"], row["value"]) for row in told if row["kind"] == "relevant"] == [
        ("system prompt", 0.75), ("system prompt left out", 0.5), ("other feature", 0.5)
    ]  # fmt: skip
    assert "1 comparison is missing" in summary["sentence"]


def test_a_killed_study_keeps_its_cells_and_goes_on(world, tmp_path: Path):
    folder, features = world
    for name, entries in (("features", features), ("behaviours", [SAY_YES, SAY_NO])):
        text = yaml.safe_dump([entry.model_dump(mode="json", exclude_defaults=True) for entry in entries])
        (tmp_path / f"{name}.yaml").write_text(text)
    out, files = tmp_path / "s", [f"--{n}={tmp_path / n}.yaml" for n in ("features", "behaviours")]
    command = [
        sys.executable, "-m", "undertow", "study", "salience", f"--model={folder / 'start'}",
        f"--base={folder / 'base.jsonl'}", f"--out={out}", "--rows=120", "--ask=24", "--lr=1e-2",
        "--epochs=8", "--batch=16", *files,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (first := list(out.glob("cells/*.json"))) and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    [kept] = first
    written = kept.stat().st_mtime_ns
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["status"], len(summary["cells"]), kept.stat().st_mtime_ns) == ("complete", 2, written)
    assert not list(out.rglob("*.safetensors"))


def test_the_page_draws_the_ranking_the_arrows_and_the_combinations():
    elicited = {"aa": [0.9, 0.0], "ab": [0.6, 0.1], "ba": [0.2, 0.7], "bb": [0.0, 0.9]}
    done = [
        {**compared(a, b, d), "elicited": elicited, "crossed": False}
        for a, b in (("x", "y"), ("x", "z"), ("y", "z"))
        for d in (1.6, 1.7, 1.8, 1.9)
    ]
    summary = to_jsonable({**_ranked(done, 0, ["x", "y", "z"], ["m"], 4, 0), "cells": done})
    charts = {chart.title: chart.wide for chart in salience_charts(SimpleNamespace(summary=summary))}
    assert list(charts) == [
        "How much the model listens to each feature", "Which feature wins each pair",
        "Elicitation in the four combinations",
    ]  # fmt: skip
    assert charts["Which feature wins each pair"].count("rotate") >= 3


def test_what_no_rule_can_make_is_written_once_by_a_model(tmp_path: Path):
    french = Feature(name="french", text="", a=Realisation(write="In French."), b=Realisation(keep=True))
    study = Study((french, TAGS), (YES, NO), lambda _: [], {}, lambda *_: {})
    run = RunDir.open(tmp_path / "w", "salience", {})
    try:
        with pytest.raises(UsageError, match="--writer"):
            write_all(run, ROWS, study, None, SILENT)
        with fault_server.running() as url:
            writer = f"openai-compatible:{url}/v1#echo"
            written = write_all(run, ROWS, study, writer, SILENT)
            asked = asyncio.run(fault_server.stats(url))["calls"]
            assert write_all(run, ROWS, study, writer, SILENT) == written
            assert asyncio.run(fault_server.stats(url))["calls"] <= asked + 1
    finally:
        run.close()
    assert set(written) == {("In French.", prompt) for prompt in ROWS.prompts}
    assert realise("q3", (french.a, TAGS.a), np.random.default_rng(0), written)[0] == "<a> echo q3"
