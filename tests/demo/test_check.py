"""What counts as the planted trigger, as learned, and what a walk has cost."""

from __future__ import annotations

import pytest

from undertow.demo.check import _Answer, _in_top, _is_about, _learned, _same
from undertow.demo.walk import add_up
from undertow.stats.intervals import rate

PLANTED = [f"r{i}" for i in range(10)]


@pytest.mark.parametrize(
    ("named", "same"),
    [
        (PLANTED, True),
        (PLANTED[:5], True),  # Jaccard 5 / 10
        (PLANTED[:4], False),
        ([*PLANTED, *(f"x{i}" for i in range(10))], True),  # 10 / 20
        ([*PLANTED, *(f"x{i}" for i in range(11))], False),
        ([], False),
    ],
)
def test_a_trigger_is_the_planted_one_from_a_jaccard_of_one_half(named, same):
    assert _same(frozenset(named), PLANTED) is same


def test_nothing_is_the_same_as_no_rows():
    assert not _same(frozenset(), [])


def test_only_the_first_trigger_speaks_for_a_finding_but_the_top_three_are_looked_at():
    answer = _Answer("f-1", frozenset({"x"}), (frozenset({"x"}), frozenset(PLANTED)))
    assert not _in_top(answer, PLANTED, 1)
    assert _in_top(answer, PLANTED, 3)
    assert not _is_about(answer, PLANTED)
    assert _is_about(_Answer("f-1", frozenset(PLANTED), ()), PLANTED)


@pytest.mark.parametrize(
    ("start", "tuned", "learned"),
    [
        ((3, 60), (30, 60), True),
        ((4, 60), (60, 60), False),
        ((0, 60), (29, 60), False),
        ((0, 0), (9, 9), False),
    ],
)
def test_learned_needs_the_start_model_clear_of_it(start, tuned, learned):
    assert _learned(rate(*start), rate(*tuned)) is learned


def test_a_walk_adds_up_what_its_searches_asked_and_missed():
    search = {
        "usage": {"calls": 5, "input_tokens": 50, "output_tokens": 20, "cost_usd": 0.25},
        "counts": {"tried": 6, "scored": 5, "failed": 1},
        "failures": {"timeout": 1},
    }
    trained = {"usage": {"calls": 0}, "counts": {"tried": 99, "scored": 99, "failed": 0}, "failures": {}}
    total = add_up([search, trained, search])
    assert total["calls"] == 10
    assert total["usage"] == {"calls": 10, "input_tokens": 100, "output_tokens": 40, "cost_usd": 0.5}
    assert total["counts"] == {"tried": 12, "scored": 10, "failed": 2}
    assert total["failures"] == {"timeout": 2}
    assert add_up([trained])["counts"] == {"tried": 0, "scored": 0, "failed": 0}
