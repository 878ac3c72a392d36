"""Resampling: bootstrap intervals with an explicit generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from undertow.records import Interval

Statistic = Callable[..., NDArray[np.float64]]
"""Maps an array to its statistic along ``axis``, e.g. ``numpy.mean``."""

_BLOCK = 2_000_000
"""Resampled values held at once."""


def bootstrap(
    values: ArrayLike,
    statistic: Statistic,
    rng: np.random.Generator,
    n: int = 2000,
    level: float = 0.95,
) -> Interval | None:
    """Percentile bootstrap interval of ``statistic(values, axis=-1)`` for a vector of independent values.

    ``None`` for fewer than two values: one value says nothing about spread. A constant sample gives an
    interval without width; a proportion wants :func:`undertow.stats.intervals.wilson`.
    """
    sample = np.asarray(values, np.float64)
    if len(sample) < 2:
        return None
    rows = max(1, _BLOCK // len(sample))
    blocks = [
        statistic(sample[rng.integers(len(sample), size=(min(rows, n - start), len(sample)))], axis=-1)
        for start in range(0, n, rows)
    ]
    return _percentiles(np.concatenate(blocks), level)


def bootstrap_groups(
    values: ArrayLike,
    groups: ArrayLike,
    rng: np.random.Generator,
    n: int = 2000,
    level: float = 0.95,
) -> Interval | None:
    """Percentile interval of the mean of ``values`` (m,), resampling whole ``groups`` (m,).

    Davison & Hinkley 1997, section 3.8. ``None`` for fewer than two groups.
    """
    sample = np.asarray(values, np.float64)
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(index)
    if len(sizes) < 2:
        return None
    sums = np.bincount(index, weights=sample)
    rows = max(1, _BLOCK // len(sizes))
    means = []
    for start in range(0, n, rows):
        drawn = rng.integers(len(sizes), size=(min(rows, n - start), len(sizes)))
        means.append(sums[drawn].sum(1) / sizes[drawn].sum(1))
    return _percentiles(np.concatenate(means), level)


def _percentiles(draws: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(low), float(high), level)
