"""Test every group of pairs against every concept, in two halves of the prompts, over a label-swap floor.

One half proposes, the other confirms: a cell that stands out in the first is tested one-sided in the second,
and q is Benjamini–Hochberg's over the proposed cells (the paper asks for equal signs alone, of which chance
gives half). Halves are halves of the prompts, so that no prompt is in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.preference.config import AuditConfig
from undertow.progress import SILENT, Progress
from undertow.stats.contrast import Contrast, clustered_mean, contrast
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
    strength, floors = swap_floors(inside, values, prompts, parts, large, config, rng, progress)
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


def swap_floors(
    inside: csr_matrix,
    values: csr_matrix,
    prompts: NDArray[np.int64],
    parts: tuple[Half, Half],
    large: NDArray[np.bool_],
    config: AuditConfig,
    rng: np.random.Generator,
    progress: Progress = SILENT,
) -> tuple[Floats, tuple[float, float] | None]:
    """Swap chosen and rejected of random prompts; take the quantiles of the largest Δ^min and strength.

    A prompt's pairs are swapped together, which keeps whatever they have in common. The largest Δ^min of
    chance is that of the smallest group and the rarest concept, and a floor made of it hides what larger
    groups show; hence the strength beside it, in errors. It asks that the group's own mean stands out too:
    where a concept is rewarded in one group, Δ of every other differs from 0, and says nothing of them.

    Returns:
        Strength of every cell (K, M), NaN where signs differ or a group is too small; floors of Δ^min and
        strength, ``None`` where no group is large enough.
    """
    strength = np.full((len(large), values.shape[1]), np.nan)
    if not large.any() or not values.shape[1]:
        return strength, None
    sides = [_Half(inside[:, rows][large], values[rows], prompts[rows]) for rows in parts]
    largest = np.empty((config.null_draws, 2))
    count = int(prompts.max()) + 1
    strength[large] = _least(*(side.swapped(np.ones(count, np.float32))[1] for side in sides))
    with progress.task("swap labels", config.null_draws) as task:
        for draw in range(config.null_draws):
            sign = rng.choice(np.array([-1.0, 1.0], np.float32), count)
            (first, one), (second, other) = (side.swapped(sign) for side in sides)
            largest[draw] = [np.nanmax(_least(a, b), initial=0.0) for a, b in ((first, second), (one, other))]
            task.advance()
    floors = np.quantile(largest, 1 - config.level, axis=0)
    return strength, (float(floors[0]), float(floors[1]))


class _Half:
    """Half of the pairs, added up once per prompt and group, so that a swap costs one product."""

    def __init__(self, inside: csr_matrix, values: csr_matrix, prompts: NDArray[np.int64]) -> None:
        from scipy import sparse

        entries = inside.tocoo()
        span = int(prompts.max()) + 2 if len(prompts) else 1
        key = np.concatenate([entries.row * np.int64(span) + prompts[entries.col], -1 - prompts])
        rows = np.concatenate([entries.col, np.arange(len(prompts))])
        distinct, cell = np.unique(key, return_inverse=True)
        ones = np.ones(len(rows), np.float32)
        part = sparse.csr_matrix((ones, (cell, rows)), shape=(len(distinct), len(prompts)))
        self._sums = _compact(part @ values.astype(np.float32))
        whole = distinct < 0
        self._prompt = np.where(whole, -1 - distinct, distinct % span)
        self._whole = np.searchsorted(distinct, -1 - self._prompt)
        self._size = np.asarray(inside.sum(1), np.float64).ravel()[:, None]
        self._rows = len(prompts)
        group = np.where(whole, inside.shape[0], distinct // span)
        shape = (inside.shape[0] + 1, len(distinct))
        self._sum = sparse.csr_matrix(
            (np.ones(len(distinct)), (group, np.arange(len(distinct)))), shape=shape
        )
        self._errors = self.errors()

    def errors(self) -> tuple[Floats, Floats]:
        """Standard deviations of Δ and ū_in (K, M) over all swaps.

        √Σ(S/n_in - (T - S)/n_out)² and √ΣS²/n_in over prompts, S a prompt's sum inside, T its sum anywhere.
        Where it is 0 nothing ever differs from 0: infinite, never reached.
        """
        inside, out = self._size, self._rows - self._size
        both = 1 / inside + 1 / np.maximum(out, 1e-12)
        error, own = (np.empty((len(inside), self._sums.shape[1])) for _ in range(2))
        for start in range(0, error.shape[1], _COLUMNS):
            part = self._sums[:, start : start + _COLUMNS]
            whole = part[self._whole]
            squares = _dense(self._sum @ _times(part, part))
            crossed = _dense(self._sum @ _times(part, whole))[:-1]
            variance = squares[-1] / out**2 + both**2 * squares[:-1] - 2 * both / out * crossed
            error[:, start : start + _COLUMNS] = np.sqrt(np.maximum(variance, 0))
            own[:, start : start + _COLUMNS] = np.sqrt(np.maximum(squares[:-1], 0)) / inside
        return np.where(error > 1e-9, error, np.inf), np.where(own > 1e-9, own, np.inf)

    def swapped(self, sign: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Δ and signed strength (K, M) when the pairs of prompts with ``sign`` -1 are swapped."""
        flipped = self._sum.copy()
        flipped.data = sign[self._prompt[flipped.indices]].astype(np.float64)
        sums = _dense(flipped @ self._sums)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = sums[:-1] / self._size
            delta = mean - (sums[-1] - sums[:-1]) / (self._rows - self._size)
        least = np.minimum(np.abs(delta) / self._errors[0], np.abs(mean) / self._errors[1])
        return delta, np.where(np.sign(delta) == np.sign(mean), np.sign(delta) * least, 0.0)


_COLUMNS = 512
"""Concepts that errors are computed for at once."""


def _times(first: Any, second: Any) -> Any:
    return first.multiply(second) if hasattr(first, "multiply") else first * second


def _dense(matrix: Any) -> Floats:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, np.float64)


def _compact(matrix: Any) -> Any:
    """Keep a matrix sparse unless it is mostly full and small enough to be faster dense."""
    cells = matrix.shape[0] * matrix.shape[1]
    return matrix.toarray() if matrix.nnz > cells / 8 and cells < 2e8 else matrix.tocsr()


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
    return TestedConcepts(delta, se, d, q, least, t, floor, confirmed, n, n_prompts)


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
