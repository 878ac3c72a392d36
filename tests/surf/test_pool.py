from __future__ import annotations

import numpy as np
import pytest

from undertow.surf.pool import Entry, attribute_weights, draw_attributes, top_k


def entry(score: float, attributes: tuple[int, ...], name: str = "") -> Entry:
    return Entry(score, attributes, name)


def test_weights_are_eq_1_by_hand():
    buffer = [entry(91, (0, 2)), entry(73, (2,)), entry(31, (1, 2)), entry(0, (3,))]
    assert attribute_weights(buffer, 5).tolist() == [91, 31, 91 + 73 + 31, 0, 0]


def test_buffer_is_eq_2_by_hand():
    old = [entry(90, (), "a"), entry(50, (), "b"), entry(10, (), "c")]
    new = [entry(20, (), "d"), entry(95, (), "e"), entry(55, (), "f")]
    kept = top_k(old, new, 4)
    assert [(e.candidate, e.score) for e in kept] == [("e", 95), ("a", 90), ("f", 55), ("b", 50)]


def test_equal_scores_at_the_edge_go_to_the_newer():
    kept = top_k([entry(100, (), "old")], [entry(100, (), "first"), entry(100, (), "second")], 2)
    assert [e.candidate for e in kept] == ["second", "first"]


def test_an_empty_buffer_draws_uniformly_over_distinct_attributes():
    drawn = draw_attributes(np.zeros(10), 20_000, 1, 0.0, np.random.default_rng(0))
    share = np.bincount(np.concatenate(drawn), minlength=10) / 20_000
    assert share == pytest.approx(np.full(10, 0.1), abs=0.01)


def test_draws_follow_the_normalised_weights():
    drawn = draw_attributes(np.array([3.0, 0.0, 1.0]), 20_000, 1, 0.0, np.random.default_rng(0))
    share = np.bincount(np.concatenate(drawn), minlength=3) / 20_000
    assert share == pytest.approx([0.75, 0, 0.25], abs=0.01)


def test_explore_is_the_share_of_uniform_draws():
    drawn = draw_attributes(np.array([0.0, 0, 0, 1]), 20_000, 1, 0.4, np.random.default_rng(0))
    share = np.bincount(np.concatenate(drawn), minlength=4) / 20_000
    assert share == pytest.approx([0.1, 0.1, 0.1, 0.7], abs=0.01)


def test_a_candidate_has_at_most_k_distinct_attributes():
    drawn = draw_attributes(np.array([1.0, 1.0, 0.0]), 200, 5, 0.5, np.random.default_rng(0))
    assert all(1 <= len(row) <= 3 and len(set(row.tolist())) == len(row) for row in drawn)
