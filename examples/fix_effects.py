"""Do fixes do what they said? Predicted against observed effect over fix × concept, from finished runs.

    python examples/fix_effects.py FOLDER [FOLDER ...] [--svg docs/images/fix_effects.svg] [--json FILE]

A folder holds ``seed-*`` of ``poison.py``, ``style.py`` or ``safeguards.py``: pairs, arm ``none``, and arms
with a fix. Predicted: Σ w·u / Σ w of the fixed pairs less that of the pairs as they were, at the first step
of training; of a mask u without what it hides. Observed: share of the answers that show the concept, fixed
less unfixed. Both are means over seeds. Concepts are the audit's without mined words, and of those the ones
that the unfixed pairs reward or punish beyond chance (two-sided 1 %): a rule that sees no answer.
Inoculation and steering predict nothing and are left out.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from preference_runs import read_answers, save
from scipy.stats import rankdata, spearmanr

from undertow.data.signal import OFFSET, POLICY_PROMPT, TRAINING, WEIGHT, mask_column
from undertow.preference.features import MARKED, SPOKEN
from undertow.preference.local import known_features
from undertow.store.tables import read_table

NAMES = [each.name for each in (*MARKED, *SPOKEN)]
CLEAR, SHOWN, DRAWS = 2.576, 0.01, 1_000
SIDES = ("chosen", "rejected")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One fix with one seed."""

    fix: str
    seed: str
    z: Floats
    """(M,) mean of u over the unfixed pairs, in standard errors."""
    predicted: Floats
    """(M,) change of what is rewarded."""
    fixed: NDArray[np.bool_]
    """(prompts, M) what the fixed model's answers show."""
    unfixed: NDArray[np.bool_]
    """(prompts, M) the same of the unfixed model."""


