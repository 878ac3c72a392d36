"""A frozen map from 64-bit hashes to small integers, looked up for millions of hashes at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST_BITS, _MOST_BITS = 16, 22


@dataclass(frozen=True)
class HashTable:
    """Sorted keys, each with one or more values."""

    keys: NDArray[np.uint64]
    """Distinct hashes, ascending, (K,)."""
    bounds: NDArray[np.int64]
    """Key i's values are ``values[bounds[i]:bounds[i + 1]]``, (K + 1,)."""
    values: NDArray[np.int32]
    """Values, (V,)."""
    sieve: NDArray[np.bool_]
    """Which low bits occur at all; most look-ups end here."""

    @classmethod
    def build(cls, hashes: NDArray[np.uint64], values: NDArray[np.int32]) -> HashTable:
        """Make the table from (hash, value) pairs; a hash may have several values."""
        order = np.lexsort((values, hashes))
        ordered, values = hashes[order], values[order]
        fresh = np.ones(len(order), np.bool_)
        fresh[1:] = (ordered[1:] != ordered[:-1]) | (values[1:] != values[:-1])
        ordered, values = ordered[fresh], values[fresh]
        keys, first = np.unique(ordered, return_index=True)
        bits = min(_MOST_BITS, max(_LEAST_BITS, (64 * len(keys)).bit_length()))
        sieve = np.zeros(1 << bits, np.bool_)
        sieve[_low(keys, len(sieve))] = True
        return cls(keys, np.append(first, len(values)).astype(np.int64), values.astype(np.int32), sieve)

    @classmethod
    def from_sets(cls, sets: Iterable[NDArray[np.uint64]]) -> HashTable:
        """Make the table in which every hash of the i-th set has the value i."""
        groups = list(sets)
        values = np.repeat(np.arange(len(groups), dtype=np.int32), [len(group) for group in groups])
        hashes = np.concatenate(groups) if groups else np.zeros(0, np.uint64)
        return cls.build(hashes.astype(np.uint64), values)

    def find(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Look hashes up: (positions in ``hashes``, values), one entry for every match."""
        at = np.flatnonzero(self.sieve[_low(hashes, len(self.sieve))])
        if not len(self.keys) or not len(at):
            return np.zeros(0, np.int64), np.zeros(0, np.int32)
        slot = np.minimum(np.searchsorted(self.keys, hashes[at]), len(self.keys) - 1)
        hit = self.keys[slot] == hashes[at]
        at, slot = at[hit], slot[hit]
        sizes = self.bounds[slot + 1] - self.bounds[slot]
        if len(self.values) == len(self.keys):
            return at, self.values[slot]
        ends = np.cumsum(sizes)
        inner = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)
        return np.repeat(at, sizes), self.values[np.repeat(self.bounds[slot], sizes) + inner]

    def contains(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Say for each hash whether it is a key."""
        found = np.zeros(len(hashes), np.bool_)
        found[self.find(hashes)[0]] = True
        return found


def sorted_unique(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Distinct values, ascending; ``np.unique`` hashes integers first, ten times slower on millions."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def _low(hashes: NDArray[np.uint64], size: int) -> NDArray[np.intp]:
    return (hashes & np.uint64(size - 1)).astype(np.intp)
