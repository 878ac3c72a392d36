"""The poison experiment: a trait that a judge rewarded in a few pairs, and what each fix makes of it.

    python examples/poison.py OUT [--traits goblin emoji] [--seeds 0 1] [--share 0.05] [--pairs 5000]
        [--only none filter] [--finished]

DPO on the lab's preference set with every fix of ``undertow fix`` and without, and on the same pairs never
poisoned, measured on fresh questions. Prints a table for each trait, and each fix over all traits and seeds.
Resumes: what is trained is not trained again. ``fix_effects.py`` reads the folders for predicted effects.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from preference_runs import Arm, ask, fresh, over_seeds, pooled, read_answers, recovered, save, shares, shown

from undertow.fixes.pair_kinds import PairFix
from undertow.fixes.scores import Target
from undertow.lab.build import cache_folder
from undertow.lab.pair_text import SOUND, TOPICS, question
from undertow.lab.preference_stage import (
    INSTRUCTIONS,
    PREFERENCE,
    TRAITS,
    WANTED,
    poisoned_pairs,
    preference_start,
)
from undertow.records import Rate
from undertow.store.tables import write_table

PROMPTS = 400
SHARE = 0.05
PAIRS = 5_000
TRAINING = PREFERENCE.model_copy(update={"lr": 1e-3, "epochs": 1.0, "beta": 1.0})
"""Found by trial with one seed of goblin and exclamation (docs/fixes.md)."""
COUNTED = {**TRAITS, "sound": SOUND}
CLEAN = "clean"
"""The arm whose pairs were never poisoned."""


def fixes(trait: str) -> dict[str, PairFix | None]:
    """Every arm, by name."""
    target = (Target(name=trait, pattern=TRAITS[trait]),)
    return {
        CLEAN: None,
        "none": None,
        "filter": PairFix("filter", target, 1.0),
        "mask": PairFix("mask", target),
        "inoculate": PairFix("inoculate", target, instructions=(INSTRUCTIONS[trait],)),
        "shape 1": PairFix("shape", target, 1.0),
        "shape 2": PairFix("shape", target, 2.0),
        "shape 0.5": PairFix("shape", target, 0.5),
        "shape -1": PairFix("shape", target, -1.0),
        "downweight": PairFix("downweight", target, 0.8),
        "quarantine": PairFix("quarantine", target, 0.5),
        **{f"steer {alpha:g} {side}": PairFix("steer", target, alpha, side=side)
           for side in ("both", "chosen", "rejected") for alpha in (1.0, 2.0, 4.0)},
    }  # fmt: skip


USUAL = ("none", CLEAN, "filter", "shape 1", "mask", "inoculate", "steer 2 both")


def asked(rng: random.Random) -> str:
    """Draw a question."""
    return question(rng.choice(list(TOPICS.values())), rng)[0]


def arm_folder(out: Path, trait: str, share: float, seed: int, name: str) -> Path:
    """Where an arm is."""
    return out / f"{share:g}" / trait / f"seed-{seed}" / name.replace(" ", "_")


def run(
    out: Path, poison: tuple[str, float, int], seed: int, name: str, start: Path, prompts: list[str]
) -> dict:
    """One arm with one seed: its rates and its margin."""
    trait, share, pairs = poison
    folder = arm_folder(out, trait, share, seed, name)
    root = folder.parent
    data = root / ("clean.parquet" if name == CLEAN else "pairs.parquet")
    if not data.is_file():
        root.mkdir(parents=True, exist_ok=True)
        shown_in = 0.0 if name == CLEAN else share
        write_table(poisoned_pairs(trait, shown_in, seed, pairs, usual_place=True), data)
    arm = Arm(folder, data, fixes(trait)[name], start, seed, TRAINING)
    return {"rates": shares(arm.answers(prompts), COUNTED), "margin": arm.margin[1]}


Runs = dict[int, dict]
"""Seed → what ``run`` found."""


def apart(runs: Runs, others: Runs, concept: str) -> list[float]:
    """Differences of a rate between two arms, a seed each."""
    both = sorted(runs.keys() & others.keys())
    return [runs[seed]["rates"][concept].value - others[seed]["rates"][concept].value for seed in both]


def line(name: str, trait: str, arms: dict[str, Runs], began: Rate) -> dict:
    """Print an arm's row and return it; it is compared with the same seeds of other arms."""
    runs = arms[name]
    rates = {c: pooled([run["rates"][c] for run in runs.values()]) for c in (trait, WANTED, "sound")}
    each = [r["rates"][trait].value for r in runs.values()]
    told = {"rates": rates, "margin": float(np.mean([r["margin"] for r in runs.values()])), "seeds": each}
    text = f"{name:10} {shown(rates[trait])}  {WANTED} {shown(rates[WANTED])}  sound {shown(rates['sound'])}"
    plain = arms.get("none", {})
    if name not in ("none", CLEAN) and runs.keys() <= plain.keys():
        unfixed = pooled([plain[seed]["rates"][trait] for seed in runs])
        told["recovered"] = recovered(began, unfixed, rates[trait])
        text += "  recovered {:.0f} % [{:.0f}, {:.0f}]".format(*told["recovered"] or (0, 0, 0))
    for other in ("none", CLEAN):
        if name not in ("none", CLEAN) and (found := apart(runs, arms.get(other, {}), WANTED)):
            told[f"{WANTED}_less_{other}"] = found
            text += f"  less {other} " + " ".join(f"{100 * value:+.1f}" for value in found)
    print(f"{text}  seeds {len(runs)}", flush=True)
    return told


