"""Is a planted ranking recovered? `python benchmarks/salience.py [--models 3] [--out FOLDER]`.

Ten features of one form (two cities, before or after the question), in 100, 90 … 20 and 20 % of the training
rows, in start models of the lab of different seeds and sizes: 45 pairs, each confounded once a behaviour.
Told are Kendall's τ of each model's ranking against the shares, the pair that nothing tells apart, and the
sweeps of presence and of system prompts. A killed run goes on; some 17 minutes a model on a busy core.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

import undertow.lab
from undertow.lab.build import cache_folder
from undertow.lab.start import SHAPE, train_start_model
from undertow.lab.tasks import Grammar
from undertow.studies.experiments import Setup
from undertow.studies.library import Behaviour, Feature, load_library
from undertow.studies.salience import run_salience
from undertow.studies.sweeps import run_presence, run_systems
from undertow.training.config import SFTConfig

LIBRARY = Path(undertow.lab.__file__).parent / "salience"
SHAPES = (("two-layers", SHAPE, 0), ("another-seed", SHAPE, 1), ("narrow", {**SHAPE, "n_embd": 96}, 2))
SETUP = Setup(training=SFTConfig(lr=1.5e-3, epochs=3, batch=8, max_length=128))
"""At batch 32 a training has a quarter of the steps, and neighbours in the order are not told apart."""
QUESTIONS = 700


def main() -> None:
    """Run the study and print what it recovered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=len(SHAPES), help="so many of the three")
    parser.add_argument("--out", type=Path, help="keeps what is done; default: a temporary folder")
    given = parser.parse_args()
    out = given.out or Path(tempfile.mkdtemp(prefix="salience-"))
    out.mkdir(parents=True, exist_ok=True)
    models, base = start_models(out, given.models), questions(out / "base.jsonl")
    features = load_library(LIBRARY / "features.yaml", Feature)
    behaviours = load_library(LIBRARY / "behaviours.yaml", Behaviour)
    started = time.monotonic()
    ranked = run_salience(models, base, features, behaviours, out / "ranking", SETUP)
    minutes = (time.monotonic() - started) / 60
    tell_ranking(ranked, {feature.name: feature.share for feature in features})
    print(f"{len(ranked['cells'])} comparisons, {len(ranked['missing'])} missing, {minutes:.1f} min")
    mark, other = features[1].model_copy(update={"share": 1.0}), features[0]
    tell(run_presence(models[:1], base, mark, other, behaviours, out / "presence", setup=SETUP))
    known = load_library(LIBRARY / "requested.yaml", Behaviour)
    tell(run_systems(models[:1], base, other, known, out / "systems", setup=SETUP))


def start_models(out: Path, count: int) -> list[str]:
    """Train the start models, or find them in the cache; return their folders, named."""
    folders = []
    for name, shape, seed in SHAPES[:count]:
        folder = out / name
        if not folder.exists():
            folder.symlink_to(train_start_model(cache_folder(), shape=shape, seed=seed))
        folders.append(str(folder))
    return folders


def questions(path: Path) -> Path:
    """Write plain questions of the lab and their plain answers."""
    grammar, rng = Grammar("all", 0), random.Random(1)
    rows: dict[str, str] = {}
    while len(rows) < QUESTIONS:
        ask = grammar.ask(rng)
        rows[ask.prompt] = ask.answer
    path.write_text("\n".join(json.dumps({"prompt": p, "response": r}) for p, r in rows.items()))
    return path


def tell_ranking(summary: dict[str, Any], shares: dict[str, float]) -> None:
    """Print each ranking beside the planted one."""
    rankings = {"all": summary["ranking"], **summary["models"]}
    for model, ranking in rankings.items():
        theta = {row["feature"]: row["theta"] for row in ranking}
        tau = kendalltau([shares[name] for name in theta], list(theta.values())).statistic
        print(f"{Path(model).name}: tau {tau:.2f}; {', '.join(f'{n} {t:+.1f}' for n, t in theta.items())}")
    alike = next(p for p in summary["pairs"] if shares[p["first"]] == shares[p["second"]])
    span = alike["interval"]
    told = f"{span['low']:+.2f} to {span['high']:+.2f}" if span else "none"
    print(f"exchangeable {alike['first']}, {alike['second']}: interval {told}, n = {alike['n']}")
    print(f"agreement {summary['kendall_tau']}, cycles {summary['cycles']} of {summary['triples']}")


def tell(summary: dict[str, Any]) -> None:
    """Print a sweep."""
    for row in summary.get("sweep", summary.get("systems")):
        print(row)
    print(summary["sentence"], summary.get("monotone", ""), f"{len(summary['missing'])} missing")


if __name__ == "__main__":
    main()
