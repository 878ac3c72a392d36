"""What chance alone would show: chosen and rejected swapped at random, prompt by prompt, over all groups.

A prompt's pairs are swapped together, which keeps whatever they have in common. One group is held at a time,
added up once per prompt, under all swaps at once: one product a group, and nothing of groups × prompts ×
concepts is ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.models.cores import core_count
from undertow.progress import SILENT, Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


def swap_signs(prompts: int, draws: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Labels as they are, then ``draws`` swaps; -1 is a swapped prompt, (prompts, 1 + draws)."""
    either = np.array([-1, 1], np.int8)
    columns = [np.ones(prompts, np.int8), *(rng.choice(either, prompts) for _ in range(draws))]
    return np.stack(columns, axis=1)


def swap_floors(
    halves: Sequence[SwapHalf],
    large: NDArray[np.bool_],
    signs: NDArray[np.int8],
    level: float,
    progress: Progress = SILENT,
) -> tuple[Floats, tuple[float, float] | None]:
    """Take the quantiles of the largest Δ^min and the largest strength over swaps.

    The largest Δ^min of chance is that of the smallest group and the rarest concept, and a floor made of it
    hides what larger groups show; hence the strength beside it, in errors. It asks that the group's own mean
    stands out too: where a concept is rewarded in one group, Δ of every other differs from 0, and says
    nothing of them.

    Args:
        halves: both halves of the prompts.
        large: (K,) groups that are tested.
        signs: of :func:`swap_signs`.
        level: 1 less the quantile.
        progress: hears about the groups.

    Returns:
        Strength of every cell (K, M), NaN where signs differ or a group is too small; floors of Δ^min and
        strength, ``None`` where no group is large enough.
    """
    first, second = halves
    strength = np.full((len(large), first.columns), np.nan)
    tested = np.flatnonzero(large)
    if not len(tested) or not first.columns:
        return strength, None
    totals = first.total(signs), second.total(signs)

    def of_group(k: np.int64) -> tuple[Singles, Singles]:
        (a, one), (b, other) = (
            half.swapped(int(k), signs, total) for half, total in zip(halves, totals, strict=True)
        )
        return np.abs(agreed(a, b)), np.abs(agreed(one, other))

    largest = np.zeros((2, signs.shape[1]), np.float32)
    with progress.task("swap labels", len(tested)) as task, ThreadPoolExecutor(core_count()) as pool:
        for k, found in zip(tested, pool.map(of_group, tested), strict=True):
            strength[k] = np.where(found[1][:, 0] > 0, found[1][:, 0], np.nan)
            largest = np.maximum(largest, [each.max(axis=0) for each in found])
            task.advance()
    floors = np.quantile(largest[:, 1:].astype(np.float64), 1 - level, axis=1)
    return strength, (float(floors[0]), float(floors[1]))


class SwapHalf:
    """Half of the pairs."""

    def __init__(self, inside: csr_matrix, values: csr_matrix, prompts: NDArray[np.int64]) -> None:
        """Add up the values of each prompt.

        Args:
            inside: (K, n) groups.
            values: (n, M) signed disparities.
            prompts: (n,) prompt of each pair.
        """
        self._inside = inside.tocsr()
        self._values: Any = values.tocsr().astype(np.float32)
        self._prompts, self.columns = prompts, values.shape[1]
        self._all = _by_prompt(np.arange(len(prompts)), prompts)
        self._whole: Any = (self._all[1] @ self._values).tocsr()
        self._squares = np.asarray(self._whole.multiply(self._whole).sum(0), np.float64).ravel()

    def total(self, signs: NDArray[np.int8]) -> Singles:
        """Sum of all values under each swap, (M, draws)."""
        return np.asarray(self._whole.T @ signs[self._all[0]].astype(np.float32), np.float32)

    def swapped(self, k: int, signs: NDArray[np.int8], total: Singles) -> tuple[Singles, Singles]:
        """Δ and signed strength of a group under each swap, (M, draws) each; 0 where nothing is outside."""
        prompts, sums = self._sums(k)
        held = np.asarray(sums.T @ signs[prompts].astype(np.float32))
        n_in, n_out = self._sizes(k)
        if n_out == 0:
            return np.zeros_like(total), np.zeros_like(total)
        error, own = (np.asarray(1 / each, np.float32)[:, None] for each in self.errors(k))
        delta = held * np.float32(1 / n_in + 1 / n_out) - total * np.float32(1 / n_out)
        return delta, agreed(delta * error, held * (own / np.float32(n_in)))

    def errors(self, k: int) -> tuple[Floats, Floats]:
        """Standard deviations of Δ and ū_in (M,) of a group over all swaps.

        √Σ(S/n_in - (T - S)/n_out)² and √ΣS²/n_in over prompts, S a prompt's sum inside, T its sum anywhere.
        Where it is 0 nothing ever differs from 0: infinite, never reached.
        """
        prompts, sums = self._sums(k)
        whole = self._whole[np.searchsorted(self._all[0], prompts)]
        n_in, n_out = self._sizes(k)
        both = 1 / n_in + 1 / max(n_out, 1)
        squares, crossed = _dots(sums, sums), _dots(sums, whole)
        variance = self._squares / max(n_out, 1) ** 2 + both**2 * squares - 2 * both / max(n_out, 1) * crossed
        error, own = np.sqrt(np.maximum(variance, 0)), np.sqrt(squares) / n_in
        return np.where(error > 1e-9, error, np.inf), np.where(own > 1e-9, own, np.inf)

    def _sizes(self, k: int) -> tuple[int, int]:
        n_in = int(self._inside.indptr[k + 1] - self._inside.indptr[k])
        return n_in, len(self._prompts) - n_in

    def _sums(self, k: int) -> tuple[NDArray[np.int64], Any]:
        """Prompts of a group and what their pairs in it add up to, dense where it is mostly full."""
        rows = self._inside.indices[self._inside.indptr[k] : self._inside.indptr[k + 1]]
        prompts, member = _by_prompt(np.arange(len(rows)), self._prompts[rows])
        sums = (member @ self._values[rows]).tocsr()
        return prompts, sums.toarray() if sums.nnz > sums.shape[0] * self.columns / 8 else sums


def _by_prompt(rows: NDArray[np.int64], prompts: NDArray[np.int64]) -> tuple[NDArray[np.int64], csr_matrix]:
    """Distinct prompts, and the (prompts, rows) matrix that adds rows up."""
    from scipy import sparse

    distinct, code = np.unique(prompts, return_inverse=True)
    ones = np.ones(len(rows), np.float32)
    return distinct, sparse.csr_matrix((ones, (code, rows)), shape=(len(distinct), len(rows)))


def _dots(first: Any, second: Any) -> Floats:
    """Dot products of columns, (M,); ``second`` is sparse where it is not ``first``."""
    if hasattr(first, "multiply"):
        return np.asarray(first.multiply(second).sum(0), np.float64).ravel()
    other = second.toarray() if hasattr(second, "toarray") else second
    return np.asarray(np.einsum("ij,ij->j", first, other, dtype=np.float64))


def agreed(first: Singles, second: Singles) -> Singles:
    """Whichever is nearer to 0, where the signs agree; 0 elsewhere."""
    least = np.minimum(np.abs(first), np.abs(second))
    return np.where(first * second > 0, np.copysign(least, first), np.float32(0))
