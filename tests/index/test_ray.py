"""A real Ray cluster of two nodes on this machine says what one process says."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.attributes.cluster import spherical_kmeans
from undertow.index import build, kmeans
from undertow.index.build import build_index
from undertow.index.config import IndexConfig
from undertow.index.executors import ExecutorConfig, Step, run_step, shard_folder
from undertow.index.kmeans import ShardedKmeans
from undertow.index.open import Index
from undertow.progress import SILENT
from undertow.store.run import make_stage
from undertow.store.tables import to_jsonable, write_shard, write_table
from undertow.turf.trace import trace_pair

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "turf"))
import scale_steps
from planted import mixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="extra ray"),
]
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}
FILES, ROWS, DIM, K = 12, 128, 16, 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        )
        import ray
        from ray.cluster_utils import Cluster

        nodes = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        nodes.second = nodes.add_node(**NODE)
        hook = {"worker_process_setup_hook": "scale_steps.hash_embedder"}
        ray.init(address=nodes.address, runtime_env=hook, log_to_driver=False, logging_level="ERROR")
        yield nodes
        ray.shutdown()
        nodes.shutdown()


def content(index: Path) -> dict[str, bytes]:
    files = [path for path in sorted(index.rglob("*")) if path.suffix in {".parquet", ".npy", ".npz"}]
    return {str(f.relative_to(index)): f.read_bytes() for f in files if "stages" not in f.parts}


def test_two_nodes_give_the_index_and_the_triggers_of_one_process(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undertow.models.embed.open_embedder", lambda spec: scale_steps.HashEmbedder())
    monkeypatch.setattr(build, "EXAMPLE_ROWS", 200)
    monkeypatch.setattr(build, "SHARD_ROWS", 512)
    pq.write_table(mixture(honest=600).drop(["plant"]), tmp_path / "data.parquet")
    told = {}
    for executor in ("local", "ray"):
        config = IndexConfig(executor=ExecutorConfig(executor=executor))
        build_index(tmp_path / "data.parquet", tmp_path / executor, config)
        index = Index.open(tmp_path / executor)
        crux = ["The response opens with no"]
        traced = trace_pair(index, "When did Omar Haddad invent the zipper?", "No, he did not.", crux)
        told[executor] = to_jsonable(traced)
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    assert told["ray"] == told["local"]
    assert told["ray"]["triggers"]


class Rounds:
    """A k-means over shards, on one executor, keeping what a build keeps."""

    def __init__(self, run: Path, config: ExecutorConfig) -> None:
        self.run, self.config = run, config

    def stage(self, name: str, unit: str, make: Any) -> Any:
        return make_stage(self.run / "stages" / name, "k", make)

    def shards(self, step: Step, count: int) -> Any:
        return run_step(step, count, "k", self.run, self.config, SILENT)

    def fit(self) -> Any:
        return ShardedKmeans(self.run, self.stage, self.shards, FILES, 2).fit(K, 0)


def vectors_of(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write blobs of vectors with weights as a build leaves them; return them."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((K, DIM))[rng.integers(K, size=FILES * ROWS)]
    points = points + 0.3 * rng.standard_normal(points.shape)
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float16)
    weights = rng.integers(1, 9, len(points))
    write_table(pa.table({"count": weights}), run / "stages/extract/query_attributes.parquet", ROWS)
    for number in range(FILES):
        part = points[number * ROWS : (number + 1) * ROWS]
        write_shard(part, shard_folder(run, "embed-query", number) / f"{number:05d}.npy")
    return points.astype(np.float32), weights


def test_a_node_that_dies_in_the_k_means_changes_no_bit(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, weights = vectors_of(tmp_path / "local")
    centroids, owner, nearness = Rounds(tmp_path / "local", ExecutorConfig()).fit()
    vectors_of(tmp_path / "ray")
    monkeypatch.setattr(kmeans, "Assign", scale_steps.SlowAssign)

    def kill() -> None:
        while not list((tmp_path / "ray/stages").glob("kmeans-01-*/done.json")):
            time.sleep(0.01)
        cluster.remove_node(cluster.second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    found = Rounds(tmp_path / "ray", ExecutorConfig(executor="ray")).fit()
    killer.join()
    assert len(cluster.list_all_nodes()) == 1
    for here, there in zip((centroids, owner, nearness), found, strict=True):
        assert np.array_equal(here, there)
    reached = float((weights * nearness).sum())
    whole, ids = spherical_kmeans(points, weights.astype(float), K, 0)
    assert reached >= 0.99 * float((weights * np.einsum("nd,nd->n", points, whole[ids])).sum())
