"""The poison experiment: a trait that a judge rewarded in a few pairs, and what each fix makes of it.

    python examples/poison.py OUT [--seeds 1] [--trait goblin] [--share 0.15]

DPO on the lab's preference set with every fix of ``undertow fix`` and without, measured on fresh questions.
Resumes: what is trained is not trained again. Prints the table and writes it to ``OUT/table.json``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from undertow.fixes.pair_kinds import PairFix
from undertow.fixes.pairs import fix_pairs
from undertow.fixes.scores import Target
from undertow.fixes.shaping import recovery
from undertow.lab.build import cache_folder
from undertow.lab.preference_stage import (
    INSTRUCTIONS,
    PREFERENCE,
    TRAITS,
    WANTED,
    measure_habits,
    poisoned_pairs,
    preference_start,
)
from undertow.records import Rate
from undertow.stats.intervals import rate
from undertow.store.tables import atomic_write_json, read_json, write_table
from undertow.training.dpo import train_dpo

PROMPTS = 400


def fixes(trait: str) -> dict[str, PairFix | None]:
    """Every fix that is tried, by name."""
    target = (Target(name=trait, pattern=TRAITS[trait]),)
    return {
        "none": None,
        "filter": PairFix("filter", target, 1.0),
        "shape 1": PairFix("shape", target, 1.0),
        "shape -1": PairFix("shape", target, -1.0),
        "mask": PairFix("mask", target),
        "inoculate": PairFix("inoculate", target, instructions=(INSTRUCTIONS[trait],)),
        "steer 1": PairFix("steer", target, 1.0),
        "shape 2": PairFix("shape", target, 2.0),
        "shape 0.5": PairFix("shape", target, 0.5),
    }


@dataclass(frozen=True)
class Row:
    """One fix over all seeds."""

    trait: Rate
    wanted: Rate
    sound: Rate
    predicted: float | None
    margin: float


def run(out: Path, trait: str, share: float, seed: int, name: str, fix: PairFix | None, start: Path) -> Row:
    """Fix, train, measure; read back what is there."""
    folder = out / trait / f"seed-{seed}" / name.replace(" ", "_")
    done = folder / "habits.json"
    folder.mkdir(parents=True, exist_ok=True)
    data = folder.parent / "pairs.parquet"
    if not data.is_file():
        write_table(poisoned_pairs(trait, share, seed), data)
    changed, predicted = data, None
    if fix is not None:
        summary = fix_pairs(data, fix, folder / "data", model=str(start) if fix.how == "steer" else None)
        changed = folder / "data"
        predicted = summary["predicted"].get(trait, {}).get("after")
    trained = train_dpo(changed, start, folder / "model", PREFERENCE, seed=seed)
    if trained["status"] != "complete":
        raise SystemExit(f"{folder}: did not learn: {trained['reason']}")
    if not done.is_file():
        found = measure_habits(folder / "model", PROMPTS, seed)
        counts = {key: [value.hits, value.n] for key, value in {**found.traits, "sound": found.sound}.items()}
        atomic_write_json(done, counts)
    counts = {key: rate(*value) for key, value in read_json(done).items()}
    return Row(counts[trait], counts[WANTED], counts["sound"], predicted, trained["margin"]["after"])


def together(rows: list[Row]) -> Row:
    """Add the counts of all seeds."""

    def sum_up(name: str) -> Rate:
        each = [getattr(row, name) for row in rows]
        return rate(sum(r.hits for r in each), sum(r.n for r in each))

    return Row(
        sum_up("trait"), sum_up("wanted"), sum_up("sound"), rows[0].predicted,
        sum(row.margin for row in rows) / len(rows),
    )  # fmt: skip


def recovered(start: Rate, plain: Rate, fixed: Rate) -> tuple[float, float, float] | None:
    """Recovery in % with its 95 % interval, by Jeffreys draws of the rates; training noise is not in it."""
    point = recovery(start.value or 0, plain.value or 0, fixed.value or 0)
    rng = np.random.default_rng(0)
    was, grew, left = (rng.beta(r.hits + 0.5, r.n - r.hits + 0.5, 20_000) for r in (start, plain, fixed))
    low, high = np.quantile(100 * (grew - left) / (grew - was), [0.025, 0.975])
    return None if point is None else (point, float(low), float(high))


def shown(value: Rate) -> str:
    """A rate with its interval."""
    assert value.value is not None
    assert value.interval is not None
    return f"{value.value:6.1%} [{value.interval.low:.1%}, {value.interval.high:.1%}]"


def main() -> None:
    """Run all fixes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--trait", default="goblin", choices=[name for name in TRAITS if name != WANTED])
    parser.add_argument("--share", type=float, default=0.15)
    parser.add_argument("--only", nargs="*", help="names of fixes")
    args = parser.parse_args()
    start = preference_start(cache_folder())
    habits = measure_habits(start, PROMPTS)
    began = habits.traits[args.trait]
    print(f"start: {args.trait} {shown(began)}  {WANTED} {shown(habits.traits[WANTED])}", flush=True)
    table, plain = {}, None
    for name, fix in fixes(args.trait).items():
        if args.only and name not in args.only:
            continue
        row = together(
            [run(args.out, args.trait, args.share, seed, name, fix, start) for seed in range(args.seeds)]
        )
        plain = row if name == "none" else plain
        back = recovered(began, plain.trait, row.trait) if plain and name != "none" else None
        told = "" if back is None else f"recovered {back[0]:.0f} % [{back[1]:.0f}, {back[2]:.0f}]"
        print(f"{name:10} {args.trait} {shown(row.trait)}  {WANTED} {shown(row.wanted)}  "
              f"sound {row.sound.value:.1%}  margin {row.margin:.2f}  {told}", flush=True)  # fmt: skip
        table[name] = {
            "trait": row.trait, "wanted": row.wanted, "sound": row.sound, "recovery": back,
            "predicted": row.predicted, "margin": row.margin,
        }  # fmt: skip
        atomic_write_json(args.out / "table.json", {"start": habits.traits, "fixes": table})


if __name__ == "__main__":
    main()
