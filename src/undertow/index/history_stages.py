"""The stages of a build that describe what stands before the queries: learn, describe by shards, join."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.index.attribute_table import attribute_table
from undertow.index.executors import Step, shard_folder
from undertow.index.incidence import Incidence
from undertow.index.sample import sampled
from undertow.index.steps import Histories
from undertow.store.tables import write_table

StageOf = Callable[[str, str, Callable[[Path], dict[str, Any]]], dict[str, Any]]
"""Runs a stage once: name, unit, work."""
ShardsOf = Callable[[Step, int], list[dict[str, Any]]]
"""Runs a step on its shards."""


def has_history(examples: Path) -> bool:
    """Say whether some row has turns before its query."""
    import pyarrow.parquet as pq

    return "history" in pq.read_schema(examples).names


@dataclass(frozen=True)
class HistoryStages:
    """The stages of a build that describe what stands before the queries."""

    run: Path
    """Run directory; ``stages/load/examples.parquet`` has a column history."""
    stage: StageOf
    shards: ShardsOf
    seed: int
    rows: int
    """Rows of a shard."""

    def make(self, total: int) -> Path:
        """Learn, describe ``total`` rows, join; return the folder with the index's part."""
        self.stage("history-vocabulary", "examples", self._learn)
        parts = self.shards(Histories(self.rows), -(-total // self.rows))
        self.stage("history-join", "examples", lambda folder: self._join(folder, len(parts)))
        return self.run / "stages" / "history-join"

    def _learn(self, folder: Path) -> dict[str, Any]:
        from undertow.attributes.history import HistoryExtractor

        sample = sampled(self.run / "stages" / "load" / "examples.parquet", self.seed)
        HistoryExtractor.fit(sample, self.seed).save(folder / "extractor")
        return {"rows": len(sample)}

    def _join(self, folder: Path, shards: int) -> dict[str, Any]:
        from undertow.attributes.history import HistoryExtractor

        learned = self.run / "stages" / "history-vocabulary" / "extractor"
        entries = HistoryExtractor.load(learned).vocabulary
        parts = [shard_folder(self.run, Histories.name, number) for number in range(shards)]
        incidence = Incidence.merge(parts, len(entries), folder / "incidence")
        texts, kinds = [entry.text for entry in entries], [entry.kind for entry in entries]
        write_table(attribute_table(texts, kinds, incidence), folder / "attributes.parquet")
        return {"rows": incidence.n, "history_attributes": incidence.m, "history_pairs": incidence.nnz}
