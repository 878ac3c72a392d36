"""Paired choices against statsmodels on the pairs in both orders."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from undertow.stats.logistic import fit_choices
from undertow.stats.paired import Choices, Opponents


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_logistic_of_the_pairs_in_both_orders(seed):
    rng = np.random.default_rng(seed)
    prompts = rng.integers(0, 80, 500)
    x = rng.normal(size=(500, 3)) + rng.normal(size=(80, 3))[prompts] * 0.5
    x *= np.where(rng.random(500) < 1 / (1 + np.exp(-x @ [0.8, -0.3, 0.0])), 1, -1)[:, None]
    found = fit_choices(x, prompts)
    order = np.concatenate([np.ones(500), np.zeros(500)])
    both = sm.Logit(order, sm.add_constant(np.vstack([x, -x]))).fit(disp=0)
    assert both.params[0] == pytest.approx(0, abs=1e-8)
    assert found.coef == pytest.approx(both.params[1:], rel=1e-3, abs=1e-4)
    once = sm.GLM(np.ones(500), x, family=sm.families.Binomial())
    clustered = once.fit(cov_type="cluster", cov_kwds={"groups": prompts})
    assert found.se == pytest.approx(clustered.bse, rel=1e-3)
    assert found.converged


def test_a_separated_column_stays_finite():
    x = np.column_stack([np.ones(50), np.zeros(50)])
    found = fit_choices(x, np.arange(50))
    assert 5 < found.coef[0] < 50
    assert np.isfinite(found.se).all()
    assert found.model_se[0] > 2, "the curvature knows that fifty wins do not fix it"


def test_one_cluster_has_no_error():
    assert np.isnan(fit_choices(np.random.default_rng(0).normal(size=(30, 1)), np.zeros(30)).se).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_first_coefficient_beside_what_is_held_is_that_of_the_whole_fit(seed):
    """Writers as columns, all at once, against writers as opponents: sparse u, few and many writers."""
    rng = np.random.default_rng(seed)
    n, writers = 700, (2, 5, 30)[seed]
    prompts, length = rng.integers(0, 90, n), rng.normal(size=n)
    sides = rng.integers(0, writers, (2, n))
    u = rng.choice([-1.0, 0.0, 0.5, 1.0], n, p=[0.1, 0.6, 0.1, 0.2])
    opponents = Opponents.of(*sides)
    columns = np.zeros((n, writers))
    np.add.at(columns, (np.arange(n), sides[0]), 1.0)
    np.add.at(columns, (np.arange(n), sides[1]), -1.0)
    columns = np.delete(columns, np.bincount(sides.ravel()).argmax(), axis=1)
    rows = np.flatnonzero(u)
    for choices, held in (
        (Choices(prompts), ()),
        (Choices(prompts, length[:, None]), (length[:, None],)),
        (Choices(prompts, length[:, None], opponents), (length[:, None], columns)),
        (Choices(prompts, None, opponents), (columns,)),
    ):
        found = choices.first(rows, u[rows])
        whole = fit_choices(np.hstack([u[:, None], *held]), prompts)
        assert found.converged
        assert found.coef == pytest.approx(whole.coef[0], abs=1e-5)
        assert found.se == pytest.approx(whole.se[0], rel=1e-4)
        assert found.model_se == pytest.approx(whole.model_se[0], rel=1e-4)
