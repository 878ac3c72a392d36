from fractions import Fraction
from math import comb, log

import numpy as np
import pytest
from scipy.stats import fisher_exact
from statsmodels.stats.contingency_tables import StratifiedTable

from undertow.stats.enrichment import (
    hypergeometric,
    log_hypergeometric,
    log_odds_dirichlet,
    mantel_haenszel,
)


def exact_tail(x, n, M, N):
    ways = sum(comb(M, k) * comb(N - M, n - k) for k in range(x, min(n, M) + 1))
    return Fraction(ways, comb(N, n))


@pytest.mark.parametrize(
    ("x", "n", "M", "N"),
    [
        (5, 10, 20, 100),
        (0, 10, 20, 100),
        (60, 60, 60, 74_328),
        (100, 150, 150, 74_328),
        (25, 120, 2000, 9000),
    ],
)
def test_tail_is_exact_even_far_out(x, n, M, N):
    assert hypergeometric(x, n, M, N) == pytest.approx(float(exact_tail(x, n, M, N)), rel=1e-6, abs=0)


def test_logarithm_orders_what_underflows():
    exact = exact_tail(150, 150, 160, 74_328)
    expected = log(exact.numerator) - log(exact.denominator)
    assert hypergeometric(150, 150, 160, 74_328) == pytest.approx(0, abs=1e-300)
    assert log_hypergeometric(150, 150, 160, 74_328) == pytest.approx(expected, rel=1e-6)


def test_it_is_fisher_one_sided_for_each_feature():
    x, M = np.array([3, 8, 0]), np.array([12, 10, 7])
    expected = [
        fisher_exact([[a, m - a], [20 - a, 80 - m + a]], alternative="greater").pvalue
        for a, m in zip(x, M, strict=True)
    ]
    np.testing.assert_allclose(hypergeometric(x, 20, M, 100), expected)


def planted(rng, strata=4, odds=5.0):
    """Strata with base rates of their own, in which the feature multiplies the behaviour's odds."""
    tables = []
    for base in np.linspace(0.1, 0.6, strata):
        feature = rng.random(3000) < base
        p = base / (1 - base) * np.where(feature, odds, 1)
        behaviour = rng.random(3000) < p / (1 + p)
        tables.append((feature, behaviour))
    x = [int((f & b).sum()) for f, b in tables]
    return x, [int(b.sum()) for _, b in tables], [int(f.sum()) for f, _ in tables], [3000] * strata


def test_pooled_odds_are_those_of_statsmodels():
    x, n, M, N = (np.array(v) for v in planted(np.random.default_rng(0)))
    tables = [np.array([[a, m - a], [k - a, r - m - k + a]]) for a, k, m, r in zip(x, n, M, N, strict=True)]
    reference = StratifiedTable([table.astype(float) for table in tables]).oddsratio_pooled
    both = mantel_haenszel(np.stack([x, x], 1), n, np.stack([M, M], 1), N)
    np.testing.assert_allclose(both, [reference, reference])
    assert mantel_haenszel(x, n, M, N) == pytest.approx(reference)
    assert reference == pytest.approx(5, rel=0.15)


def test_a_feature_that_only_marks_the_source_has_odds_of_one_within():
    x, n, M, N = planted(np.random.default_rng(1), odds=1.0)
    assert mantel_haenszel(x, n, M, N) == pytest.approx(1, abs=0.1)
    crude = mantel_haenszel([sum(x)], [sum(n)], [sum(M)], [sum(N)])
    assert crude > 1.5


def test_uninformative_strata_and_empty_cells():
    # every row of stratum 0 has the behaviour; only stratum 1 speaks
    alone = mantel_haenszel([4], [10], [8], [40])
    assert mantel_haenszel([50, 4], [50, 10], [20, 8], [50, 40]) == pytest.approx(alone)
    assert np.isnan(mantel_haenszel([50], [50], [20], [50]))
    assert mantel_haenszel([8], [10], [8], [40]) == np.inf
    assert 1 < mantel_haenszel([8], [10], [8], [40], correction=0.5) < np.inf


def test_log_odds_find_the_planted_word_and_nothing_between_equals():
    rng = np.random.default_rng(2)
    words = np.full(50, 1 / 50)
    a, b = rng.multinomial(20_000, words), rng.multinomial(30_000, words)
    prior = (a + b) / 50
    assert np.abs(log_odds_dirichlet(a, b, prior)).max() < 4
    a[7] += 300
    z = log_odds_dirichlet(a, b, prior)
    assert z.argmax() == 7
    assert z[7] > 5
    np.testing.assert_allclose(z, -log_odds_dirichlet(b, a, prior))


def test_log_odds_by_hand():
    # one feature in documents: 30 of 100 against 10 of 100, prior 5 of 20
    z = log_odds_dirichlet([30], [10], [5], totals=(100, 100), prior_total=20)
    expected = (log(35 / 85) - log(15 / 105)) / (1 / 35 + 1 / 15) ** 0.5
    assert z[0] == pytest.approx(expected)
    with pytest.raises(ValueError, match="positive"):
        log_odds_dirichlet([1], [1], 0.0)
