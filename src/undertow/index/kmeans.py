"""Spherical k-means as map-reduce, for more vectors than one machine should hold (paper §4.1: 9.4 M).

Map: each shard assigns its vectors and sums them by cluster. Reduce: the sums are added in the order of the
shards, whichever came first, and normalised; so every executor gives the same bits. Starting centroids are
drawn from a sample. A cluster that loses its vectors keeps its centroid and may win some back.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undertow.attributes.cluster import assign, spread_seeds
from undertow.index.executors import Step, shard_folder
from undertow.index.steps import read_rows
from undertow.store.tables import read_shard

ROUNDS = 15
"""Lloyd steps at most."""
SAMPLE = 500_000
"""Vectors that starting centroids are drawn from."""


@dataclass(frozen=True)
class Assign:
    """Assign the vectors of a shard to the centroids of a round."""

    round: int
    """From 0."""
    files: int
    """Vector files of a shard."""
    last: int
    """Vector files of all shards."""
    sums: bool = True
    """Sum the vectors by cluster, for the next round."""

    @property
    def name(self) -> str:
        """Name of the stage."""
        return f"kmeans-{self.round:02d}" if self.sums else "assign"

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.last // self.files)

    def make(self, run: Path, number: int, folder: Path) -> dict[str, Any]:
        """Write ``owner.npy`` and ``nearness.npy`` of each vector, and (K, d) ``sums.npy``."""
        centroids = np.load(centroid_file(run, self.round))
        sums = np.zeros(centroids.shape, np.float64)
        owners, nearness, objective = [], [], 0.0
        for file in range(number * self.files, min((number + 1) * self.files, self.last)):
            vectors, weights = unit_vectors(run, file), weights_of(run, file)
            owner = assign(vectors, centroids)
            near = np.einsum("nd,nd->n", vectors, centroids[owner])
            objective += float((weights * near).sum())
            owners.append(owner)
            nearness.append(near)
            if self.sums:
                sums += _summed(vectors, weights, owner, len(centroids))
        np.save(folder / "owner.npy", np.concatenate(owners).astype(np.int32))
        np.save(folder / "nearness.npy", np.concatenate(nearness).astype(np.float32))
        if self.sums:
            np.save(folder / "sums.npy", sums)
        return {"rows": sum(map(len, owners)), "objective": objective}


def _summed(
    vectors: NDArray[np.float32], weights: NDArray[np.int64], owner: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    """Add up weighted vectors by cluster, (k, d), in the order of the vectors."""
    places = (owner, np.arange(len(owner)))
    chosen = sparse.csr_array((weights.astype(np.float64), places), shape=(k, len(owner)))
    summed: NDArray[np.float64] = chosen @ vectors.astype(np.float64)
    return summed


def unit_vectors(run: Path, file: int) -> NDArray[np.float32]:
    """Read one file of query vectors as unit rows."""
    folder = shard_folder(run, "embed-query", file)
    vectors = read_shard(folder / f"{file:05d}.npy").astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors


def weights_of(run: Path, file: int) -> NDArray[np.int64]:
    """Read how many rows have each attribute of a file of query vectors."""
    table = read_rows(run / "stages" / "extract" / "query_attributes.parquet", file, ["count"])
    counts: NDArray[np.int64] = table["count"].to_numpy()
    return counts


def centroid_file(run: Path, number: int) -> Path:
    """Return where the centroids of a round are."""
    return run / "stages" / f"centroids-{number:02d}" / "centroids.npy"


def first_centroids(run: Path, files: int, k: int, seed: int) -> NDArray[np.float32]:
    """Draw k starting centroids from a sample of all vectors, (k, d)."""
    rng = np.random.default_rng(seed)
    share = SAMPLE / max(sum(len(weights_of(run, file)) for file in range(files)), 1)
    vectors, weights = [], []
    for file in range(files):
        rows, counts = unit_vectors(run, file), weights_of(run, file)
        kept = np.flatnonzero(rng.random(len(rows)) < share) if share < 1 else np.arange(len(rows))
        vectors.append(rows[kept])
        weights.append(counts[kept])
    points = np.concatenate(vectors)
    k = min(k, len(points))
    seeds = spread_seeds(points, np.concatenate(weights).astype(np.float64), k, rng)
    drawn: NDArray[np.float32] = points[seeds]
    return drawn


def moved(parts: Sequence[Path], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the next centroids from the shards' sums, added in their order."""
    total = np.zeros(centroids.shape, np.float64)
    for part in parts:
        total += np.load(part / "sums.npy", mmap_mode="r")
    length = np.linalg.norm(total, axis=1, keepdims=True)
    unit = np.where(length > 0, total / np.maximum(length, 1e-30), centroids)
    return np.asarray(unit, np.float32)


Stage = Callable[[str, str, Callable[[Path], dict[str, Any]]], dict[str, Any]]
"""Runs one stage of the build once: name, unit, work."""
Shards = Callable[[Step, int], list[dict[str, Any]]]
"""Runs a step on its shards."""


@dataclass(frozen=True)
class ShardedKmeans:
    """The rounds, each a stage of the build: a killed one goes on in the round it was in."""

    run: Path
    """Run directory."""
    stage: Stage
    """Runs what is not sharded."""
    shards: Shards
    """Runs what is."""
    files: int
    """Vector files."""
    per_shard: int
    """Of them in a shard."""

    def fit(self, k: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
        """Cluster all query vectors.

        Returns:
            (k, d) centroids, and for each vector its cluster and its cosine to that centroid.
        """
        number, centroids = 0, self.keep(0, lambda: first_centroids(self.run, self.files, k, seed))
        while number < ROUNDS:
            step, before = Assign(number, self.per_shard, self.files), centroids
            number += 1
            centroids = self.keep(number, partial(self.moved, step))
            if np.array_equal(before, centroids):
                break
        final = Assign(number, self.per_shard, self.files, sums=False)
        self.shards(final, final.shards)
        owner, nearness = (
            np.concatenate([np.load(part / f"{name}.npy") for part in self.parts(final)])
            for name in ("owner", "nearness")
        )
        return centroids, owner, nearness

    def keep(self, number: int, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Make the centroids of a round once."""

        def work(folder: Path) -> dict[str, Any]:
            found = make()
            np.save(folder / "centroids.npy", found)
            return {"rows": len(found)}

        self.stage(f"centroids-{number:02d}", "clusters", work)
        centroids: NDArray[np.float32] = np.load(centroid_file(self.run, number))
        return centroids

    def moved(self, step: Assign) -> NDArray[np.float32]:
        """Make one Lloyd step; the shards' sums are not kept."""
        self.shards(step, step.shards)
        found = moved(self.parts(step), np.load(centroid_file(self.run, step.round)))
        for part in self.parts(step):
            shutil.rmtree(part)
        return found

    def parts(self, step: Assign) -> list[Path]:
        """Return the folders of a step's shards, in order."""
        return [shard_folder(self.run, step.name, number) for number in range(step.shards)]
