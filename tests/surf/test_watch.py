"""What a search tells on its way agrees with what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from surf_world import RUBRIC, ScriptedModel, WordPool

from undertow.progress import SearchStatus
from undertow.store.tables import read_table
from undertow.surf import watch
from undertow.surf.config import SurfConfig
from undertow.surf.run import run_surf


class Heard:
    """Keeps every status."""

    def __init__(self) -> None:
        self.told: list[SearchStatus] = []
        self.done = 0

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Heard]:
        yield self

    def advance(self, n: int = 1, note: str = "") -> None:
        self.done += n

    def tell(self, status: SearchStatus) -> None:
        self.told.append(status)

    def say(self, line: str) -> None:
        pass


def test_the_last_status_is_the_sum_of_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watch, "_SECONDS_BETWEEN", 0)
    heard = Heard()
    config = SurfConfig(runs=2, iterations=3, candidates=30, confirm=False)
    model = ScriptedModel(lambda p: 0.9 if "kite" in p else 0.0, failing=0.05)
    summary = run_surf(model, RUBRIC, WordPool(), tmp_path / "run", config, progress=heard)
    rows = read_table(tmp_path / "run" / "samples.parquet").to_pylist()
    assert heard.done == len(heard.told) == 180
    assert all(
        a.calls <= b.calls and a.failed <= b.failed for a, b in zip(heard.told, heard.told[1:], strict=False)
    )
    last = heard.told[-1]
    assert (last.open, last.in_flight) == (0, 0)
    assert last.failed == summary["counts"]["failed"] > 0
    assert last.calls == len(model.calls)  # prompts of both runs are asked once
    for run in last.runs:
        mine = [row for row in rows if row["run"] == run.run and row["violation"]]
        assert (run.iteration, run.iterations, run.top) == (2, 3, 100)
        assert run.violating == len({row["messages"] for row in mine})
        assert run.patterns == len({frozenset(row["realised"]) for row in mine})
