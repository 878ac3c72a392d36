"""Planted recall and false discoveries of the preference audit, over seeds of the lab's preference set.

Beside the audit stand two plainer ways on the same concepts: each one's mean difference against a bound of
z = 3.92, and a logistic with length.

    python benchmarks/preference_quality.py [--seeds 20] [--pairs 8000] [--no-embedding]
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from undertow.data.preferences import PreferenceData, load_preferences
from undertow.lab.pairs import PairWorld, draw_pairs, key_of, write_pairs
from undertow.preference.audit import LENGTH, Audit, audit
from undertow.preference.config import AuditConfig, PrefsConfig
from undertow.preference.run import material
from undertow.preference.sources import gather
from undertow.store.tables import write_table

SAME = 0.5
"""Correlation with the planted sign from which a concept counts as the planted one."""
PURE = 0.5
"""Share of a group's pairs on the topic from which it counts as the topic."""


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


def run(data: PreferenceData, config: PrefsConfig) -> Audit:
    return audit(material(data, gather(data, config)), config.audit)


def score(world: PairWorld, found: Audit, tally: Counter[str]) -> list[str]:
    """Count plants that were found, and what was confirmed besides that length does not explain.

    Besides are mostly the lab's stock sentences: a longer response has more of them, and words are only
    nearly what the lab's judge counts.
    """
    topics, lines = np.array(world.topics), []
    u = found.signed.toarray()
    planted = {key_of(p): np.array(world.carried[key_of(p)], float) for p in world.plants}
    for plant in world.plants:
        sign = planted[key_of(plant)]
        same = [i for i in range(u.shape[1]) if correlation(u[:, i], sign) > SAME]
        hits = [i for i in same if found.concepts[i].confirmed and found.concepts[i].delta > 0]
        tally[f"{plant.where} planted"] += 1
        if plant.where == "topic":
            ok = bool(_on_topic(found, plant.topic or "", sign, topics))
        elif plant.where == "length":
            ok = any(found.concepts[i].controlled.length_explained for i in same)
        elif plant.where == "decoy":  # the concept that is most like it: others share a word with a plant
            best = max(range(u.shape[1]), key=lambda i: abs(correlation(u[:, i], sign)))
            ok = found.concepts[best].confirmed
        else:
            ok = bool(hits)
        tally[f"{plant.where} found"] += ok
        lines.append(f"{key_of(plant)}: {'yes' if ok else 'no'}")
    real = [s for k, s in planted.items() if "@" in k or k in ("bold", "emoji", "table", "goblin", "bullets")]
    for i, concept in enumerate(found.concepts):
        free = concept.cluster.name != LENGTH and not concept.controlled.length_explained
        if concept.confirmed and free and max(abs(correlation(u[:, i], s)) for s in real) < 0.1:
            tally["concepts besides"] += 1
            lines.append(f"besides: {concept.cluster.name} {concept.delta:+.3f}")
    return lines


def _on_topic(found: Audit, topic: str, sign: np.ndarray, topics: np.ndarray) -> list[str]:
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
    """Plain difference and logistic with length, with z over 3.92, on the same u: what they would report."""
    lures = [p for p in world.plants if p.where in ("decoy", "length")]
    decoys = [np.array(world.carried[key_of(p)], float) for p in lures]
    u = found.signed.toarray()
    z = 1.96 * 2
    for i, concept in enumerate(found.concepts[1:], 1):
        column = u[:, i]
        plain = abs(column.mean()) / max(column.std() / np.sqrt(len(column)), 1e-12) > z
        held = concept.controlled.length
        clear = held is not None and held.interval is not None
        length = clear and abs(held.value) / max((held.interval.high - held.interval.low) / 3.92, 1e-12) > z
        decoy = any(abs(correlation(column, s)) > SAME for s in decoys)
        for name, said in (("plain difference", plain), ("logistic with length", length)):
            tally[f"{name}: reported"] += bool(said)
            tally[f"{name}: decoys reported"] += bool(said and decoy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=8000)
    parser.add_argument("--no-embedding", dest="embedding", action="store_false")
    args = parser.parse_args()
    tally: Counter[str] = Counter()
    for seed in range(args.first, args.first + args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            world = draw_pairs("random", seed, args.pairs)
            data = load_preferences(write_pairs(Path(folder), world))
            config = PrefsConfig(embedding=args.embedding, audit=AuditConfig(seed=seed))
            found = run(data, config)
            lines = score(world, found, tally)
            baselines(found, world, tally)
            null = run(swapped(data, seed, Path(folder)), config)
            tally["swapped sets"] += 1
            tally["swapped sets with a confirmed hypothesis"] += any(h.confirmed for h in null.hypotheses)
            tally["swapped sets with a confirmed concept"] += any(c.confirmed for c in null.concepts)
            print(f"seed {seed}: {'; '.join(lines)}", flush=True)
    for name, n in sorted(tally.items()):
        print(f"{name}: {n}")


if __name__ == "__main__":
    main()
