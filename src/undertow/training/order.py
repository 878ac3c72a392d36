"""In which order rows are trained: random, yet rows of like length together, so that little is padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_BATCHES_A_POOL = 8
"""Batches sorted by length together; more saves padding, fewer mixes better."""


class LengthOrder:
    """A sampler whose order is fixed by seed and epoch alone, so that a resumed run sees the same rows.

    Departs from transformers' length grouping, which serves long rows first and short rows last in each pool:
    where length goes with source, that trains source after source. Here whole batches are shuffled.
    """

    def __init__(self, lengths: NDArray[np.int64], batch: int, seed: int) -> None:
        """Order rows of ``lengths`` (n,) tokens for batches of ``batch`` rows."""
        self._lengths = lengths
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch, from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order(self._epoch).tolist())

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of an epoch, (n,): batch after batch, a short one last."""
        rng = np.random.default_rng([self._seed, epoch])
        rows = rng.permutation(len(self._lengths))
        pool = np.arange(len(rows)) // (self._batch * _BATCHES_A_POOL)
        rows = rows[np.lexsort((self._lengths[rows], pool))]
        whole = len(rows) // self._batch * self._batch
        batches = rows[:whole].reshape(-1, self._batch)
        return np.concatenate([batches[rng.permutation(len(batches))].reshape(-1), rows[whole:]])
