import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from undertow.stats.multiplicity import benjamini_hochberg


def test_adjustment_is_that_of_statsmodels():
    p = np.random.default_rng(0).random(200) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1])


def test_what_was_not_tested_counts_as_no_test():
    adjusted = benjamini_hochberg([0.01, np.nan, 0.04])
    np.testing.assert_allclose(adjusted, [0.02, np.nan, 0.04])
    assert benjamini_hochberg([]).shape == (0,)
    assert np.isnan(benjamini_hochberg([np.nan])).all()
    with pytest.raises(ValueError, match="0"):
        benjamini_hochberg([1.5])


def test_no_discovery_among_nulls():
    rng = np.random.default_rng(4)
    false = sum((benjamini_hochberg(rng.random(100)) < 0.05).any() for _ in range(400))
    assert false / 400 < 0.08
