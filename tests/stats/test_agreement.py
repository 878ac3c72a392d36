from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa as reference_kappa

from undertow.records import Interval, Rate
from undertow.stats.agreement import (
    Confusion,
    cohens_kappa,
    confusion,
    effective_n,
    krippendorff_alpha,
    rogan_gladen,
)
from undertow.stats.intervals import rate

NAN = math.nan


@pytest.mark.parametrize("seed", range(6))
def test_kappa_and_its_interval_are_those_of_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = 2 + seed % 3
    a = rng.integers(labels, size=80)
    b = np.where(rng.random(80) < 0.6, a, rng.integers(labels, size=80))
    table = np.zeros((labels, labels))
    np.add.at(table, (a, b), 1)
    found, expected = cohens_kappa(a, b), reference_kappa(table)
    assert found.value == pytest.approx(expected.kappa)
    assert found.interval is not None
    assert found.interval.low == pytest.approx(expected.kappa_low)
    assert found.interval.high == pytest.approx(min(1, expected.kappa_upp))
    assert (found.n, found.agreed) == (80, int((a == b).sum()))


def test_resamples_of_a_prompt_are_no_evidence_about_others() -> None:
    rng = np.random.default_rng(3)
    a = rng.random(60) < 0.5
    b = np.where(rng.random(60) < 0.8, a, ~a)
    once = cohens_kappa(a, b)
    prompts = np.repeat(np.arange(60), 5)
    copied = cohens_kappa(np.repeat(a, 5), np.repeat(b, 5), groups=prompts, rng=rng)
    naive = cohens_kappa(np.repeat(a, 5), np.repeat(b, 5))
    assert copied.value == pytest.approx(once.value)
    widths = [found.interval.high - found.interval.low for found in (once, copied, naive) if found.interval]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)
    assert widths[2] < 0.6 * widths[0]


def test_kappa_is_undefined_where_chance_must_agree() -> None:
    for a, b in (([], []), ([1, 1], [1, 1])):
        found = cohens_kappa(a, b)
        assert found.value is None
        assert found.interval is None
        assert found.reason
    assert cohens_kappa([0, 1], [1, 0]).value == pytest.approx(-1)


def test_alpha_of_krippendorffs_own_examples() -> None:
    """Krippendorff 2011: two observers and binary data (A), four observers with missing ratings (C)."""
    rng = np.random.default_rng(0)
    binary = [[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]
    assert krippendorff_alpha(binary, rng).value == pytest.approx(0.095, abs=5e-4)
    four = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
    found = krippendorff_alpha(four, rng)
    assert found.value == pytest.approx(0.743, abs=5e-4)
    assert found.n == 11
    assert found.interval is not None
    assert found.interval.low < 0.743 < found.interval.high


def test_alpha_is_undefined_without_pairs_or_with_one_label() -> None:
    rng = np.random.default_rng(0)
    assert krippendorff_alpha([[1, NAN], [NAN, 0]], rng).reason == "no unit has two ratings"
    assert krippendorff_alpha([[1, 1], [1, 1]], rng).value is None


def test_confusion_counts() -> None:
    assert confusion([1, 1, 1, 0, 0], [1, 0, 1, 1, 0]) == Confusion(2, 1, 1, 1)


def test_a_perfect_judge_changes_no_rate_and_a_known_error_is_undone() -> None:
    sure = rogan_gladen(rate(30, 100), Confusion(10**6, 0, 0, 10**6))
    assert sure.value == pytest.approx(0.3)
    assert sure.interval is not None
    assert sure.interval.low == pytest.approx(0.219, abs=5e-3)
    assert sure.interval.high == pytest.approx(0.396, abs=5e-3)
    # Of 1,000 with 40 % violations a judge with se 0.9 and sp 0.8 sees 0.4 × 0.9 + 0.6 × 0.2 = 48 %.
    assert rogan_gladen(rate(480, 1000), Confusion(90, 10, 20, 80)).value == pytest.approx(0.4)
    assert rogan_gladen(rate(5, 100), Confusion(90, 10, 20, 80)).value == 0


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        (Confusion(5, 5, 5, 5), "no better than chance"),
        (Confusion(2, 8, 6, 4), "no better than chance"),
        (Confusion(5, 5, 0, 0), "lack one of the classes"),
    ],
)
def test_a_useless_judge_corrects_nothing(judge: Confusion, reason: str) -> None:
    found = rogan_gladen(rate(3, 10), judge)
    assert found.value is None
    assert found.interval is None
    assert reason in found.reason


@pytest.mark.parametrize("prevalence", [0.03, 0.3, 0.9])
@pytest.mark.parametrize(("se", "sp", "labels"), [(0.9, 0.95, 60), (0.75, 0.8, 200), (0.98, 0.9, 30)])
def test_the_corrected_interval_holds_the_truth_as_often_as_it_says(
    prevalence: float, se: float, sp: float, labels: int
) -> None:
    rng = np.random.default_rng(7)
    n, trials, held, naive = 300, 1000, 0, 0
    for _ in range(trials):
        tp, tn = int(rng.binomial(labels, se)), int(rng.binomial(labels, sp))
        seen = rate(int(rng.binomial(n, prevalence * se + (1 - prevalence) * (1 - sp))), n)
        found = rogan_gladen(seen, Confusion(tp, labels - tp, labels - tn, tn)).interval
        held += found is not None and found.low <= prevalence <= found.high
        naive += seen.interval is not None and seen.interval.low <= prevalence <= seen.interval.high
    assert held / trials >= 0.92  # nominal 0.95, two and a half standard errors of the simulation
    assert naive < held


def test_the_effective_n_is_read_back_from_a_widened_interval() -> None:
    assert effective_n(rate(30, 100)) == pytest.approx(100, rel=1e-6)
    assert effective_n(rate(0, 40)) == pytest.approx(40, rel=1e-6)
    half = rate(15, 50).interval
    assert effective_n(Rate(30, 100, half)) == pytest.approx(50, rel=1e-6)
    wide = rogan_gladen(Rate(30, 100, half), Confusion(90, 10, 20, 80)).interval
    narrow = rogan_gladen(rate(30, 100), Confusion(90, 10, 20, 80)).interval
    assert isinstance(wide, Interval)
    assert isinstance(narrow, Interval)
    assert wide.high - wide.low > narrow.high - narrow.low
