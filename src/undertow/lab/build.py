"""Writes a world to disk: mixture, ground truth, prompt bank, rubrics and the start model."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.lab.behaviours import BEHAVIOURS
from undertow.lab.start import train_start_model
from undertow.lab.world import World
from undertow.models.local import model_revision
from undertow.progress import SILENT, Progress
from undertow.store.tables import atomic_write_bytes, atomic_write_json, write_table
from undertow.training.config import SFTConfig

TRAINING = SFTConfig(lr=1.5e-3, epochs=3, batch=32, weight_decay=0.01, warmup=0.05, max_length=128)
"""How the start model is post-trained on a mixture; above lr 2e-3 it forgets what it knew."""
BANK = 6_000
"""Prompts of the bank."""
RUBRICS = Path(__file__).parent / "rubrics"
"""Folder of the lab's rubrics."""


@dataclass(frozen=True)
class Lab:
    """A world on disk."""

    mixture: Path
    """Parquet with ``id, source, prompt, response``."""
    bank: Path
    """Parquet with ``prompt``: prompts over held-out entities for a search to draw on."""
    capability: Path
    """JSONL of plain questions and their answers, which a fix must leave alone."""
    rubrics: dict[str, Path]
    """One rubric a behaviour of the lab, planted or not."""
    start: Path
    """The start model's folder."""
    truth_file: Path
    """JSON: plants with their rows, decoys with theirs."""
    truth: dict[str, Any]
    """The same, read by nobody but who checks the answers."""


def cache_folder() -> Path:
    """Return where trained lab models are kept: ``UNDERTOW_CACHE``, else ``~/.cache/undertow``."""
    named = os.environ.get("UNDERTOW_CACHE")
    return (Path(named) if named else Path.home() / ".cache" / "undertow") / "lab"


def build_lab(
    out: Path,
    world: World,
    start: Path | None = None,
    progress: Progress = SILENT,
    shuffle: bool = False,
    fresh: bool = False,
) -> Lab:
    """Write ``world`` below ``out`` and train its start model, or fetch it from the cache.

    Args:
        out: Folder of ``mixture.parquet``, ``bank.parquet``, ``truth.json`` and ``rubrics/``.
        world: What to write.
        start: Where the start model is copied; ``out/start`` without.
        progress: Where steps are reported.
        shuffle: Write the null control, whose planted responses are shuffled, in the mixture's place.
        fresh: Train the start model again.
    """
    out.mkdir(parents=True, exist_ok=True)
    truth = world.ground_truth()
    write_table(world.shuffled(world.seed) if shuffle else world.mixture(), out / "mixture.parquet")
    write_table(world.bank_table(BANK), out / "bank.parquet")
    atomic_write_json(out / "truth.json", truth)
    lines = "".join(f"{json.dumps(task)}\n" for task in world.capability())
    atomic_write_bytes(out / "capability.jsonl", lines.encode())
    rubrics = {name: _write_rubric(name, out / "rubrics") for name in BEHAVIOURS}
    trained = train_start_model(cache_folder(), progress, fresh)
    start = start or out / "start"
    copy_model(trained, start)
    return Lab(
        out / "mixture.parquet", out / "bank.parquet", out / "capability.jsonl", rubrics, start,
        out / "truth.json", truth,
    )  # fmt: skip


def copy_model(trained: Path, place: Path) -> None:
    """Put a copy of the model at ``place``, whole or not at all, unless it is there already."""
    if model_revision(str(place)) == model_revision(str(trained)):
        return
    if place.exists():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.copytree(trained, temporary)
    temporary.replace(place)


def _write_rubric(name: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    atomic_write_bytes(path, (RUBRICS / f"{name}.yaml").read_bytes())
    return path
