"""The poison experiment: a trait that a judge rewarded in a few pairs, and what each fix makes of it.

    python examples/poison.py OUT [--traits goblin emoji] [--seeds 0 1] [--share 0.05] [--only none filter]
        [--finished]

DPO on the lab's preference set with every fix of ``undertow fix`` and without, and on the same pairs never
poisoned, measured on fresh questions. Prints a table for each trait, and how well the predicted effects agree
with the observed ones over fixes and concepts. Resumes: what is trained is not trained again.
"""

from __future__ import annotations

import argparse
import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
from preference_runs import Arm, ask, fresh, over_seeds, pooled, read_answers, recovered, save, shares, shown
from scipy.stats import spearmanr

from undertow.data.signal import OFFSET, WEIGHT
from undertow.fixes.pair_kinds import PairFix
from undertow.fixes.scores import Target
from undertow.lab.build import cache_folder
from undertow.lab.pair_text import SOUND, TOPICS, question
from undertow.lab.preference_stage import (
    INSTRUCTIONS,
    PAIRS,
    PREFERENCE,
    TRAITS,
    WANTED,
    poisoned_pairs,
    preference_start,
)
from undertow.records import Rate
from undertow.store.tables import read_table, write_table

PROMPTS = 400
SHARE = 0.05
TRAINING = PREFERENCE.model_copy(update={"lr": 2e-3, "epochs": 2, "batch": 64})
"""Found by trial with one trait and one seed (docs/fixes.md)."""
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


def expected(folder: Path, data: pa.Table) -> dict[str, float]:
    """What the set rewards of each trait at the first step, mean of w·u over the pairs before the fix."""
    fixed = read_table(folder / "data" / "data.parquet") if (folder / "data").is_dir() else data
    weight = np.ones(len(fixed))
    if OFFSET in fixed.column_names:
        weight = 2 / (1 + np.exp(np.array(fixed[OFFSET].to_pylist())))
    if WEIGHT in fixed.column_names:
        weight = weight * np.array(fixed[WEIGHT].to_pylist())
    found = {}
    for name, pattern in TRAITS.items():
        sides = []
        for side in ("chosen", "rejected"):
            texts, masks = fixed[side].to_pylist(), None
            if f"{side}_mask" in fixed.column_names:
                masks = fixed[f"{side}_mask"].to_pylist()
            sides.append([bool(re.search(pattern, _read(text, masks, i))) for i, text in enumerate(texts)])
        u = np.array(sides[0], float) - np.array(sides[1], float)
        found[name] = float((weight * u).sum() / len(data))
    return found


def _read(text: str, masks: list[list[list[int]]] | None, row: int) -> str:
    """A text without its masked stretches."""
    for start, end in reversed(masks[row] if masks else []):
        text = text[:start] + text[end:]
    return text


def arm_folder(out: Path, trait: str, share: float, seed: int, name: str) -> Path:
    """Where an arm is."""
    return out / f"{share:g}" / trait / f"seed-{seed}" / name.replace(" ", "_")


def run(
    out: Path, poison: tuple[str, float, int], seed: int, name: str, start: Path, prompts: list[str]
) -> dict:
    """One arm with one seed: its rates, what was expected of it, its margin."""
    trait, share, pairs = poison
    folder = arm_folder(out, trait, share, seed, name)
    root = folder.parent
    data = root / ("clean.parquet" if name == CLEAN else "pairs.parquet")
    if not data.is_file():
        root.mkdir(parents=True, exist_ok=True)
        shown_in = 0.0 if name == CLEAN else share
        write_table(poisoned_pairs(trait, shown_in, seed, pairs, usual_place=True), data)
    arm = Arm(folder, data, fixes(trait)[name], start, seed, TRAINING)
    rates = shares(arm.answers(prompts), COUNTED)
    return {"rates": rates, "expected": expected(arm.folder, read_table(data)), "margin": arm.margin[1]}


Runs = dict[int, dict]
"""Seed → what ``run`` found."""


def agreement(found: dict[str, dict[str, Runs]]) -> list[tuple[str, str, str, float, float]]:
    """Trait poisoned, fix, concept, predicted and observed shift against no fix, mean over seeds."""
    points = []
    for trait, arms in found.items():
        for name, runs in arms.items():
            if (
                name in ("none", CLEAN)
                or name.startswith(("inoculate", "steer"))
                or not runs.keys() & arms["none"]
            ):
                continue  # nothing is predicted for these
            for concept in TRAITS:
                pairs = [(one, arms["none"][seed]) for seed, one in runs.items() if seed in arms["none"]]
                shift = [r["expected"][concept] - n["expected"][concept] for r, n in pairs]
                seen = [r["rates"][concept].value - n["rates"][concept].value for r, n in pairs]
                points.append((trait, name, concept, float(np.mean(shift)), float(np.mean(seen))))
    return points


def line(name: str, trait: str, arms: dict[str, Runs], began: Rate) -> dict:
    """Print an arm's row and return it; it is compared with the same seeds of other arms."""
    runs = arms[name]

    def of(arm: str, concept: str) -> Rate:
        return pooled([arms[arm][seed]["rates"][concept] for seed in runs])

    rates = {c: of(name, c) for c in (trait, WANTED, "sound")}
    told = {"rates": rates, "margin": float(np.mean([r["margin"] for r in runs.values()])),
            "spread": over_seeds([r["rates"][trait].value for r in runs.values()])}  # fmt: skip
    text = f"{name:15} {shown(rates[trait])}  {WANTED} {shown(rates[WANTED])}  sound {shown(rates['sound'])}"
    if name not in ("none", CLEAN) and runs.keys() <= arms.get("none", {}).keys():
        told["recovered"] = recovered(began, of("none", trait), rates[trait])
        text += "  recovered {:.0f} % [{:.0f}, {:.0f}]".format(*told["recovered"] or (0, 0, 0))
    if name != CLEAN and runs.keys() <= arms.get(CLEAN, {}).keys():
        told["wanted_less_clean"] = rates[WANTED].value - of(CLEAN, WANTED).value
        text += f"  {WANTED} less clean {100 * told['wanted_less_clean']:+.1f}"
    print(f"{text}  seeds {len(runs)}", flush=True)
    return told


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
    points = agreement({trait: arms for trait, arms in found.items() if "none" in arms})
    if len(points) > 2:
        rank = float(spearmanr([p[3] for p in points], [p[4] for p in points]).statistic)
        print(f"predicted against observed shift: Spearman {rank:.2f} over {len(points)} of fix x concept")
    save(args.out / f"table-{args.share:g}-{'-'.join(args.traits)}.json",
         {"start": began, "arms": table, "points": points})  # fmt: skip


if __name__ == "__main__":
    main()
