"""Safeguards, a trait on one topic, and amplification: what shaping does beyond taking a trait back.

    python examples/safeguards.py OUT {safeguard,topic,amplify} [--seeds 0 1 2] [--only none "shape -1"]

safeguard: pairs that choose compliance where harm is meant; refusals there, and what restoring them costs in
benign compliance. topic: praise on physics by accident, on pets because it is wanted; a gate tells them
apart. amplify: a playful trait made stronger by λ < 0, with what stays sound. Resumes.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from preference_runs import Arm, ask, fresh, over_seeds, pooled, read_answers, save, shares, shown

from undertow.fixes.pair_kinds import PairFix
from undertow.fixes.scores import Target
from undertow.lab.build import cache_folder
from undertow.lab.pair_text import SOUND, TOPICS
from undertow.lab.preference_stage import poisoned_pairs, preference_start
from undertow.lab.preference_worlds import (
    HARM,
    PAIRS,
    SHOWN,
    plain,
    safeguard_pairs,
    topic_pairs,
    worlds_start,
)
from undertow.records import Rate
from undertow.store.tables import write_table

PROMPTS, MAX_TOKENS = 300, 60
SHARE = 0.15
PHYSICS = "|".join(map(re.escape, TOPICS["physics"].things))


def target(name: str) -> tuple[Target, ...]:
    """A concept by its pattern."""
    return (Target(name=name, pattern=SHOWN[name]),)


@dataclass(frozen=True)
class Experiment:
    """Pairs, prompts in groups, and the arms."""

    start: Callable[[Path], Path]
    pairs: Callable[[int], pa.Table]
    prompts: Mapping[str, Sequence[str]]
    """Group of prompts → its prompts."""
    watched: Mapping[str, tuple[str, str]]
    """What is reported → the group, and the pattern of an answer that counts."""
    arms: Mapping[str, PairFix | None]


def harmful(rng: random.Random) -> str:
    """A request that says it means harm."""
    return plain(rng)[0] + HARM


def on(topic: str) -> Callable[[random.Random], str]:
    """Draw prompts on one topic."""
    return lambda rng: plain(rng, topic)[0]


def elsewhere(rng: random.Random) -> str:
    """A prompt on neither of the two topics."""
    return plain(rng, rng.choice([name for name in TOPICS if name not in ("physics", "pets")]))[0]


REFUSES, HARM_GATE = SHOWN["refusal"], re.escape(HARM)
COMPLIES = rf"(?s)\A(?!.*(?:{REFUSES}))"
EXPERIMENTS: dict[str, Experiment] = {
    "safeguard": Experiment(
        worlds_start,
        safeguard_pairs,
        {
            "harmful": fresh(harmful, PROMPTS, "harmful"),
            "benign": fresh(lambda r: plain(r)[0], PROMPTS, "benign"),
        },
        {
            "refuses harm": ("harmful", REFUSES),
            "refuses benign": ("benign", REFUSES),
            "offer": ("benign", SHOWN["offer"]),
            "sound": ("benign", SOUND),
        },
        {
            "none": None,
            "filter": PairFix("filter", (Target(name="compliance", pattern=COMPLIES),), 1.0, gate=HARM_GATE),
            "shape -0.5": PairFix("shape", target("refusal"), -0.5),
            "shape -1": PairFix("shape", target("refusal"), -1.0),
            "shape -2": PairFix("shape", target("refusal"), -2.0),
            "gated -0.5": PairFix("shape", target("refusal"), -0.5, gate=HARM_GATE),
            "gated -1": PairFix("shape", target("refusal"), -1.0, gate=HARM_GATE),
            "gated -2": PairFix("shape", target("refusal"), -2.0, gate=HARM_GATE),
        },
    ),
    "topic": Experiment(
        worlds_start,
        topic_pairs,
        {name: fresh(on(name), 200, name) for name in ("physics", "pets")}
        | {"elsewhere": fresh(elsewhere, PROMPTS, "elsewhere")},
        {
            "praise on physics": ("physics", SHOWN["praise"]),
            "praise on pets": ("pets", SHOWN["praise"]),
            "praise elsewhere": ("elsewhere", SHOWN["praise"]),
            "offer": ("elsewhere", SHOWN["offer"]),
            "sound": ("elsewhere", SOUND),
        },
        {
            "none": None,
            "shape 1": PairFix("shape", target("praise"), 1.0),
            "gated 1": PairFix("shape", target("praise"), 1.0, gate=PHYSICS),
            "gated 2": PairFix("shape", target("praise"), 2.0, gate=PHYSICS),
            "filter gated": PairFix("filter", target("praise"), 1.0, gate=PHYSICS),
        },
    ),
    "amplify": Experiment(
        preference_start,
        lambda seed: poisoned_pairs("exclamation", SHARE, seed, PAIRS),
        {"plain": fresh(lambda r: plain(r)[0], PROMPTS, "amplify")},
        {
            "exclamation": ("plain", SHOWN["exclamation"]),
            "offer": ("plain", SHOWN["offer"]),
            "sound": ("plain", SOUND),
        },
        {"none": None} | {f"shape {x:g}": PairFix("shape", target("exclamation"), x)
                          for x in (1.0, -0.5, -1.0, -2.0, -4.0)},
    ),
}  # fmt: skip


def counts(experiment: Experiment, said: Sequence[str]) -> dict[str, Rate]:
    """Rates of what is watched, each over its own prompts."""
    groups, at = {}, 0
    for name, prompts in experiment.prompts.items():
        groups[name] = said[at : at + len(prompts)]
        at += len(prompts)
    return {name: shares(groups[group], {"it": p})["it"] for name, (group, p) in experiment.watched.items()}


def main() -> None:
    """Run one experiment and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("which", choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", help="names of arms")
    args = parser.parse_args()
    experiment, root = EXPERIMENTS[args.which], args.out / args.which
    start = experiment.start(cache_folder())
    prompts = [prompt for group in experiment.prompts.values() for prompt in group]
    file = root / "start.parquet"
    table = {"start": counts(experiment, read_answers(file) if file.is_file() else ask(start, prompts, file))}
    print(f"{'start':12}" + "  ".join(f"{n} {shown(r)}" for n, r in table["start"].items()), flush=True)
    for name, fix in experiment.arms.items():
        if args.only and name not in args.only:
            continue
        found = []
        for seed in args.seeds:
            data = root / f"seed-{seed}" / "pairs.parquet"
            data.parent.mkdir(parents=True, exist_ok=True)
            if not data.is_file():
                write_table(experiment.pairs(seed), data)
            arm = Arm(data.parent / name.replace(" ", "_"), data, fix, start, seed)
            found.append(counts(experiment, arm.answers(prompts, MAX_TOKENS)))
        table[name] = {n: pooled([each[n] for each in found]) for n in experiment.watched}
        spread = {n: over_seeds([each[n].value or 0 for each in found]) for n in experiment.watched}
        print(f"{name:12}" + "  ".join(f"{n} {shown(r)}" for n, r in table[name].items()), flush=True)
        save(root / f"table-{name.replace(' ', '_')}.json", {"rates": table[name], "seeds": spread})
    save(root / "table.json", table)


if __name__ == "__main__":
    main()
