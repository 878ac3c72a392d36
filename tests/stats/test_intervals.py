import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from undertow.records import Rate
from undertow.stats.intervals import (
    bounded_mean,
    difference_of_rates,
    mcnemar,
    newcombe_paired,
    paired_difference,
    rate,
    wilson,
    wilson_bounds,
    wilson_lower,
)

COUNTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_that_of_statsmodels_and_holds_the_rate(counts, level):
    hits, n = counts
    interval = wilson(hits, n, level)
    low, high = proportion_confint(hits, n, alpha=1 - level, method="wilson")
    assert interval.low == pytest.approx(low, abs=1e-12)
    assert interval.high == pytest.approx(high, abs=1e-12)
    assert 0 <= interval.low <= hits / n <= interval.high <= 1
    assert wilson_lower(hits, n, level) == pytest.approx(interval.low, abs=1e-12)
    assert wilson_bounds([hits], [n], level)[1] == pytest.approx(interval.high, abs=1e-12)


def test_nothing_tried_is_missing_not_zero():
    assert wilson(0, 0) is None
    assert rate(0, 0) == Rate(0, 0, None)
    assert rate(0, 0).value is None
    assert np.isnan(wilson_lower([0, 1], [0, 2])).tolist() == [True, False]
    assert difference_of_rates(rate(0, 0), rate(1, 2)) == (None, None)


@pytest.mark.parametrize(("hits", "n"), [(3, 2), (-1, 2), (1, 0)])
def test_impossible_counts_are_refused(hits, n):
    with pytest.raises(ValueError, match="hits out of"):
        wilson(hits, n)


@given(COUNTS, COUNTS)
def test_independent_difference_is_that_of_statsmodels(before, after):
    value, interval = difference_of_rates(rate(*before), rate(*after))
    low, high = confint_proportions_2indep(*after, *before, method="newcomb", compare="diff")
    assert value == pytest.approx(after[0] / after[1] - before[0] / before[1])
    assert interval.low == pytest.approx(low, abs=1e-9)
    assert interval.high == pytest.approx(high, abs=1e-9)


def test_paired_interval_without_correlation_is_the_independent_one():
    # 25 of 50 in both, cells as independence gives them: phi is 0
    interval = newcombe_paired(12.5, 12.5, 12.5, 12.5)
    _, independent = difference_of_rates(rate(25, 50), rate(25, 50))
    assert interval.low == pytest.approx(independent.low)
    assert interval.high == pytest.approx(independent.high)


def test_paired_interval_of_the_published_example():
    # Newcombe 1998a, table II: cells 36, 12, 2, 0: method 10 gives 0.0569 to 0.3404 for first minus second
    interval = newcombe_paired(36, 2, 12, 0)
    assert interval.low == pytest.approx(0.0569, abs=5e-4)
    assert interval.high == pytest.approx(0.3404, abs=5e-4)


def test_paired_difference_has_its_sign_and_a_width_at_the_extremes():
    before, after = np.ones(30, bool), np.zeros(30, bool)
    change = paired_difference(before, after)
    assert change.value == -1
    assert change.n == 30
    assert change.interval.low == -1
    assert -1 < change.interval.high < -0.8
    assert paired_difference(after, before).interval.low == pytest.approx(-change.interval.high)
    missing = paired_difference([], [])
    assert (missing.value, missing.interval, missing.n) == (None, None, 0)
    assert missing.reason


def test_paired_interval_covers_the_truth():
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(600):
        shared = rng.random(60)
        before = shared < 0.6
        after = np.where(rng.random(60) < 0.5, shared < 0.3, rng.random(60) < 0.3)
        interval = paired_difference(before, after).interval
        covered += interval.low <= -0.3 <= interval.high
    assert 0.92 <= covered / 600 <= 0.985


def test_resamples_of_few_prompts_are_no_evidence_about_others():
    rng = np.random.default_rng(3)
    prompts = np.repeat(np.arange(8), 25)
    before = np.ones(200, bool)
    after = np.isin(prompts, [0, 1, 2])
    alone = paired_difference(before, after)
    grouped = paired_difference(before, after, rng, prompts)
    width = grouped.interval.high - grouped.interval.low
    assert width > 2.5 * (alone.interval.high - alone.interval.low)
    agreed = paired_difference(before, ~before, rng, prompts)
    eight = paired_difference(np.ones(8), np.zeros(8))
    assert agreed.interval == eight.interval
    assert agreed.n == 200
    with pytest.raises(ValueError, match="rng"):
        paired_difference(before, after, groups=prompts)
    with pytest.raises(ValueError, match="one length"):
        paired_difference(before, after[:-1])


def test_mcnemar_is_that_of_statsmodels():
    rng = np.random.default_rng(1)
    before, after = rng.random(50) < 0.6, rng.random(50) < 0.3
    table = [[(before & after).sum(), (before & ~after).sum()], [(~before & after).sum(), 0]]
    assert mcnemar(before, after) == pytest.approx(reference_mcnemar(table, exact=True).pvalue)
    assert mcnemar(before, before) is None


@pytest.mark.parametrize(("hits", "n"), [(0, 4), (4, 4), (1, 4), (9, 12), (40, 40)])
def test_a_bounded_mean_of_yes_and_no_is_jeffreys_interval(hits, n):
    values = np.repeat([2.0, -2.0], [hits, n - hits])
    span = bounded_mean(values, -2, 2, np.random.default_rng(0), draws=100_000)
    low, high = proportion_confint(hits, n, method="jeffreys")
    assert span.low == pytest.approx(-2 if hits == 0 else 4 * low - 2, abs=0.02)
    assert span.high == pytest.approx(2 if hits == n else 4 * high - 2, abs=0.02)


@pytest.mark.parametrize("draw", [
    lambda rng, n: rng.choice([-2.0, 2.0], n, p=[0.1, 0.9]),
    lambda rng, n: rng.choice([-2.0, 0.0, 2.0], n, p=[0.05, 0.9, 0.05]),
    lambda rng, n: rng.uniform(-2, 2, n),
    lambda rng, n: 4 * rng.beta(8, 2, n) - 2,
    lambda rng, n: np.clip(rng.normal(0, 1, n), -2, 2),
])  # fmt: skip
@pytest.mark.parametrize("n", [2, 4, 12])
def test_a_bounded_mean_holds_the_truth_as_often_as_it_says(draw, n):
    rng = np.random.default_rng(n)
    truth = draw(rng, 1_000_000).mean()
    spans = [bounded_mean(draw(rng, n), -2, 2, rng, draws=800) for _ in range(300)]
    assert np.mean([span.low <= truth <= span.high for span in spans]) > 0.88


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=20))
def test_a_bounded_mean_has_a_width_and_stays_in_its_range(values):
    span = bounded_mean(values, -2, 2, np.random.default_rng(0), draws=400)
    assert -2 <= span.low <= np.mean(values) <= span.high <= 2
    assert span.high - span.low > 0.01
    alike = bounded_mean(values[:1] * 4, -2, 2, np.random.default_rng(0), draws=400)
    assert alike.high - alike.low > 0.3


def test_a_bounded_mean_of_nothing_is_missing_and_one_beyond_the_range_refused():
    rng = np.random.default_rng(0)
    assert bounded_mean([], 0, 1, rng) is None
    with pytest.raises(ValueError, match="not within"):
        bounded_mean([0.5, 1.5], 0, 1, rng)
    with pytest.raises(ValueError, match="not within"):
        bounded_mean([np.nan], 0, 1, rng)
