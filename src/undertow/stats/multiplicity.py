"""Many tests at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """False-discovery-rate adjusted p, same shape (Benjamini & Hochberg 1995); NaN is no test and stays.

    Raises:
        ValueError: a p outside [0, 1].
    """
    from scipy.stats import false_discovery_control

    values = np.asarray(p, np.float64)
    adjusted = np.full(values.shape, np.nan)
    tested = ~np.isnan(values)
    if tested.any():
        adjusted[tested] = false_discovery_control(values[tested], method="bh")
    return adjusted