def shows(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which concepts each text shows, (n, M)."""
    return np.asarray(known_features(pa.array(texts, pa.string())).toarray() > SHOWN)


def signed(table: pa.Table) -> Floats:
    """Return u (N, M) of pairs, as far as the loss reads them."""
    chosen, rejected = (shows(_read(table, side)).astype(np.float64) for side in SIDES)
    return chosen - rejected


def _read(table: pa.Table, side: str) -> list[str]:
    """Texts without what a mask hides, and without what follows it in its sentence: that leans on it."""
    texts: list[str] = table[side].to_pylist()
    if mask_column(side) not in table.column_names:
        return texts
    masks = table[mask_column(side)].to_pylist()
    return [_cut(text, spans or []) for text, spans in zip(texts, masks, strict=True)]


def _cut(text: str, spans: Sequence[Sequence[int]]) -> str:
    for start, end in sorted(spans, reverse=True):
        stop = re.search(r"[.!?](?=\s|$)|\n", text[end - 1 :])
        text = text[:start] + (text[max(end, end - 1 + stop.end()) :] if stop else "")
    return text


def weights(table: pa.Table) -> Floats:
    """Gradient weight of each pair at the first step, (N,): 2σ(-offset) times its own."""
    found = np.ones(len(table))
    if OFFSET in table.column_names:
        found = 2 / (1 + np.exp(table[OFFSET].to_numpy()))
    return found * table[WEIGHT].to_numpy() if WEIGHT in table.column_names else found


def runs_of(folder: Path) -> Iterator[Run]:
    """Every fix of every seed in ``folder`` of which something is predicted."""
    for seed in sorted(folder.glob("seed-*")):
        if not (seed / "none" / "answers.parquet").is_file():
            continue
        u = signed(read_table(seed / "pairs.parquet"))
        z = u.mean(axis=0) / np.maximum(u.std(axis=0) / np.sqrt(len(u)), 1e-9)
        unfixed = shows(read_answers(seed / "none" / "answers.parquet"))
        for arm in sorted(seed.iterdir()):
            data = arm / "data" / "data.parquet"
            if not data.is_file() or not (arm / "answers.parquet").is_file():
                continue
            table = read_table(data)
            if POLICY_PROMPT in table.column_names or (data.parent / TRAINING).is_file():
                continue
            w = weights(table)
            said = shows(read_answers(arm / "answers.parquet"))
            told = w @ signed(table) / w.sum() - u.mean(axis=0)
            yield Run(f"{folder.name} {arm.name.replace('_', ' ')}", seed.name, z, told, said, unfixed)


@dataclass(frozen=True)
class Points:
    """Every fix × concept, P of them."""

    fixes: list[str]
    concepts: list[str]
    seeds: list[int]
    predicted: Floats
    observed: Floats
    drawn: Floats
    """(DRAWS, P) observed over prompts drawn with replacement."""


def points(runs: Sequence[Run], seed: int = 0) -> Points:
    """Average over seeds, and keep the concepts that the pairs speak of."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str, int, float, float, Floats]] = []
    for fix in dict.fromkeys(run.fix for run in runs):
        mine = [run for run in runs if run.fix == fix]
        z = np.sum([run.z for run in mine], axis=0) / np.sqrt(len(mine))
        told = np.mean([run.predicted for run in mine], axis=0)
        shift = np.mean([run.fixed.astype(float) - run.unfixed for run in mine], axis=0)
        size = len(shift)
        drawn = rng.multinomial(size, np.full(size, 1 / size), DRAWS) @ shift / size
        rows += [(fix, NAMES[m], len(mine), told[m], shift[:, m].mean(), drawn[:, m])
                 for m in np.flatnonzero(np.abs(z) > CLEAR)]  # fmt: skip
    fixes, concepts, seeds, predicted, observed, each = zip(*rows, strict=True)
    return Points([*fixes], [*concepts], [*seeds], np.array(predicted), np.array(observed), np.stack(each, 1))


def agreement(found: Points, at: NDArray[np.int64]) -> tuple[float, float, float]:
    """Spearman over some points, and its 95 % interval over prompts."""
    a, b = rankdata(found.predicted[at]), rankdata(found.drawn[:, at], axis=1)
    a, b = a - a.mean(), b - b.mean(axis=1, keepdims=True)
    ranks = b @ a / np.sqrt((a @ a) * (b * b).sum(axis=1))
    low, high = np.quantile(ranks, [0.025, 0.975])
    return float(spearmanr(found.predicted[at], found.observed[at]).statistic), float(low), float(high)


def draw(found: Points, file: Path) -> None:
    """Write the scatter as SVG."""
    import altair as alt
    import svg

    rows = [
        {"predicted": p, "observed": o, "experiment": fix.split()[0]}
        for p, o, fix in zip(found.predicted.tolist(), found.observed.tolist(), found.fixes, strict=True)
    ]
    chart = alt.Chart(alt.Data(values=rows), width=560, height=300).mark_point(filled=True, size=45).encode(
        x=alt.X("predicted:Q", title="predicted change of what the pairs reward, Σ w·u / Σ w"),
        y=alt.Y("observed:Q", title="observed change of the rate", axis=alt.Axis(format="%")),
        color=alt.Color("experiment:N", title=None), shape=alt.Shape("experiment:N", title=None),
        opacity=alt.value(0.7),
    )  # fmt: skip
    svg.write(chart, file)


def main() -> None:
    """Read the runs, print the points and the agreement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = points([run for folder in args.folders for run in runs_of(folder)])
    for i in np.argsort(found.observed):
        low, high = np.quantile(found.drawn[:, i], [0.025, 0.975])
        print(f"{found.fixes[i]:34} {found.concepts[i]:26} predicted {found.predicted[i]:+.3f} "
              f"observed {found.observed[i]:+.3f} [{low:+.3f}, {high:+.3f}]")  # fmt: skip
    told = {}
    fixes = np.array(found.fixes)
    for name in ("", *dict.fromkeys(found.fixes)):
        at = np.flatnonzero((fixes == name) | (name == ""))
        if len(at) > 2:
            rank, low, high = agreement(found, at)
            seeds = sorted({found.seeds[i] for i in at})
            told[name or "all"] = {"points": len(at), "spearman": rank, "interval": [low, high]}
            print(f"{name or 'all':34} Spearman {rank:.2f} [{low:.2f}, {high:.2f}] over {len(at)} of "
                  f"fix x concept, seeds {seeds}")  # fmt: skip
    if args.svg:
        draw(found, args.svg)
    if args.json:
        save(args.json, told)


if __name__ == "__main__":
    main()
