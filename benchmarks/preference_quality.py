"""Planted recall and false discoveries of the preference audit, over seeds of the lab's preference set.

Beside the audit stand three plainer ways on the same pairs: each concept's mean difference against a bound of
z = 3.92, a logistic of each with length at the same bound, and the embedding autoencoder alone (WIMHF: each
feature in a logistic with length, Bonferroni over the features). None of them knows groups of prompts, so a
plant on a topic counts as found by them where the behaviour is reported at all.

Each seed leaves a file, and seeds that have one are not run again.

    python benchmarks/preference_quality.py OUT [--first 0] [--seeds 20] [--pairs 8000] [--no-embedding]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.stats import norm

from undertow.data.preferences import PreferenceData, load_preferences
from undertow.lab.pairs import PairWorld, draw_pairs, key_of, write_pairs
from undertow.models.base import Embedder
from undertow.models.embed import open_embedder
from undertow.preference.audit import LENGTH, Audit, ConceptEffect, audit
from undertow.preference.config import AuditConfig, PrefsConfig
from undertow.preference.controls import Effect
from undertow.preference.run import material
from undertow.preference.sources import gather
from undertow.store.tables import atomic_write_json, write_table

SAME = 0.5
"""Correlation with the planted sign from which a concept counts as the planted one."""
PURE = 0.5
"""Share of a group's pairs on the topic from which it counts as the topic."""
Z = 2 * 1.96
"""Bound of the plain ways."""


