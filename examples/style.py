"""Over-stylisation: take bold back out of a style that comes as one, and leave its siblings.

    python examples/style.py OUT [--seeds 0 1 2] [--by probe|pattern] [--flat 2.5] [--aware 3]

The judge likes answers with bold, emoji, a rule and a table together. Flat shaping goes by the score of bold
alone, and that score speaks for its siblings too: in pairs they come together, and a probe of the start
model, a difference of means over answers with and without bold, reads them as well. Structure-aware shaping
goes by what the siblings' scores and length do not say of it. ``--by pattern`` scores without that fault.
Prints how entangled scores are, recovery on and off target and the selectivity, of all answers together with
prompts resampled, and over seeds. Resumes.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from preference_runs import Arm, ask, fresh, over_seeds, pooled, read_answers, save, shares, shown

from undertow.fixes.pair_kinds import LENGTH, PairFix
from undertow.fixes.scores import Scores, Target, score_pairs
from undertow.fixes.shaping import recovery, selectivity
from undertow.lab.build import cache_folder
from undertow.lab.preference_worlds import SHOWN, STYLE, plain, style_pairs, worlds_start
from undertow.models.forced import ForcedReader
from undertow.store.tables import read_table, write_table

PROMPTS, MAX_TOKENS, DRAWS = 500, 90, 2_000
TARGET, SIBLINGS = "bold", [name for name in STYLE if name != "bold"]
COUNTED = {name: SHOWN[name] for name in (*STYLE, "offer", "goblin")}
SIDES = ("chosen", "rejected")
COLOURS = ["#d55e00", "#0072b2", "#6f6b64", "#009e73"]
TOLD = ("on", "off", "selectivity", "each")
Floats = NDArray[np.float64]


def concept(name: str, by: str) -> Target:
    """A concept by its pattern, or by the probe's column in the pairs."""
    return Target(name=name, pattern=SHOWN[name]) if by == "pattern" else Target(name=f"probe {name}")


def fixes(by: str, flat: Sequence[float], aware: Sequence[float]) -> dict[str, PairFix | None]:
    """Plain DPO and both kinds of shaping, at the strengths asked for."""
    target = (concept(TARGET, by),)
    kept = (*(concept(name, by) for name in SIBLINGS), Target(name=LENGTH))
    return {
        "none": None,
        **{f"{by} flat {x:g}": PairFix("shape", target, x) for x in flat},
        **{f"{by} aware {x:g}": PairFix("shape", target, x, keep=kept) for x in aware},
    }


def scored(table: pa.Table, start: Path) -> pa.Table:
    """Add the columns of four probes: ⟨mean state of the response, mean with less mean without⟩."""
    reader = ForcedReader(str(start))
    asked = [[{"role": "user", "content": prompt}] for prompt in table["prompt"].to_pylist()]
    states = [reader.states(asked, table[side].to_pylist(), reader.layers - 1) for side in SIDES]
    for name in STYLE:
        shows = [_shows(table, side, name) for side in SIDES]
        both, with_it = np.concatenate(states), np.concatenate(shows)
        direction = both[with_it].mean(axis=0) - both[~with_it].mean(axis=0)
        for side, each in zip(SIDES, states, strict=True):
            table = table.append_column(f"probe {name}_{side}", pa.array(each @ direction))
    return table


def _shows(table: pa.Table, side: str, name: str) -> np.ndarray:
    return np.array([bool(re.search(SHOWN[name], text)) for text in table[side].to_pylist()])


def entangled(data: Path, by: str) -> list[float]:
    """Correlation of the target's Δs with its siblings', over pairs."""
    found: Scores = score_pairs(read_table(data), [concept(n, by) for n in (TARGET, *SIBLINGS)],
                                read_table(data))  # fmt: skip
    return [float(r) for r in np.corrcoef(found.delta.T)[0, 1:]]


def outcome(start: Floats, trained: Floats, fixed: Floats) -> dict[str, float]:
    """Recovery in % on the target and, on average, on its siblings; and selectivity; rates in STYLE's order.

    ``each`` is the selectivity by the mean of the siblings' absolute recoveries: what is taken of one is not
    set off against what is given to another.
    """
    back = [recovery(s, t, f) or 0.0 for s, t, f in zip(start, trained, fixed, strict=True)]
    on, siblings = back[STYLE.index(TARGET)], [b for n, b in zip(STYLE, back, strict=True) if n != TARGET]
    off, apart = float(np.mean(siblings)), float(np.mean(np.abs(siblings)))
    told = {"selectivity": selectivity(on, off) or 0.0, "each": selectivity(on, apart) or 0.0}
    return {"on": on, "off": off} | told | dict(zip(STYLE, back, strict=True))


def over_prompts(start: Floats, trained: Floats, fixed: Floats) -> dict[str, dict[str, object]]:
    """Outcome of all seeds' answers together, 95 % by resampling prompts: the luck of the seeds is not in it.

    Args:
        start: (prompts, concepts) what the start model's answers show.
        trained: (seeds, prompts, concepts) of the unfixed models.
        fixed: the same of the fixed ones.
    """
    rng, size = np.random.default_rng(0), len(start)
    sides = start, trained.mean(axis=0), fixed.mean(axis=0)
    drawn = []
    for _ in range(DRAWS):
        rows = rng.integers(0, size, size)
        drawn.append(outcome(*(side[rows].mean(axis=0) for side in sides)))
    point = outcome(*(side.mean(axis=0) for side in sides))
    spans = {key: np.quantile([each[key] for each in drawn], [0.025, 0.975]).tolist() for key in point}
    return {key: {"mean": point[key], "interval": spans[key]} for key in point}