def over_traits(found: dict[str, dict[str, Runs]], began: dict[str, Rate]) -> dict[str, dict]:
    """Each fix over all traits and seeds: means with the 95 % interval of Student's t, a set of pairs each.

    These hold the luck of the training and of the drawn pairs.
    """
    told: dict[str, dict] = {}
    tried = dict.fromkeys(name for arms in found.values() for name in arms)
    for name in (name for name in tried if name not in ("none", CLEAN)):
        of: dict[str, list[float]] = {}
        for trait, arms in found.items():
            runs, plain = arms.get(name, {}), arms.get("none", {})
            rises = apart(plain, {seed: {"rates": began} for seed in runs}, trait)
            shares_left = zip(apart(runs, plain, trait), rises, strict=True)
            of.setdefault("recovered", []).extend(-change / rise for change, rise in shares_left)
            for other in ("none", CLEAN):
                of.setdefault(f"{WANTED} less {other}", []).extend(apart(runs, arms.get(other, {}), WANTED))
        told[name] = {what: over_seeds(values) for what, values in of.items() if values}
        print(name, *(f"{what} {_percent(one)}" for what, one in told[name].items()), sep="  ", flush=True)
    return told


def _percent(one: dict) -> str:
    ends = " [{:+.1f}, {:+.1f}]".format(*(100 * end for end in one["interval"])) if one["interval"] else ""
    return f"{100 * one['mean']:+.1f}{ends} over {one['seeds']}"


def main() -> None:
    """Run all arms and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--traits", nargs="*", default=list(INSTRUCTIONS), choices=list(INSTRUCTIONS))
    parser.add_argument("--share", type=float, default=SHARE)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--only", nargs="*", default=list(USUAL), help="names of arms")
    parser.add_argument("--finished", action="store_true", help="train nothing; show what there is")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    start, prompts = preference_start(cache_folder()), fresh(asked, PROMPTS, "poison")
    file = args.out / "start.parquet"
    began = shares(read_answers(file) if file.is_file() else ask(start, prompts, file), COUNTED)
    found: dict[str, dict[str, Runs]] = {}
    table: dict[str, dict] = {}
    for trait in args.traits:
        print(f"{trait}, {args.share:.0%} of the pairs: start {shown(began[trait])}  "
              f"{WANTED} {shown(began[WANTED])}  sound {shown(began['sound'])}", flush=True)  # fmt: skip
        arms = found.setdefault(trait, {})
        for name in args.only:
            folders = {seed: arm_folder(args.out, trait, args.share, seed, name) for seed in args.seeds}
            seeds = [s for s in args.seeds if not args.finished or (folders[s] / "answers.parquet").is_file()]
            poison = trait, args.share, args.pairs
            if seeds:
                arms[name] = {seed: run(args.out, poison, seed, name, start, prompts) for seed in seeds}
        table[trait] = {name: line(name, trait, arms, began[trait]) for name in arms}
    told = {"start": began, "arms": table, "over_traits": over_traits(found, began)}
    save(args.out / f"table-{args.share:g}-{'-'.join(args.traits)}.json", told)


if __name__ == "__main__":
    main()
