import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from undertow.stats.bradley_terry import (
    bradley_terry,
    cycle_rate,
    least_squares,
    mean_tau,
    rank,
    win_table,
)


def _by_statsmodels(wins):
    """Independent fit: a logistic regression on ±1 designs with the first item as the baseline."""
    n = len(wins)
    rows, won, weight = [], [], []
    for i in range(n):
        for j in range(n):
            if i != j and wins[i, j]:
                row = np.zeros(n)
                row[i], row[j] = 1, -1
                rows += [row, -row]
                won += [1, 0]
                weight += [wins[i, j] / 2] * 2
    fit = sm.GLM(won, np.array(rows)[:, 1:], sm.families.Binomial(), freq_weights=np.array(weight)).fit()
    theta = np.concatenate([[0], fit.params])
    return theta - theta.mean()


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_matches_a_logistic_regression_on_random_tables(seed):
    wins = np.random.default_rng(seed).integers(1, 20, size=(5, 5)).astype(float)
    np.fill_diagonal(wins, 0)
    ours = bradley_terry(wins, ridge=1e-9)
    assert ours.sum() == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(ours, _by_statsmodels(wins), atol=1e-5)


def test_a_separable_table_stays_finite_and_ordered():
    wins = np.triu(np.full((6, 6), 50.0), 1)
    theta = bradley_terry(wins)
    assert np.isfinite(theta).all()
    assert (np.diff(theta) < 0).all()


def test_ties_draw_items_together_and_the_empty_table_is_zero():
    wins = win_table([0, 0, 0, 0], [1, 1, 1, 1], [0.5] * 4, 3)
    assert bradley_terry(wins) == pytest.approx([0, 0, 0])
    assert bradley_terry(np.zeros((4, 4))) == pytest.approx(np.zeros(4))
    one_up = bradley_terry(win_table([0, 0, 0], [1, 1, 1], [1, 0.5, 0.5], 2))
    assert 0 < one_up[0] < bradley_terry(win_table([0, 0, 0], [1, 1, 1], [1, 1, 0.5], 2))[0]


@pytest.mark.parametrize("bad", [np.ones((2, 3)), -np.ones((2, 2)), np.full((2, 2), np.nan)])
def test_refuses_what_is_no_table(bad):
    with pytest.raises(ValueError, match="wins"):
        bradley_terry(bad)


def test_least_squares_recovers_scores_and_orders_with_holes():
    truth = np.array([1.0, 0.2, -0.4, -0.8])
    i, j = np.array([0, 0, 1, 2, 3]), np.array([1, 2, 2, 3, 0])
    fitted = least_squares(i, j, truth[i] - truth[j], 4, ridge=1e-9)
    np.testing.assert_allclose(fitted, truth - truth.mean(), atol=1e-6)


def test_intervals_cover_the_truth_and_leaves_exchangeable_items_undecided():
    rng = np.random.default_rng(3)
    truth = np.array([1.2, 0.0, 0.0, -1.2])
    i, j = np.array([(a, b) for a in range(4) for b in range(a + 1, 4)]).repeat(30, 0).T
    won = rng.random(len(i)) < 1 / (1 + np.exp(truth[j] - truth[i]))
    found = rank(i, j, won, 4, rng, draws=300)
    assert all(each.low <= t <= each.high for each, t in zip(found.intervals, truth, strict=True))
    assert found.intervals[1].low < found.theta[2] < found.intervals[1].high
    assert rank([0], [1], [1], 2, rng).intervals == (None, None)
    won_all = rank([0] * 4, [1] * 4, [1] * 4, 2, rng).intervals[0]
    assert won_all.high - won_all.low > 0.5
    chain = rank(i, j, i < j, 4, rng, draws=50)
    assert all(span.low <= t <= span.high for span, t in zip(chain.intervals, chain.theta, strict=True))


def test_cycles_and_agreement():
    assert cycle_rate(win_table([0, 1, 2], [1, 2, 0], [1, 1, 1], 3)) == (1, 1)
    assert cycle_rate(win_table([0, 1, 0], [1, 2, 2], [1, 1, 1], 4)) == (0, 1)
    assert cycle_rate(win_table([0, 1, 0], [1, 2, 2], [1, 1, 0.5], 3)) == (0, 0)
    assert mean_tau([[1, 2, 3], [1, 2, 3], [3, 2, 1]]) == pytest.approx(-1 / 3)
    assert mean_tau([[1, 1, 1], [1, 2, 3]]) is None
