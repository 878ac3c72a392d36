"""Test every group of pairs against every concept, in two halves of the prompts, over a label-swap floor.

One half proposes, the other confirms: a cell that stands out in the first is tested one-sided in the second,
and q is Benjamini–Hochberg's over the proposed cells (the paper asks for equal signs alone, of which chance
gives half). Halves are halves of the prompts, so that no prompt is in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from undertow.preference.config import AuditConfig
from undertow.preference.swaps import SwapHalf, swap_floors, swap_signs
from undertow.progress import SILENT, Progress
from undertow.stats.contrast import Contrast, clustered_mean, contrast, effective_clusters
from undertow.stats.multiplicity import benjamini_hochberg

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]
Half = NDArray[np.int64]
"""Row numbers of one half."""

_HALF_PROMPTS = 8
"""Prompts that a group needs in each half for a clustered error there."""


@dataclass(frozen=True, slots=True)
class Tested:
    """Every group (K) by every concept (M)."""

    whole: Contrast
    """On all pairs: what is reported."""
    delta_min: Floats
    """(K, M) min(|Δ^A|, |Δ^B|), NaN where the halves differ in sign or a group is too small."""
    p: Floats
    """(K, M) one-sided on the confirming half; NaN where not proposed."""
    q: Floats
    """(K, M) Benjamini–Hochberg over the proposed cells; NaN where not proposed."""
    floor: float | None
    """95 % point of the largest ``delta_min`` under label swaps; ``None`` where no group is large enough."""
    strength: Floats
    """(K, M) smallest of |Δ|/σ(Δ) and |ū_in|/σ(ū_in) of both halves, σ the error over label swaps; NaN where
    their signs differ."""
    strength_floor: float | None
    """95 % point of the largest ``strength``."""
    confirmed: NDArray[np.bool_]
    """(K, M) q at most the level, equal signs and above one of the floors."""


def halves(prompts: NDArray[np.int64], rng: np.random.Generator) -> tuple[Half, Half]:
    """Split rows so that each prompt's rows stay together and both halves have as many prompts."""
    distinct, code = np.unique(prompts, return_inverse=True)
    side = rng.permutation(len(distinct)) % 2
    return np.flatnonzero(side[code] == 0), np.flatnonzero(side[code] == 1)


def cells_test(
    inside: csr_matrix,
    values: csr_matrix,
    prompts: NDArray[np.int64],
    config: AuditConfig,
    seed: int,
    progress: Progress = SILENT,
) -> Tested:
    """Test all cells.

    Args:
        inside: (K, N) groups.
        values: (N, M) signed disparities.
        prompts: (N,) prompt of each pair.
        config: levels and least sizes.
        seed: of halves and label swaps.
        progress: hears about the label swaps.
    """
    rng = np.random.default_rng(seed)
    parts = halves(prompts, rng)
    whole = contrast(inside, values, prompts)
    first, second = (contrast(inside[:, rows], values[rows], prompts[rows]) for rows in parts)
    large = (whole.n >= config.least_pairs) & (whole.clusters >= config.least_prompts)
    large &= np.minimum(first.clusters, second.clusters) >= _HALF_PROMPTS
    delta_min = _delta_min(first.delta, second.delta, large)
    proposed = large[:, None] & (first.p() < config.level)
    p = np.where(proposed, _one_sided(second, np.sign(first.delta)), np.nan)
    q = benjamini_hochberg(p)
    signs = swap_signs(int(prompts.max()) + 1, config.null_draws, rng)
    halved = [SwapHalf(inside[:, rows], values[rows], prompts[rows]) for rows in parts]
    strength, floors = swap_floors(halved, large, signs, config.level, progress)
    if floors is None:
        return Tested(whole, delta_min, p, q, None, strength, None, np.zeros(q.shape, np.bool_))
    with np.errstate(invalid="ignore"):
        confirmed = (q <= config.level) & ((delta_min > floors[0]) | (strength > floors[1]))
        confirmed &= ~np.isnan(delta_min)
    return Tested(whole, delta_min, p, q, floors[0], strength, floors[1], confirmed)


def _one_sided(half: Contrast, sign: Floats) -> Floats:
    two_sided = half.p()
    return np.where(np.sign(half.delta) == sign, two_sided / 2, 1 - two_sided / 2)


