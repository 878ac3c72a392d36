import numpy as np
import pytest
from scipy import stats

from undertow.stats.resample import bootstrap, bootstrap_groups


def test_bootstrap_agrees_with_scipy_and_repeats_with_its_seed():
    values = np.random.default_rng(0).exponential(size=300)
    ours = bootstrap(values, np.mean, np.random.default_rng(1), n=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)
    assert ours == bootstrap(values, np.mean, np.random.default_rng(1), n=20_000)


def test_one_value_has_no_spread_to_speak_of():
    rng = np.random.default_rng(0)
    assert bootstrap([3.0], np.mean, rng) is None
    assert bootstrap([], np.median, rng) is None
    assert bootstrap_groups([1.0, 2.0], ["a", "a"], rng) is None


def test_groups_of_one_are_the_ordinary_bootstrap():
    values = np.random.default_rng(0).normal(size=80)
    grouped = bootstrap_groups(values, np.arange(80), np.random.default_rng(5), n=500)
    assert grouped == bootstrap(values, np.mean, np.random.default_rng(5), n=500)


def test_a_grouped_interval_covers_the_truth_where_a_naive_one_does_not():
    rng = np.random.default_rng(11)
    groups = np.repeat(np.arange(25), 20)
    hits = {"grouped": 0, "naive": 0}
    for _ in range(200):
        values = rng.normal(size=25)[groups] + rng.normal(size=500)
        grouped = bootstrap_groups(values, groups, rng, n=400)
        naive = bootstrap(values, np.mean, rng, n=400)
        hits["grouped"] += grouped.low <= 0 <= grouped.high
        hits["naive"] += naive.low <= 0 <= naive.high
    assert hits["grouped"] >= 175
    assert hits["naive"] <= 140
