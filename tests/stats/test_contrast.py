"""Contrasts of groups against statsmodels and scipy, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import sparse, stats

from undertow.stats.contrast import clustered_mean, contrast


@pytest.fixture(params=range(3))
def drawn(request):
    rng = np.random.default_rng(request.param)
    n = 300
    clusters = rng.integers(0, 60, n)
    values = rng.integers(-1, 2, (n, 3)) * (rng.random((n, 3)) < 0.6) * 1.0
    values[:, 0] += rng.normal(size=60)[clusters]
    groups = (rng.random((4, n)) < 0.3) * 1.0
    groups[3] = clusters < 15
    return groups, values, clusters


def cr1(on, values, clusters):
    """Error of a mean by statsmodels, corrected by G/(G - 1)."""
    fit = sm.OLS(values[on], np.ones(on.sum())).fit(cov_type="cluster", cov_kwds={"groups": clusters[on]})
    return fit.bse[0]


def test_delta_z_and_d_are_those_of_scipy(drawn):
    groups, values, clusters = drawn
    found = contrast(sparse.csr_matrix(groups), sparse.csr_matrix(values), clusters)
    for k, m in np.ndindex(4, 3):
        on = groups[k] > 0
        inside, outside = values[on, m], values[~on, m]
        assert found.delta[k, m] == pytest.approx(inside.mean() - outside.mean())
        assert found.mean_in[k, m] == pytest.approx(inside.mean())
        assert found.z[k, m] == pytest.approx(stats.ttest_ind(inside, outside, equal_var=False).statistic)
        sizes = len(inside) - 1, len(outside) - 1
        pooled = np.sqrt(np.average([inside.var(ddof=1), outside.var(ddof=1)], weights=sizes))
        assert found.d[k, m] == pytest.approx((inside.mean() - outside.mean()) / pooled)


def test_errors_are_clustered_as_in_statsmodels(drawn):
    groups, values, clusters = drawn
    found = contrast(sparse.csr_matrix(groups), sparse.csr_matrix(values), clusters)
    for m in range(3):
        on = groups[3] > 0
        apart = np.hypot(cr1(on, values[:, m], clusters), cr1(~on, values[:, m], clusters))
        assert found.se[3, m] == pytest.approx(apart), "no cluster on both sides: exact"
        for k in range(3):
            x = sm.add_constant(groups[k])
            kwds = {"groups": clusters, "use_correction": False}
            plain = sm.OLS(values[:, m], x).fit(cov_type="cluster", cov_kwds=kwds).bse[1]
            assert plain < found.se[k, m] < plain * 1.03, "CR0, and a correction of at most G/(G - 1)"
    mean, se = clustered_mean(sparse.csr_matrix(values), clusters)
    assert mean == pytest.approx(values.mean(0))
    assert se == pytest.approx([cr1(np.ones(len(values), bool), values[:, m], clusters) for m in range(3)])


def test_one_prompt_is_no_evidence_however_often_it_is_repeated():
    values = np.concatenate([np.ones(400), np.tile([1.0, -1.0], 200)])[:, None]
    clusters = np.concatenate([np.zeros(400, int), np.arange(1, 401)])
    inside = sparse.csr_matrix((np.arange(800) < 400)[None, :].astype(float))
    found = contrast(inside, sparse.csr_matrix(values), clusters)
    assert found.z[0, 0] > 10, "as independent pairs it would be overwhelming"
    assert np.isnan(found.se[0, 0])
    assert np.isnan(found.p()[0, 0])
