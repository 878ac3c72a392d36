"""A cell that is a training run: train the start model on some rows, ask it, keep the answers alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from undertow.errors import UndertowError
from undertow.progress import SILENT
from undertow.records import Interval
from undertow.stats.intervals import wilson_bounds
from undertow.store.run import RunDir
from undertow.store.tables import write_table
from undertow.studies.asking import Asked, AskingConfig, Group, Question, ask_groups
from undertow.studies.cells import Measured
from undertow.training.config import SFTConfig
from undertow.training.run import quiet_libraries
from undertow.training.sft import train_sft

if TYPE_CHECKING:
    from undertow.judging.rubric import Rubric

_FOLDER = "training"
_NEVER = 1_000_000_000


@dataclass(frozen=True)
class Trainer:
    """What every cell does."""

    run: RunDir
    """Of the study."""
    model: str
    """The start model."""
    training: SFTConfig
    """How it is trained; the cell's seed replaces its own."""
    judge: str
    """``checks`` or a model."""
    asking: AskingConfig
    """How the trained model is asked."""

    def measured(
        self, name: str, rows: pa.Table, seed: int, questions: Sequence[Question], measure: str | Rubric
    ) -> Measured:
        """Train on ``rows`` and measure on ``questions``; ``values`` holds an entry a question, in order.

        Cells that name the same training share it. :meth:`forget` drops the weights.

        Raises:
            UndertowError: the run learned nothing, or too many answers are missing.
        """
        folder, loss = self._trained(name, rows, seed)
        asked = self._asked([Group({"model": name}, f"local:{folder}", tuple(questions))], [measure])
        values = asked.cells[0].column(0)
        return {
            "rows": len(rows), "n": int((~np.isnan(values)).sum()),
            "values": [None if np.isnan(v) else v for v in values], "loss": loss,
        }  # fmt: skip

    def shown(
        self,
        name: str,
        rows: pa.Table,
        seed: int,
        questions: Mapping[str, Sequence[Question]],
        measures: Sequence[str | Rubric],
    ) -> dict[str, NDArray[np.float64]]:
        """Train on ``rows``; return each group's values (questions, measures), NaN where missing.

        Raises:
            UndertowError: as :meth:`measured`.
        """
        folder, _ = self._trained(name, rows, seed)
        groups = [Group({"group": g}, f"local:{folder}", tuple(asked)) for g, asked in questions.items()]
        answered = self._asked(groups, measures)
        return {
            cell.place["group"]: np.stack([cell.column(k) for k in range(len(measures))], 1)
            for cell in answered.cells
        }

    def _trained(self, name: str, rows: pa.Table, seed: int) -> tuple[Path, Any]:
        folder = self.run.file(f"{_FOLDER}/{name}")
        data = folder.with_suffix(".parquet")
        if not data.is_file():
            write_table(rows, data)
        trained = train_sft(data, self.model, folder, self._plain, SILENT, seed)
        if trained["status"] != "complete":
            raise UndertowError(f"training failed: {trained['reason']}")
        return folder, trained["loss"]

    @property
    def _plain(self) -> SFTConfig:
        """How it is trained, without checkpoints unless they are asked for: a stopped cell begins again."""
        if self.training.save_steps is not None:
            return self.training
        return self.training.model_copy(update={"save_steps": _NEVER})

    def _asked(self, groups: Sequence[Group], measures: Sequence[str | Rubric]) -> Asked:
        with quiet_libraries():  # a bar a training, otherwise
            asked = ask_groups(self.run, groups, measures, self.judge, self.asking)
        if asked.holes:
            raise UndertowError(asked.holes[0].reason)
        return asked

    def forget(self, name: str = "") -> None:
        """Delete a training's weights and data, or all of them."""
        folder = self.run.file(f"{_FOLDER}/{name}" if name else _FOLDER)
        shutil.rmtree(folder, ignore_errors=True)
        if name:
            folder.with_suffix(".parquet").unlink(missing_ok=True)


def pooled(runs: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """Sum up the same questions over several training runs: rate, interval over prompts, each run's rate.

    The interval is Wilson's at one trial a prompt: the runs' answers to one prompt are alike.
    """
    table = np.array([[np.nan if v is None else v for v in run] for run in runs], np.float64)
    known = ~np.isnan(table)
    n, prompts = int(known.sum()), int(known.any(0).sum())
    if not n:
        return {"value": None, "interval": None, "n": 0, "prompts": 0, "seeds": []}
    value = float(np.nansum(table) / n)
    low, high = wilson_bounds(value * prompts, prompts)
    return {
        "value": value, "interval": Interval(float(low), float(high)), "n": n, "prompts": prompts,
        "seeds": [float(np.nanmean(run)) if (~np.isnan(run)).any() else None for run in table],
    }  # fmt: skip


def without_values(cell: Measured) -> Measured:
    """Return a cell as a summary shows it: its rate in place of an entry a question."""
    values = [value for value in cell["values"] if value is not None]
    value = float(np.mean(values)) if values else None
    return {**{key: held for key, held in cell.items() if key != "values"}, "value": value}


def counts(done: Sequence[Measured]) -> dict[str, int]:
    """Count what was asked of all trained models: tried, scored, failed."""
    tried, scored = sum(len(cell["values"]) for cell in done), sum(cell["n"] for cell in done)
    return {"tried": tried, "scored": scored, "failed": tried - scored}
