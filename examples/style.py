"""Over-stylisation: take bold back out of a style that comes as one, and leave its siblings.

    python examples/style.py OUT [--seeds 3] [--flat 1.0] [--aware 1.5]

The judge likes answers with bold, emoji, a rule and a table together. Flat shaping goes by bold alone, and
bold speaks for its siblings too; structure-aware shaping goes by what siblings and length do not say of it.
Prints recovery on and off target and the selectivity of both, over seeds. Resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from preference_runs import Arm, ask, fresh, over_seeds, pooled, read_answers, save, shares, shown

from undertow.fixes.pair_kinds import LENGTH, PairFix
from undertow.fixes.scores import Target
from undertow.fixes.shaping import recovery, selectivity
from undertow.lab.build import cache_folder
from undertow.lab.preference_worlds import SHOWN, STYLE, plain, style_pairs, worlds_start
from undertow.records import Rate
from undertow.store.tables import write_table

PROMPTS, MAX_TOKENS = 500, 90
TARGET = "bold"
COUNTED = {name: SHOWN[name] for name in (*STYLE, "offer", "goblin")}


def fixes(flat: list[float], aware: list[float]) -> dict[str, PairFix | None]:
    """Plain DPO and both kinds of shaping, at the strengths asked for."""
    target = (Target(name=TARGET, pattern=SHOWN[TARGET]),)
    kept = [Target(name=name, pattern=SHOWN[name]) for name in STYLE if name != TARGET]
    siblings = (*kept, Target(name=LENGTH))
    return {
        "none": None,
        **{f"flat {x:g}": PairFix("shape", target, x) for x in flat},
        **{f"aware {x:g}": PairFix("shape", target, x, keep=siblings) for x in aware},
    }


def outcome(start: dict[str, Rate], trained: dict[str, Rate], fixed: dict[str, Rate]) -> dict[str, float]:
    """Recovery in % on the target and, on average, on its siblings; and selectivity."""
    back = {n: recovery(start[n].value or 0, trained[n].value or 0, fixed[n].value or 0) for n in STYLE}
    on = back[TARGET] or 0.0
    off = sum(back[n] or 0.0 for n in STYLE if n != TARGET) / (len(STYLE) - 1)
    return {"on": on, "off": off, "selectivity": selectivity(on, off) or 0.0}


def main() -> None:
    """Run all arms of all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--flat", type=float, nargs="*", default=[1.0])
    parser.add_argument("--aware", type=float, nargs="*", default=[1.5])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    start, prompts = worlds_start(cache_folder()), fresh(lambda rng: plain(rng)[0], PROMPTS, "style")
    file = args.out / "start.parquet"
    said = read_answers(file) if file.is_file() else ask(start, prompts, file, MAX_TOKENS)
    began = shares(said, COUNTED)
    print("start   " + "  ".join(f"{n} {shown(r)}" for n, r in began.items()), flush=True)
    plainly: list[dict[str, Rate]] = []
    table = {}
    for name, fix in fixes(args.flat, args.aware).items():
        found = []
        for seed in range(args.seeds):
            data = args.out / f"seed-{seed}" / "pairs.parquet"
            data.parent.mkdir(exist_ok=True)
            if not data.is_file():
                write_table(style_pairs(seed), data)
            arm = Arm(data.parent / name.replace(" ", "_"), data, fix, start, seed)
            found.append(shares(arm.answers(prompts, MAX_TOKENS), COUNTED))
        plainly = plainly or found
        rates = {n: pooled([each[n] for each in found]) for n in COUNTED}
        print(f"{name:9}" + "  ".join(f"{n} {shown(r)}" for n, r in rates.items()), flush=True)
        table[name] = {"rates": rates}
        if fix is not None:
            each = [outcome(began, trained, fixed) for trained, fixed in zip(plainly, found, strict=True)]
            table[name] |= {key: over_seeds([e[key] for e in each]) for key in each[0]}
            told = {key: table[name][key] for key in each[0]}
            print("          " + "  ".join(f"{k} {v['mean']:.3g} {v['interval']}" for k, v in told.items()),
                  flush=True)  # fmt: skip
        save(args.out / "table.json", {"start": began, "arms": table})


if __name__ == "__main__":
    main()
