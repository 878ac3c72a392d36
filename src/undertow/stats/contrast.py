"""Means of many sparse values inside many groups of rows against outside, for rows that come in clusters.

For each group k of rows and column m: Δ = mean inside - mean outside, Welch's z, Cohen's d, and a standard
error that takes each cluster (all pairs of one prompt) for one observation (Liang & Zeger 1986; CR1 with the
correction G/(G - 1) taken inside and outside apart, since inside there may be few clusters). Everything is
matrix products: no loop over rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contrast:
    """Δ of every group (K) and column (M), with what says how sure it is."""

    delta: Floats
    """(K, M) mean inside - mean outside."""
    z: Floats
    """(K, M) Welch's z, rows taken as independent; NaN where undefined."""
    d: Floats
    """(K, M) Cohen's d with the pooled standard deviation; NaN where undefined."""
    se: Floats
    """(K, M) cluster-robust standard error of ``delta``, never smaller than if one more cluster on each side
    said the opposite; NaN below two clusters on a side."""
    n: NDArray[np.int64]
    """(K,) rows inside."""
    clusters: NDArray[np.int64]
    """(K,) clusters with a row inside."""
    mean_in: Floats
    """(K, M) mean inside; NaN of an empty group."""

    def p(self) -> Floats:
        """Two-sided p of ``delta`` by t with clusters inside - 1 degrees of freedom; NaN where undefined."""
        from scipy.stats import t

        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(self.se > 0, np.abs(self.delta) / self.se, np.nan)
        freedom = np.maximum(self.clusters - 1, 1)[:, None]
        return np.asarray(2 * t.sf(ratio, freedom), np.float64)


def contrast(inside: Any, values: Any, clusters: ArrayLike) -> Contrast:
    """Contrast ``values`` inside each group with those outside of it.

    Args:
        inside: sparse (K, N), 1 where a row is in a group; groups may overlap.
        values: sparse (N, M).
        clusters: (N,) integer or string name of each row's cluster.

    Source: Welch 1947; paper §3.2 (Bergen et al. 2026) for Δ, z and d; Liang & Zeger 1986 for ``se``.
    """
    from scipy import sparse

    groups = sparse.csr_matrix(inside, dtype=np.float64)
    table = sparse.csc_matrix(values, dtype=np.float64)
    cells = _Cells(groups, clusters)
    found = np.empty((5, groups.shape[0], table.shape[1]))
    # each row of the table is added to as many cells as there are groups with it
    touched = table.nnz * max(1.0, groups.nnz / max(1, groups.shape[1]))
    step = max(1, int(table.shape[1] * min(1.0, _ENTRIES / max(touched, 1.0))))
    for start in range(0, table.shape[1], step):
        part = slice(start, start + step)
        block = table[:, part].tocsr()
        full = block.nnz > _FULL * block.shape[0] * block.shape[1]
        found[:, :, part] = _contrasted(groups, cells, block.toarray() if full else block)
    delta, z, d, se, mean_in = found
    n = np.asarray(groups.sum(1)).ravel().astype(np.int64)
    return Contrast(delta, _finite(z), _finite(d), se, n, cells.held, mean_in)


_ENTRIES = 20_000_000
"""Entries of cells × columns that stand in memory at once."""
_FULL = 0.25
"""Share of entries from which a table is faster dense."""


def _contrasted(groups: Any, cells: _Cells, table: Any) -> Floats:
    """Δ, z, d, se and mean inside of some columns, (5, K, columns)."""
    rows = table.shape[0]
    n_in = np.asarray(groups.sum(1), np.float64).ravel()
    n_out = rows - n_in
    sums = _dense(groups @ table)
    squared = _times(table, table)
    squares = _dense(groups @ squared)
    total, total_squares = _column_sums(table), _column_sums(squared)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_in, mean_out = sums / n_in[:, None], (total - sums) / n_out[:, None]
        var_in = _variance(squares, mean_in, n_in[:, None])
        var_out = _variance(total_squares - squares, mean_out, n_out[:, None])
        delta = mean_in - mean_out
        z = delta / np.sqrt(var_in / n_in[:, None] + var_out / n_out[:, None])
        pooled = ((n_in - 1)[:, None] * var_in + (n_out - 1)[:, None] * var_out) / (rows - 2)
        d = delta / np.sqrt(pooled)
    error = cells.errors(groups, table, mean_in, mean_out)
    return np.stack([delta, z, d, np.maximum(error, cells.least(mean_in, mean_out)), mean_in])