def summed(arm: Sequence[dict[str, float]], less: Sequence[dict[str, float]] = ()) -> dict[str, dict]:
    """Mean over seeds with the interval of Student's t; of the difference to ``less``, seed by seed."""
    by = less or [dict.fromkeys(arm[0], 0.0)] * len(arm)
    return {key: over_seeds([a[key] - b[key] for a, b in zip(arm, by, strict=True)]) for key in arm[0]}


def style_of(texts: Sequence[str]) -> Floats:
    """Which parts of the style each answer shows, (prompts, concepts)."""
    return np.array([[bool(re.search(SHOWN[name], text)) for name in STYLE] for text in texts], np.float64)


def pairs_of(root: Path, seed: int, start: Path) -> Path:
    """Draw and score the pairs of a seed, or find them."""
    data = root / f"seed-{seed}" / "pairs.parquet"
    if not data.is_file():
        data.parent.mkdir(parents=True, exist_ok=True)
        write_table(scored(style_pairs(seed), start), data)
    return data


def main() -> None:
    """Run all arms of all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--by", choices=["probe", "pattern"], default="probe")
    parser.add_argument("--flat", type=float, nargs="*", default=[2.5])
    parser.add_argument("--aware", type=float, nargs="*", default=[3.0])
    parser.add_argument("--svg", type=Path, help="draw recovery on and off target")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    start, prompts = worlds_start(cache_folder()), fresh(lambda rng: plain(rng)[0], PROMPTS, "style")
    file = args.out / "start.parquet"
    said = read_answers(file) if file.is_file() else ask(start, prompts, file, MAX_TOKENS)
    began = shares(said, COUNTED)
    print("start   " + "  ".join(f"{n} {shown(r)}" for n, r in began.items()), flush=True)
    data = {seed: pairs_of(args.out, seed, start) for seed in args.seeds}
    links = [entangled(data[seed], args.by) for seed in args.seeds]
    told = "  ".join(f"{n} {r:.2f}" for n, r in zip(SIBLINGS, np.mean(links, axis=0), strict=True))
    print(f"correlation of {TARGET}'s Δs with {told}", flush=True)
    plainly: Floats | None = None
    began_style, table, by_seed = style_of(said), {}, {}
    for name, fix in fixes(args.by, args.flat, args.aware).items():
        arms = [Arm(data[seed].parent / name.replace(" ", "_"), data[seed], fix, start, seed)
                for seed in args.seeds]  # fmt: skip
        texts = [arm.answers(prompts, MAX_TOKENS) for arm in arms]
        found, shown_style = [shares(each, COUNTED) for each in texts], np.stack([style_of(t) for t in texts])
        rates = {n: pooled([each[n] for each in found]) for n in COUNTED}
        print(f"{name:18}" + "  ".join(f"{n} {shown(r)}" for n, r in rates.items()), flush=True)
        table[name] = {"rates": rates}
        plainly = shown_style if plainly is None else plainly
        if fix is not None:
            by_seed[name] = [outcome(began_style.mean(0), t.mean(0), f.mean(0))
                             for t, f in zip(plainly, shown_style, strict=True)]  # fmt: skip
            table[name] |= over_prompts(began_style, plainly, shown_style)
            table[name]["seeds"] = summed(by_seed[name])
            table[name]["by_seed"] = by_seed[name]
            lines = {"all answers": table[name], "over seeds": table[name]["seeds"]}
            if "aware" in name and len(by_seed) > 1:
                flat = by_seed[next(iter(by_seed))]
                table[name]["less_flat"] = lines["less flat"] = summed(by_seed[name], flat)
            for said_of, of in lines.items():
                print(f"{said_of:>18}  " + "  ".join(_told(k, of[k]) for k in TOLD), flush=True)
        save(args.out / f"table-{args.by}.json", {"start": began, "entangled": links, "arms": table})
    if args.svg:
        draw(table, args.svg)


def draw(table: dict[str, dict], file: Path) -> None:
    """Draw what every arm takes back of each part of the style, with intervals over prompts, as SVG."""
    import altair as alt
    import svg

    rows = [
        {"arm": arm, "part": part, "recovered": told[part]["mean"], "low": low, "high": high}
        for arm, told in table.items()
        if "on" in told
        for part in STYLE
        for low, high in [told[part]["interval"]]
    ]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    title = "taken back of what training added, % (below 0: added more)"
    base = alt.Chart(alt.Data(values=rows), width=520, height=190).encode(
        y=alt.Y("part:N", title=None, sort=list(STYLE)),
        yOffset=alt.YOffset("arm:N", sort=arms),
        color=alt.Color("arm:N", title=None, scale=alt.Scale(domain=arms, range=COLOURS[: len(arms)])),
    )
    shape = alt.Shape("arm:N", title=None, scale=alt.Scale(domain=arms))
    dots = base.mark_point(filled=True, size=70).encode(x=alt.X("recovered:Q", title=title), shape=shape)
    spans = base.mark_rule().encode(x=alt.X("low:Q", title=title), x2="high:Q")
    svg.write(spans + dots, file)


def _told(key: str, found: dict) -> str:
    span = "" if found["interval"] is None else " [{:.3g}, {:.3g}]".format(*found["interval"])
    return f"{key} {found['mean']:.3g}{span}"


if __name__ == "__main__":
    main()
