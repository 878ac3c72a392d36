"""Time and memory of both pipelines on synthetic activations of a model's SAE, sparse throughout.

python benchmarks/preference_scale.py [--pairs 260000] [--features 65536] [--clusters 512] [--firing 200]
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from scipy import sparse

from undertow.preference.cofiring import cofiring_clusters
from undertow.preference.concepts import Activations, Concept, PromptActivations
from undertow.preference.config import AuditConfig
from undertow.preference.contrasts import cells_test
from undertow.preference.disparity import disparities
from undertow.preference.pipelines import feature_conditioned, prompt_conditioned


def firing(pairs: int, features: int, each: int, block: int, rng: np.random.Generator) -> sparse.csr_matrix:
    """Rows in which features of a few blocks fire together, among features that fire alone."""
    blocks = rng.integers(0, features // block, (pairs, max(1, each // (2 * block))))
    together = (blocks[:, :, None] * block + np.arange(block)).reshape(pairs, -1)
    together = np.where(rng.random(together.shape) < 0.8, together, rng.integers(0, features, together.shape))
    alone = rng.integers(0, features, (pairs, each - together.shape[1]))
    columns = np.concatenate([together, alone], axis=1).astype(np.int32)
    values = (rng.random(columns.shape, np.float32) * 0.3 + 0.02).ravel()
    at = np.arange(0, columns.size + 1, columns.shape[1])
    return sparse.csr_matrix((values, columns.ravel(), at), shape=(pairs, features))


def memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=260_000)
    parser.add_argument("--features", type=int, default=65_536)
    parser.add_argument("--clusters", type=int, default=512)
    parser.add_argument("--firing", type=int, default=200, help="features that fire in a response")
    parser.add_argument("--block", type=int, default=16, help="features that fire together")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    concepts = tuple(Concept(f"f{i}", f"feature {i}", "model") for i in range(args.features))
    made = [
        firing(args.pairs, args.features, n, args.block, rng)
        for n in (args.firing, args.firing, args.firing // 2)
    ]
    both, prompts = Activations(concepts, *made[:2]), PromptActivations(concepts, made[2])
    number = np.arange(args.pairs) // 2
    config = AuditConfig(clusters=args.clusters)
    start = last = np.array([time.perf_counter(), time.process_time()])

    def tell(what: str, since: np.ndarray | None = None) -> None:
        nonlocal last
        now = np.array([time.perf_counter(), time.process_time()])
        wall, cpu = now - (last if since is None else since)
        print(f"{wall:7.1f} s {cpu:7.1f} s of processor  {memory():>8}  {what}", flush=True)
        last = now

    print(f"{args.pairs:,} pairs × {args.features:,} features, {made[0].nnz:,} firings a side; {memory()}")
    clusters = cofiring_clusters(both, config)
    tell(f"{len(clusters)} clusters of features (mutual information, Leiden)")
    found = disparities(both, clusters, config.tau)
    tell("activity and disparity")
    view = feature_conditioned(found, int(number.max()) + 1, config)
    tell(f"{view.groups.inside.shape[0]} data clusters")
    tested = cells_test(view.groups.inside, view.values, number, config, 1)
    tell(f"feature-conditioned: {tested.q.size:,} cells, {tested.confirmed.sum()} confirmed of none planted")
    local = prompt_conditioned(both, prompts, None, config)
    tell("prompt-conditioned: clusters of prompt and response features")
    if local is not None:
        tested = cells_test(local.groups.inside, local.values, number, config, 2)
        tell(
            f"prompt-conditioned: {tested.q.size:,} cells, {tested.confirmed.sum()} confirmed of none planted"
        )
    tell("in all", start)


if __name__ == "__main__":
    main()