class Remembered:
    """Embeds each text once: a set with swapped labels has the same texts."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self._known: dict[str, np.ndarray] = {}

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def dim(self) -> int:
        return self._inner.dim

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= dict(zip(new, self._inner.embed(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else 0.0


def swapped(data: PreferenceData, seed: int, folder: Path) -> PreferenceData:
    """Swap chosen and rejected of random prompts."""
    turn = np.random.default_rng(seed).random(data.groups)[data.prompt_group] < 0.5
    chosen, rejected = (np.array(data.table[c].to_pylist(), object) for c in ("chosen", "rejected"))
    table = pa.table({
        "id": data.table["id"], "prompt": data.table["prompt"],
        "chosen": np.where(turn, rejected, chosen), "rejected": np.where(turn, chosen, rejected),
    })  # fmt: skip
    write_table(table, folder / "swapped.parquet")
    return load_preferences(folder / "swapped.parquet")


def run(data: PreferenceData, config: PrefsConfig, embedder: Embedder | None) -> Audit:
    return audit(material(data, gather(data, config, embedder=embedder)), config.audit)


def planted_signs(world: PairWorld) -> dict[str, np.ndarray]:
    return {key_of(p): np.array(world.carried[key_of(p)], float) for p in world.plants}


def score(world: PairWorld, found: Audit, tally: Counter[str]) -> list[str]:
    """Count plants that were found, and what was confirmed besides that length does not explain.

    Besides are mostly the lab's stock sentences: a longer response has more of them, and words are only
    nearly what the lab's judge counts.
    """
    topics, lines = np.array(world.topics), []
    u = found.signed.toarray()
    planted = planted_signs(world)
    for plant in world.plants:
        sign = planted[key_of(plant)]
        like = np.array([correlation(u[:, i], sign) for i in range(u.shape[1])])
        same = [found.concepts[i] for i in np.flatnonzero(like > SAME)]
        best = found.concepts[int(np.abs(like).argmax())]  # others share a word with a plant
        tally[f"{plant.where} planted"] += 1
        if plant.where == "topic":
            ok = bool(_on_topic(found, plant.topic or "", sign, topics))
        elif plant.where == "length":
            ok = best.controlled.length_explained is True
        elif plant.where == "decoy":
            ok = best.confirmed
        else:
            ok = any(c.confirmed and c.delta > 0 for c in same)
        tally[f"{plant.where} found"] += ok
        lines.append(f"{key_of(plant)} ({(sign != 0).mean():.1%}): {'yes' if ok else 'no'}")
    real = [planted[key_of(p)] for p in world.plants if p.where != "decoy"]
    for i, concept in enumerate(found.concepts):
        free = concept.cluster.name != LENGTH and not concept.controlled.length_explained
        if concept.confirmed and free and max(abs(correlation(u[:, i], s)) for s in real) < 0.1:
            tally["concepts besides"] += 1
            lines.append(f"besides: {concept.cluster.name} {concept.delta:+.3f}")
    return lines


def _on_topic(found: Audit, topic: str, sign: np.ndarray, topics: np.ndarray) -> list[str]:
    """Prompt groups of confirmed hypotheses in the right direction on the right topic."""
    names = []
    for each in found.hypotheses:
        if not each.confirmed or each.direction != "towards":
            continue
        view = found.views[each.pipeline]
        rows = view.groups.inside[[each.group]].indices
        u = view.values[:, [each.column]].toarray().ravel()[rows]
        if (topics[rows] == topic).mean() >= PURE and correlation(u, sign[rows]) > SAME:
            names.append(each.prompt_group)
    return names


def baselines(found: Audit, world: PairWorld, tally: Counter[str]) -> None:
    """What plain difference, logistic with length and the embedding SAE alone would report."""
    u = found.signed.toarray()
    concepts = list(enumerate(found.concepts))[1:]
    features = [(i, c) for i, c in concepts if c.cluster.family == "embedding"]
    bonferroni = float(norm.isf(0.025 / max(1, len(features))))
    ways = {
        "plain difference": [i for i, c in concepts if abs(_z(c.delta, c.interval)) > Z],
        "logistic with length": [i for i, c in concepts if abs(_held_z(c)) > Z],
    }
    if features:
        ways["embedding SAE alone"] = [i for i, c in features if abs(_held_z(c)) > bonferroni]
    signs = planted_signs(world)
    for way, reported in ways.items():
        tally[f"{way}: reported"] += len(reported)
        for plant in world.plants:
            like = [abs(correlation(u[:, i], signs[key_of(plant)])) > SAME for i in reported]
            tally[f"{way}: {plant.where} reported"] += any(like)


def _z(value: float, interval: object) -> float:
    low, high = getattr(interval, "low", np.nan), getattr(interval, "high", np.nan)
    return value / max((high - low) / Z, 1e-12) if np.isfinite(high - low) else 0.0


def _held_z(concept: ConceptEffect) -> float:
    held: Effect | None = concept.controlled.length
    return _z(held.value, held.interval) if held else 0.0


def one_seed(seed: int, pairs: int, folder: Path, embedder: Embedder | None) -> dict[str, object]:
    tally: Counter[str] = Counter()
    world = draw_pairs("random", seed, pairs)
    data = load_preferences(write_pairs(folder, world))
    config = PrefsConfig(embedding=embedder is not None, audit=AuditConfig(seed=seed))
    found = run(data, config, embedder)
    lines = score(world, found, tally)
    baselines(found, world, tally)
    null = run(swapped(data, seed, folder), config, embedder)
    tally["swapped sets"] += 1
    tally["swapped sets with a confirmed hypothesis"] += any(h.confirmed for h in null.hypotheses)
    tally["swapped sets with a confirmed concept"] += any(c.confirmed for c in null.concepts)
    return {"seed": seed, "pairs": pairs, "embedding": embedder is not None, "tally": tally, "lines": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of results, one file a seed")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=8000)
    parser.add_argument("--no-embedding", dest="embedding", action="store_false")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tally: Counter[str] = Counter()
    embedder = Remembered(open_embedder()) if args.embedding else None
    for seed in range(args.first, args.first + args.seeds):
        path = args.out / f"seed-{seed:03d}.json"
        if not path.is_file():
            start = time.perf_counter()
            done = one_seed(seed, args.pairs, args.out, embedder)
            atomic_write_json(path, {**done, "seconds": time.perf_counter() - start})
        told = json.loads(path.read_text())
        tally.update(told["tally"])
        print(f"seed {seed} ({told['seconds']:.0f} s): {'; '.join(told['lines'])}", flush=True)
    for name, n in sorted(tally.items()):
        print(f"{name}: {n}")


if __name__ == "__main__":
    main()
