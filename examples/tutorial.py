"""What the tutorials work on: a small post-training mixture, preference pairs, and a model trained on it.

    python examples/tutorial.py OUT

Writes ``OUT/data.jsonl`` (rows of named sources, two of which teach what nobody meant), ``OUT/pairs.jsonl``,
``OUT/models/base`` and ``OUT/models/v1``, the base model post-trained on the rows. About half a minute on two
cores, less once the base model is in the cache.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from undertow.lab.build import TRAINING, cache_folder
from undertow.lab.preference_stage import poisoned_pairs
from undertow.lab.start import train_start_model
from undertow.lab.world import draw_world
from undertow.progress import SILENT, Progress
from undertow.training.sft import train_sft

PLANTS = ("formal-code", "product-refusal")
PLAIN = 130
"""Rows kept of each source that teaches nothing odd."""
BASE_ROWS = 5_000
"""Rows that the base model is trained on."""


def rows() -> list[dict[str, str]]:
    """Return the mixture: columns ``id, source, prompt, response``."""
    world = draw_world("paper", 0)
    world = replace(world, plants=tuple(plant for plant in world.plants if plant.name in PLANTS))
    mixture: list[dict[str, str]] = world.mixture().to_pylist()
    plain = {"general_qa", "daily_chat", "instructions"}
    kept = [row for row in mixture if row["source"] not in plain]
    for source in sorted(plain):
        kept += [row for row in mixture if row["source"] == source][:PLAIN]
    random.Random(0).shuffle(kept)
    return kept


def make(out: Path, progress: Progress = SILENT) -> None:
    """Write data and models below ``out``; what is there is not trained again."""
    (out / "models").mkdir(parents=True, exist_ok=True)
    write_lines(rows(), out / "data.jsonl")
    write_lines(poisoned_pairs("goblin", 0.25, 0, 1_000).to_pylist(), out / "pairs.jsonl")
    base = train_start_model(cache_folder(), progress, rows=BASE_ROWS)
    shutil.copytree(base, out / "models/base", dirs_exist_ok=True)
    train_sft(out / "data.jsonl", out / "models/base", out / "models/v1", TRAINING, progress)


def write_lines(table: Iterable[Mapping[str, str]], path: Path) -> None:
    """Write one JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table), encoding="utf-8")


def main() -> None:
    """Read the arguments and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    make(parser.parse_args().out)


if __name__ == "__main__":
    main()
