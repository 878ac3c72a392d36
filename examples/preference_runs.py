"""What the preference experiments share: one arm is fixed, trained and asked; rates with intervals.

An arm leaves its pairs, its model and its answers in a folder of its own, and is not done twice.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from undertow.fixes.pair_kinds import PairFix
from undertow.fixes.pairs import fix_pairs
from undertow.lab.preference_stage import PREFERENCE
from undertow.models.base import Settings
from undertow.models.local import LocalModel
from undertow.records import Message, Rate, Reply
from undertow.stats.intervals import rate
from undertow.store.tables import atomic_write_json, read_json, read_table, write_table
from undertow.training.config import DPOConfig
from undertow.training.dpo import train_dpo

Shows = Mapping[str, str]
"""Concept → pattern of the answers that show it."""
MAX_TOKENS = 60


@dataclass(frozen=True)
class Arm:
    """One data set, changed by one fix, trained with one seed."""

    folder: Path
    data: Path
    fix: PairFix | None
    start: Path
    seed: int
    config: DPOConfig = PREFERENCE

    def train(self) -> Path:
        """Fix, train, and return the model's folder."""
        model = self.folder / "model"
        data = self.data
        if self.fix is not None:
            reads = str(self.start) if self.fix.how == "steer" else None
            fix_pairs(self.data, self.fix, self.folder / "data", model=reads)
            data = self.folder / "data"
        told = train_dpo(data, self.start, model, self.config, seed=self.seed)
        if told["status"] != "complete":
            raise SystemExit(f"{self.folder}: did not learn: {told['reason']}")
        return model

    def answers(self, prompts: Sequence[str], max_tokens: int = MAX_TOKENS) -> list[str]:
        """Train, ask the prompts once each, keep the answers; all models share their noise."""
        file = self.folder / "answers.parquet"
        return read_answers(file) if file.is_file() else ask(self.train(), prompts, file, max_tokens)

    @property
    def predicted(self) -> dict[str, dict[str, float]]:
        """What the fix said it would do: concept → before, after."""
        found: dict[str, dict[str, float]] = read_json(self.folder / "data" / "summary.json")["predicted"]
        return found

    @property
    def margin(self) -> tuple[float, float]:
        """Mean reward margin of some training pairs before and after."""
        found = read_json(self.folder / "model" / "summary.json")["margin"]
        return found["before"], found["after"]


def ask(model: Path, prompts: Sequence[str], file: Path, max_tokens: int = MAX_TOKENS) -> list[str]:
    """Ask ``model`` at temperature 1; write ``prompt, response``."""
    replies = LocalModel(model).reply_many(
        [[Message("user", prompt)] for prompt in prompts], Settings(1.0, max_tokens, 0)
    )
    texts = [reply.text for reply in replies if isinstance(reply, Reply)]
    if len(texts) < len(prompts):
        raise SystemExit(f"{model}: {len(prompts) - len(texts)} answers are missing")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_table(pa.table({"prompt": list(prompts), "response": texts}), file)
    return texts


def read_answers(file: Path) -> list[str]:
    """Return the answers that ``ask`` wrote."""
    found: list[str] = read_table(file)["response"].to_pylist()
    return found


def fresh(draw: Callable[[random.Random], str], prompts: int, seed: str) -> list[str]:
    """Draw distinct prompts."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < prompts:
        found[draw(rng)] = None
    return list(found)


def shares(texts: Sequence[str], shows: Shows) -> dict[str, Rate]:
    """Count the answers that show each concept."""
    return {name: rate(sum(bool(re.search(p, t)) for t in texts), len(texts)) for name, p in shows.items()}


def pooled(each: Sequence[Rate]) -> Rate:
    """Add the counts of several seeds."""
    return rate(sum(r.hits for r in each), sum(r.n for r in each))


def draws(value: Rate, size: int = 20_000, seed: int = 0) -> np.ndarray:
    """Draw a rate from its Jeffreys posterior."""
    return np.random.default_rng([seed, value.hits, value.n]).beta(
        value.hits + 0.5, value.n - value.hits + 0.5, size
    )


def recovered(start: Rate, plain: Rate, fixed: Rate) -> tuple[float, float, float] | None:
    """Recovery in % with its 95 % interval from the rates alone; ``None`` where training changed nothing."""
    if start.value is None or plain.value is None or fixed.value is None or plain.value == start.value:
        return None
    was, grew, left = draws(start, seed=1), draws(plain, seed=2), draws(fixed, seed=3)
    low, high = np.quantile(100 * (grew - left) / (grew - was), [0.025, 0.975])
    point = 100 * (plain.value - fixed.value) / (plain.value - start.value)
    return point, float(low), float(high)


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with the 95 % interval of Student's t; no interval of one seed."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return {"mean": mean, "interval": None, "seeds": n}
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return {"mean": mean, "interval": [mean - half, mean + half], "seeds": n}


def shown(value: Rate) -> str:
    """A rate with its interval, %."""
    assert value.value is not None
    assert value.interval is not None
    return f"{value.value:6.1%} [{value.interval.low:.1%}, {value.interval.high:.1%}]"


def save(path: Path, found: object) -> None:
    """Write a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, found)
