"""Predicted effects of fixes: closed forms, and that each goes the way it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from undertow.preference.predict import (
    evidence_shares,
    fidelity,
    forecast,
    length_only,
    pair_weights,
    z_scored,
)

RNG = np.random.default_rng(0)
U = RNG.integers(-1, 2, (2000, 4)).astype(float)
U[:, 0] = np.where(RNG.random(2000) < 0.3, 1, 0)
U[:, 1] = np.where(RNG.random(2000) < 0.7, U[:, 0], 0)
SCORES = U * RNG.random(U.shape)


def test_weights_are_those_of_the_loss():
    score = np.array([2.0, 0.0, -2.0])
    expected = 2 / (1 + np.exp(1.5 * score))
    assert pair_weights("shape", 1.5, score) == pytest.approx(expected)
    assert pair_weights("shape", 0.0, score) == pytest.approx(1.0)
    assert pair_weights("downweight", 0.3, score).tolist() == [0.7, 1, 1]
    assert pair_weights("filter", 0.5, score).tolist() == [0, 1, 1], "nothing without a positive score goes"
    assert pair_weights("quarantine", 0.5, score, np.array([0.6, 0.1, 0.5])).tolist() == [0, 1, 1]


def test_forecast_is_the_weighted_mean_of_u():
    signed, scores = sparse.csr_matrix(U), sparse.csr_matrix(SCORES)
    found = forecast(
        signed, scores, [0], fixes=[("filter", 0.1), ("shape", 2.0), ("shape", -1.0), ("shape", 0.0)]
    )
    for each in found:
        w = pair_weights(each.how, each.strength, SCORES[:, 0])
        assert each.before == pytest.approx(U.mean(0))
        assert each.after == pytest.approx(np.average(U, axis=0, weights=w))
        assert each.pairs == (w != 1).sum()
    dropped, shaped, amplified, nothing = found
    assert dropped.after[0] < dropped.before[0]
    assert shaped.after[0] < shaped.before[0] < amplified.after[0]
    assert shaped.after[1] < shaped.before[1], "what goes with it goes with it"
    assert nothing.after == pytest.approx(nothing.before)


def test_scores_are_in_deviations_over_all_responses():
    sides = RNG.random((2, 300, 3)) * (RNG.random((2, 300, 3)) < 0.4)
    sides[..., 2] = 0.5  # no variance
    found = z_scored(*map(sparse.csr_matrix, sides)).toarray()
    spread = sides[..., :2].reshape(600, 2).std(axis=0)
    assert found[:, :2] == pytest.approx((sides[0] - sides[1])[:, :2] / spread)
    assert (found[:, 2] == 0).all()


def test_evidence_is_what_argues_for_the_chosen_side():
    signed = sparse.csr_matrix(np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 0.0]]))
    shares = evidence_shares(signed, np.array([3.0, 1.0]), np.array([1.0, 0.0, 2.0]), 2.0).toarray()
    assert shares == pytest.approx(np.array([[3 / 6, 1 / 6], [3 / 4, 0], [0, 0]]))


def test_fidelity_is_scipy_s_and_says_when_it_cannot_be():
    a, b = RNG.normal(size=20), RNG.normal(size=20)
    found = fidelity(a, a + b, np.abs(a + b) > 0.5)
    assert found.r2 == pytest.approx(stats.pearsonr(a, a + b).statistic ** 2)
    assert found.spearman == pytest.approx(stats.spearmanr(a, a + b).statistic)
    assert fidelity(a[:2], b[:2], np.ones(2, bool)).r2 is None
    assert fidelity(a, np.zeros(20), np.zeros(20, bool)).sign_accuracy is None


def test_length_alone_predicts_what_rides_on_length():
    length = RNG.normal(size=5000) + 1
    signed = sparse.csr_matrix(np.column_stack([np.sign(length), np.sign(RNG.normal(size=5000))]))
    carried, free = length_only(signed, length)
    assert carried > 0.3
    assert abs(free) < 0.05
