"""The shipped rubrics against their labelled examples."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from undertow.judging.calibrate import calibrate
from undertow.judging.labels import read_labels, shipped_labels
from undertow.judging.rubric import load_rubric, shipped_rubrics
from undertow.stats.agreement import confusion

# The floors are for these examples, which were written with the checks in view. Checks cannot know whether a
# premise is true: a right rebuttal looks like a wrong one, so that rubric wants a model after its checks.
FLOORS = dict.fromkeys(shipped_rubrics(), (0.9, 0.9)) | {"rebuttal": (0.9, 0.75)}
BY_A_MODEL_ALONE = {"analytic"}


def test_the_papers_five_and_five_more_ship() -> None:
    assert set(shipped_rubrics()) == {
        "code", "analytic", "math", "rebuttal", "refusal", "literary", "identity", "tool_hallucination",
        "truncated", "short_answer",
    }  # fmt: skip


@pytest.mark.parametrize("name", shipped_rubrics())
def test_a_rubric_says_all_that_a_judge_needs(name: str) -> None:
    rubric = load_rubric(name)
    assert rubric.behaviour.startswith("The assistant ")
    assert rubric.when_wrong.strip()
    assert rubric.when_right.strip()
    assert rubric.critical
    levels = rubric.levels
    assert levels[0].min == 0
    assert levels[-1].max == 100
    assert all(after.min == before.max + 1 for before, after in itertools.pairwise(levels))
    assert levels[0].example, "an example of right routing"
    assert levels[-1].example, "an example of wrong routing"
    assert any(level.min == rubric.threshold + 1 for level in levels)


@pytest.mark.parametrize("name", shipped_rubrics())
def test_the_examples_have_both_classes_and_other_languages(name: str) -> None:
    path = shipped_labels(name)
    assert path is not None
    labels = read_labels(path)
    assert len(labels) >= 12
    wrong = sum(label.violation for label in labels)
    assert 8 <= wrong <= len(labels) - 8
    assert len({(label.prompt, label.response) for label in labels}) == len(labels)
    both = {label.prompt for label in labels if label.violation} & {
        label.prompt for label in labels if not label.violation
    }
    assert both, "the same query, answered wrongly and rightly"
    if name != "rebuttal":
        assert any(ord(c) > 0xBF for label in labels for c in label.prompt), "a query in another language"


@pytest.mark.parametrize("name", sorted(set(shipped_rubrics()) - BY_A_MODEL_ALONE))
def test_the_checks_decide_the_examples(name: str) -> None:
    rubric = load_rubric(name)
    path = shipped_labels(name)
    assert path is not None
    labels = read_labels(path)
    calls = [rubric.violated(label.prompt, label.response) for label in labels]
    found = confusion([label.violation for label in labels], calls)
    sensitivity, specificity = found.sensitivity.value, found.specificity.value
    assert sensitivity is not None
    assert specificity is not None
    assert sensitivity >= FLOORS[name][0], found
    assert specificity >= FLOORS[name][1], found


def test_a_shipped_rubric_is_calibrated_without_a_file_of_labels(tmp_path: Path) -> None:
    summary = calibrate("refusal", tmp_path / "out")
    assert summary["labels"]["n"] >= 12
    assert summary["judges"][0]["confusion"]["fn"] == 1
