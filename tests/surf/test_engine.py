"""A search whose three roles are served over HTTP by another process: caps, dead endpoints, faults."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
from surf_world import WordPool

from undertow.errors import UsageError
from undertow.judging.rubric import Rubric
from undertow.models.prices import Price
from undertow.models.providers import Limits
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


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undertow.surf.roles.Limits", partial(Limits, backoff=0.02))


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
        assert 108 <= stats(url)["calls"] - calls <= 110
        again = go(url, tmp_path / "run", max_calls=110)
        rerun = go(url, tmp_path / "run", max_calls=100_000)
        seen = stats(url)  # what both run directories ask is answered twice; their verdicts differ by nonce
    assert seen["distinct"] + seen["twice"] == whole["usage"]["calls"] + rerun["usage"]["calls"]
    assert capped["status"] == again["status"] == "inconclusive"
    assert "of 110 calls made" in capped["stopped"]
    counts = capped["counts"]
    assert capped["planned"] == 80
    assert counts["scored"] == counts["tried"] == (110 - 3) // 3
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


@pytest.mark.parametrize("faults", [(), ("--faults", "429,503,reset", "--share", "0.2")])
@pytest.mark.parametrize("cap", [{"max_calls": 33}, {"max_cost": 100.0}])
@pytest.mark.parametrize("algorithm", ["surf", "archive"])
def test_a_small_cap_buys_whole_candidates_at_64_in_flight(
    tmp_path: Path, algorithm: str, cap: dict, faults: tuple[str, ...]
):
    prices = {"": Price(10_000, 10_000)} if "max_cost" in cap else {}
    with fault_server.running("--latency", "0.02", *faults) as url:
        summary = go(
            url, tmp_path / "run", algorithm=algorithm, runs=2, iterations=1, candidates=64, max_tokens=16,
            prices=prices, **cap,
        )  # fmt: skip
        seen = stats(url)
    counts, usage = summary["counts"], summary["usage"]
    assert summary["status"] == "inconclusive"
    assert seen["calls"] <= cap.get("max_calls", 1_000)
    assert usage["cost_usd"] <= cap.get("max_cost", 0.0)
    answered = sum(seen.get(model, 0) for model in MODELS.values()) - 3
    assert counts["scored"] == 10 if not faults and not prices else counts["scored"] >= answered // 6 > 1
    rows = read_table(tmp_path / "run" / "samples.parquet", ["score"]).to_pylist()
    assert sum(row["score"] is not None for row in rows) == counts["scored"]


def test_a_cap_that_pays_for_a_finding_leaves_it_its_share(tmp_path: Path):
    with fault_server.running("--latency", "0.005") as url:
        summary = go(url, tmp_path / "run", iterations=30, max_calls=400)
        seen = stats(url)
    assert seen["calls"] <= 400
    assert "of 400 calls made" in summary["stopped"]
    assert 40 < summary["counts"]["scored"] < 95
    assert summary["base_rate"]["n"] == 10
    assert [f["status"] for f in summary["findings"]].count("confirmed") == 1


def test_a_cap_in_dollars_needs_a_price(tmp_path: Path):
    with fault_server.running() as url, pytest.raises(UsageError, match="--price target=IN,OUT"):
        go(url, tmp_path / "run", max_cost=1.0)


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