def _delta_min(first: Floats, second: Floats, large: NDArray[np.bool_]) -> Floats:
    return np.where(large[:, None], _least(first, second), np.nan)


@dataclass(frozen=True, slots=True)
class TestedConcepts:
    """Every concept over all pairs, in the same way."""

    delta: Floats
    """(M,) mean of u."""
    se: Floats
    """(M,) clustered by prompt."""
    d: Floats
    """(M,) delta over the standard deviation of u; NaN where constant."""
    q: Floats
    """(M,) on the confirming half; NaN where not proposed."""
    delta_min: Floats
    """(M,) smaller |delta| of the halves; NaN where they differ in sign."""
    t: Floats
    """(M,) Σ over √Σ² of the prompts' sums."""
    floor: float
    """95 % point of the largest |t| under label swaps: of t, so that rare concepts have their chance."""
    confirmed: NDArray[np.bool_]
    """(M,)"""
    n: NDArray[np.int64]
    """(M,) pairs whose sides differ in the concept."""
    n_prompts: NDArray[np.int64]
    """(M,) their prompts."""
    clusters: float
    """Prompts that count: one with most of the pairs counts for little more than itself."""


def concepts_test(
    values: csr_matrix, prompts: NDArray[np.int64], config: AuditConfig, seed: int
) -> TestedConcepts:
    """Test the mean of every column against 0: the plain answer, before any group is asked for."""
    from scipy.stats import norm

    rng = np.random.default_rng(seed)
    parts = halves(prompts, rng)
    delta, se = clustered_mean(values, prompts)
    (a, se_a), (b, se_b) = (clustered_mean(values[rows], prompts[rows]) for rows in parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        proposed = 2 * norm.sf(np.abs(a / se_a)) < config.level
        p = np.where(proposed & (se_b > 0), norm.sf(b / se_b * np.sign(a)), np.nan)
        sd = np.sqrt(np.asarray(values.multiply(values).mean(0)).ravel() - delta**2)
        d = np.where(sd > 0, delta / sd, np.nan)
    q = benjamini_hochberg(p)
    least = _least(a, b)
    sums = _prompt_sums(values, prompts)
    t = _score_t(sums, np.ones((sums.shape[1], 1))).ravel()
    signs = rng.choice(np.array([-1.0, 1.0]), (sums.shape[1], config.null_draws))
    floor = float(np.quantile(np.abs(_score_t(sums, signs)).max(0, initial=0.0), 1 - config.level))
    with np.errstate(invalid="ignore"):
        confirmed = (q <= config.level) & (np.abs(t) > floor)
    n, n_prompts = _support(values, prompts)
    count = effective_clusters(prompts)
    return TestedConcepts(delta, se, d, q, least, t, floor, confirmed, n, n_prompts, count)


def _least(first: Floats, second: Floats) -> Floats:
    """Smaller absolute value where the signs agree, NaN elsewhere."""
    same = (np.sign(first) == np.sign(second)) & (first != 0)
    return np.where(same, np.minimum(np.abs(first), np.abs(second)), np.nan)


def _prompt_sums(values: csr_matrix, prompts: NDArray[np.int64]) -> csr_matrix:
    """Sum the rows of each prompt, (M, prompts)."""
    from scipy import sparse

    shape = (len(prompts), int(prompts.max()) + 1)
    member = sparse.csr_matrix((np.ones(len(prompts)), (np.arange(len(prompts)), prompts)), shape=shape)
    sums: csr_matrix = (values.T @ member).tocsr()
    return sums


def _score_t(sums: csr_matrix, signs: Floats) -> Floats:
    """T of every column under every assignment of ``signs`` (prompts, draws): (M, draws)."""
    scale = np.sqrt(np.asarray(sums.multiply(sums).sum(1), np.float64))
    return np.asarray((sums @ signs) / np.where(scale > 0, scale, 1), np.float64)


def _support(values: csr_matrix, prompts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    entries = values.tocoo()
    differ = entries.data != 0
    columns = entries.col[differ].astype(np.int64)
    count = int(prompts.max()) + 1
    n = np.bincount(columns, minlength=values.shape[1])
    cells = np.unique(columns * count + prompts[entries.row[differ]])
    return n.astype(np.int64), np.bincount(cells // count, minlength=values.shape[1]).astype(np.int64)
