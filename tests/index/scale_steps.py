"""A step whose work can be seen: importable by worker processes of every kind."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from undertow.errors import UsageError
from undertow.index.kmeans import Assign


@dataclass(frozen=True)
class Square:
    wait: float = 0.0
    refuse: int = -1
    name: str = "square"

    def make(self, run: Path, number: int, folder: Path) -> dict[str, Any]:
        with (run / "calls").open("a") as calls:
            calls.write(f"{number} {os.getpid()}\n")
        time.sleep(self.wait)
        if number == self.refuse:
            raise UsageError(f"number {number} is refused")
        np.save(folder / "square.npy", np.array([number * number]))
        return {"rows": 1, "square": number * number}


class HashEmbedder:
    name, dim = "hash", 16

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.stack([np.random.default_rng(zlib.crc32(t.encode())).standard_normal(16) for t in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def hash_embedder() -> None:
    """Have every process of a cluster embed by hash."""
    import undertow.models.embed

    undertow.models.embed.open_embedder = lambda spec: HashEmbedder()


@dataclass(frozen=True)
class SlowAssign(Assign):
    """Takes its time, so that a node can die in it."""

    def make(self, run: Path, number: int, folder: Path) -> dict[str, Any]:
        time.sleep(0.1)
        return super().make(run, number, folder)
