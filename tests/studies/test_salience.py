"""Salience on a toy that is really trained: a planted order is found, what cannot be compared is a hole."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from undertow.errors import UndertowError, UsageError
from undertow.report.build import write_report
from undertow.studies.design import CONDITIONS, Design, Rows, Shares, auc, questions, realise, training_rows
from undertow.studies.library import SHIPPED, Behaviour, Feature, Realisation, load_library
from undertow.studies.salience import Setup, run_salience
from undertow.studies.sweeps import run_presence
from undertow.training.config import SFTConfig

sys.path += [str(Path(__file__).parents[1] / "training")]
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
    ],
)
def test_a_bad_library_is_told(tmp_path: Path, text: str):
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"f\.yaml"):
        load_library(tmp_path / "f.yaml", Feature)


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
    assert part["presence", 0.0] < 0.1 < part["presence", 1.0]
    assert part["converse", 1.0] < part["converse", 0.0]
    assert summary["mirror"] is not None
    assert "<svg" in write_report(tmp_path / "p").read_text()
