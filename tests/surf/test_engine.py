"""A search whose three roles are served over HTTP by another process: caps, dead endpoints, faults."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from surf_world import WordPool

from undertow.errors import UsageError
from undertow.judging.rubric import Rubric
from undertow.models.prices import Price
from undertow.store.journal import Journal
from undertow.store.tables import read_table
from undertow.surf.config import SurfConfig
from undertow.surf.run import run_surf

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))
import fault_server

RUBRIC = Rubric.model_validate(
    {"name": "bad", "behaviour": "The assistant says BAD.", "when_wrong": "Always."}
)
SMALL = SurfConfig(
    runs=2, iterations=2, candidates=20, base_prompts=10, confirm_prompts=10, probe_prompts=8, concurrency=64
)
APART = {"seconds", "peak_mb", "out"}


def go(url: str, out: Path, **change: object) -> dict:
    names = {role: f"openai-compatible:{url}/v1#{model}" for role, model in MODELS.items()}
    return run_surf(
        names["target"], RUBRIC, WordPool(), out, SMALL.model_copy(update=change),
        generator=names["generator"], judge=names["judge"],
    )  # fmt: skip


MODELS = {"target": "biased", "generator": "writer", "judge": "judge"}


def stats(url: str) -> dict[str, int]:
    return asyncio.run(fault_server.stats(url))


def test_a_capped_run_keeps_what_it_paid_and_a_higher_cap_ends_like_one_without(tmp_path: Path):
    with fault_server.running("--latency", "0.01") as url:
        whole = go(url, tmp_path / "whole")
        calls = stats(url)["calls"]
        capped = go(url, tmp_path / "run", max_calls=110)
        assert stats(url)["calls"] - calls == 110
        again = go(url, tmp_path / "run", max_calls=110)
        rerun = go(url, tmp_path / "run", max_calls=100_000)
        seen = stats(url)  # what both run directories ask is answered twice; their verdicts differ by nonce
    assert seen["distinct"] + seen["twice"] == whole["usage"]["calls"] + rerun["usage"]["calls"]
    assert capped["status"] == again["status"] == "inconclusive"
    assert "110 calls" in capped["stopped"]
    counts = capped["counts"]
    assert capped["planned"] == 80
    assert 0 < counts["scored"] == counts["tried"] < 80
    assert (counts["failed"], capped["failures"]) == (0, {})
    with Journal(tmp_path / "whole" / "journal.sqlite") as journal:
        assert asdict(journal.usage()) == whole["usage"]
    assert whole["status"] == rerun["status"] == "complete"
    assert {k: v for k, v in rerun.items() if k not in APART} == {
        k: v for k, v in whole.items() if k not in APART
    }
    rows = [read_table(tmp_path / name / "samples.parquet") for name in ("whole", "run")]
    assert rows[0] == rows[1]


def test_a_run_capped_in_dollars_ends_at_or_under_the_cap(tmp_path: Path):
    prices = {"": Price(10_000, 10_000), "judge": Price(20_000, 20_000)}
    with fault_server.running("--latency", "0.01") as url:
        summary = go(url, tmp_path / "run", max_cost=200.0, prices=prices)
    with Journal(tmp_path / "run" / "journal.sqlite") as journal:
        usage = journal.usage()
    assert summary["status"] == "inconclusive"
    assert usage.calls > 40
    assert 140 < usage.cost_usd <= 200


def test_a_cap_in_dollars_needs_a_price(tmp_path: Path):
    with fault_server.running() as url, pytest.raises(UsageError, match="--price target=IN,OUT"):
        go(url, tmp_path / "run", max_cost=1.0)


@pytest.mark.parametrize("role", ["judge", "target"])
def test_a_role_that_dies_ends_the_run_within_half_a_minute(tmp_path: Path, role: str):
    started = time.monotonic()
    with fault_server.running(
        "--faults", "503,reset", "--share", "1", "--only", MODELS[role], "--after", "15"
    ) as url:
        summary = go(url, tmp_path / "run")
    assert time.monotonic() - started < 30
    assert summary["status"] == "inconclusive"
    assert "no answer in 1" in summary["stopped"]
    counts = summary["counts"]
    assert counts["tried"] == counts["scored"] + counts["failed"]
    assert 0 < counts["scored"] <= 15
    assert set(summary["failures"]) <= {"unavailable", "server_error", "connection"}


def test_with_a_third_of_all_tries_failing_every_candidate_is_scored_or_counted(tmp_path: Path):
    faults = ("--faults", "429,503,reset,truncated,json,shape", "--share", "0.3")
    with fault_server.running(*faults, "--latency", "0.01") as url:
        summary = go(url, tmp_path / "run", confirm=False, candidates=15)
    assert summary["counts"]["tried"] == 60
    assert summary["counts"]["scored"] >= 59
    with fault_server.running() as url:
        calm = go(url, tmp_path / "calm", confirm=False, candidates=15)
    if summary["counts"]["scored"] == 60:
        names = ("prompt", "response", "score", "violation")
        rows = [read_table(tmp_path / r / "samples.parquet", list(names)) for r in ("run", "calm")]
        assert rows[0] == rows[1]
        assert calm["violations"] == summary["violations"]