class _Cells:
    """Rows of each group cut into clusters, for errors that take a cluster for one observation."""

    def __init__(self, groups: Any, clusters: ArrayLike) -> None:
        from scipy import sparse

        _, code = np.unique(np.asarray(clusters), return_inverse=True)
        rows, count = len(code), int(code.max()) + 1 if len(code) else 0
        self._member = sparse.csr_matrix((np.ones(rows), (code, np.arange(rows))), shape=(count, rows))
        self._size = np.asarray(self._member.sum(1)).ravel()
        entries = groups.tocoo()
        key, cell = np.unique(entries.row.astype(np.int64) * count + code[entries.col], return_inverse=True)
        of_group, self._of_cluster = key // max(count, 1), key % max(count, 1)
        self._part = sparse.csr_matrix((np.ones(len(cell)), (cell, entries.col)), shape=(len(key), rows))
        self._n = np.asarray(self._part.sum(1)).ravel()
        ones, at = np.ones(len(key)), np.arange(len(key))
        self._by_group = sparse.csr_matrix((ones, (of_group, at)), shape=(groups.shape[0], len(key)))
        self.held = np.asarray(self._by_group.sum(1)).ravel().astype(np.int64)
        emptied = self._n == self._size[self._of_cluster]
        self._left = count - np.bincount(of_group[emptied], minlength=groups.shape[0])

    def _summed(self, matrix: Any, weight: Floats | None = None) -> Floats:
        from scipy import sparse

        return _dense((self._by_group if weight is None else self._by_group @ sparse.diags(weight)) @ matrix)

    def _counted(self, weight: Floats) -> Floats:
        return np.asarray(self._by_group @ weight).ravel()[:, None]

    def errors(self, groups: Any, table: Any, mean_in: Floats, mean_out: Floats) -> Floats:
        """Sum each cluster's influence on Δ, square and add up, (K, columns).

        With W, n of a (cluster, group) cell and T, N of a whole cluster, inside S = W - n·ū_in and outside
        O = (T - N·ū_out) - (W - n·ū_out); the variance is Σ(S/n_in - O/n_out)². Each sum over cells is a
        product with the (K, cells) indicator, so that nothing of size clusters × groups × columns is made.
        """
        whole, w = self._member @ table, self._part @ table
        size, n, big_n = self._size, self._n, self._size[self._of_cluster]
        t = whole[self._of_cluster]
        ww, nw, nn = self._summed(_times(w, w)), self._summed(w, n), self._counted(n * n)
        tw, tn, bw = self._summed(_times(t, w)), self._summed(t, n), self._summed(w, big_n)
        bn = self._counted(big_n * n)
        inner = ww - 2 * mean_in * nw + mean_in**2 * nn
        everyone = (
            _column_sums(_times(whole, whole))
            - 2 * mean_out * np.asarray(whole.T @ size)
            + mean_out**2 * float(size @ size)
        )
        a_b = tw - mean_out * (tn + bw) + mean_out**2 * bn
        b_b = ww - 2 * mean_out * nw + mean_out**2 * nn
        outer = everyone - 2 * a_b + b_b
        a_s = tw - mean_in * tn - mean_out * bw + mean_in * mean_out * bn
        b_s = ww - (mean_in + mean_out) * nw + mean_in * mean_out * nn
        return _standard_error(groups, inner, outer, a_s - b_s, self.held, self._left)

    def least(self, mean_in: Floats, mean_out: Floats) -> Floats:
        """Error of Δ (K, M) if one more cluster on each side said the opposite: rows that agree have none."""
        inside, outside = (2 / np.maximum(held, 1)[:, None] for held in (self.held, self._left))
        return np.asarray(np.hypot(inside * mean_in, outside * mean_out), np.float64)


def _standard_error(
    groups: Any, inner: Floats, outer: Floats, cross: Floats, held: NDArray[np.int64], left: NDArray[np.int64]
) -> Floats:
    n_in = np.asarray(groups.sum(1)).ravel()[:, None]
    n_out = groups.shape[1] - n_in
    with np.errstate(divide="ignore", invalid="ignore"):
        few_in, few_out = (held / (held - 1.0))[:, None], (left / (left - 1.0))[:, None]
        variance = (
            inner / n_in**2 * few_in
            + outer / n_out**2 * few_out
            - 2 * cross / (n_in * n_out) * np.sqrt(few_in * few_out)
        )
        se: Floats = np.sqrt(np.maximum(variance, 0.0))
    return np.where(((held > 1) & (left > 1))[:, None], se, np.nan)


def clustered_mean(values: Any, clusters: ArrayLike) -> tuple[Floats, Floats]:
    """Mean of every column of sparse ``values`` (N, M) and its cluster-robust standard error.

    Equals least squares on a constant with CR1 errors (statsmodels ``cov_type="cluster"``), but the error
    is never smaller than if one more cluster of mean size said the opposite: CR1 is 0 where all rows agree.
    The error is NaN for fewer than two clusters, and without a row so is the mean.
    """
    from scipy import sparse

    if not values.shape[0]:
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    _, code = np.unique(np.asarray(clusters), return_inverse=True)
    count, rows = int(code.max()) + 1, len(code)
    member = sparse.csr_matrix((np.ones(rows), (code, np.arange(rows))), shape=(count, rows))
    sums, size = (member @ values).tocsr().astype(np.float64), np.asarray(member.sum(1)).ravel()
    mean = _column_sums(sums) / rows
    squares = _column_sums(sums.multiply(sums))
    weighted = _column_sums(sums.multiply(size[:, None]).tocsr())
    variance = np.maximum(squares - 2 * mean * weighted + mean**2 * float(size @ size), 0.0)
    if count < 2:
        return mean, np.full_like(mean, np.nan)
    error = np.sqrt(variance * count / (count - 1)) / rows
    return mean, np.maximum(error, 2 * np.abs(mean) / count)


def effective_clusters(clusters: ArrayLike) -> float:
    """How many clusters of one size say as much about a mean as these: N² / Σ n_g².

    Source: Carter, Schnepel & Steigerwald 2017, for a constant regressor.
    """
    _, sizes = np.unique(np.asarray(clusters), return_counts=True)
    return float(sizes.sum() ** 2 / (sizes.astype(np.float64) @ sizes)) if len(sizes) else 0.0


def _variance(squares: Floats, mean: Floats, n: Floats) -> Floats:
    return np.maximum(squares - n * mean**2, 0.0) / (n - 1)


def _times(first: Any, second: Any) -> Any:
    """Multiply entry by entry."""
    return first.multiply(second).tocsr() if hasattr(first, "multiply") else first * second


def _column_sums(matrix: Any) -> Floats:
    return np.asarray(matrix.sum(0), np.float64).ravel()


def _dense(matrix: Any) -> Floats:
    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    return np.asarray(dense, np.float64)


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)
