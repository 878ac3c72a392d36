"""Attributes by batch APIs, against a real server that speaks OpenAI's and Anthropic's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from undertow.cli import main
from undertow.errors import UsageError
from undertow.index import batch, describe
from undertow.index.build import build_index, estimate_index
from undertow.index.config import IndexConfig
from undertow.index.open import Index
from undertow.models import batch_wire
from undertow.models.prices import Price
from undertow.store.journal import Journal

sys.path.append(str(Path(__file__).parents[1] / "servers"))
sys.path.append(str(Path(__file__).parent))
import fault_server
from test_describe import ROWS, HashEmbedder, checksums_stand_on_their_own_rows, content, write

SERVER = str(Path(fault_server.__file__).with_name("batch_server.py"))
FAULTY = ("--malformed", "0.05", "--expired", "0.05")
POISONED = {"id": "bad", "prompt": "POISON", "response": "fine"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undertow.models.embed.open_embedder", lambda spec: HashEmbedder())
    monkeypatch.setattr(describe, "SHARD_EXAMPLES", 50)
    monkeypatch.setattr(batch, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(batch_wire, "CALLS", 90)


def model(provider: str, url: str, monkeypatch: pytest.MonkeyPatch | None = None) -> str:
    """Return the model string of a provider whose API is at ``url``."""
    if monkeypatch:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    return "anthropic:claude-sonnet-4-5" if provider == "anthropic" else f"openai-compatible:{url}/v1#scribe"


def config(extractor: str, **rest: Any) -> IndexConfig:
    return IndexConfig(extractor=extractor, clusters=12, batch=True, price=Price(2.0, 10.0), **rest)


def counted(url: str) -> dict[str, int]:
    return asyncio.run(fault_server.stats(url))


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_shuffled_malformed_and_expired_answers_reach_their_own_rows(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write([*ROWS, POISONED], tmp_path / "data.jsonl")
    with fault_server.running(*FAULTY, script=SERVER) as url:
        summary = build_index(data, tmp_path / "index", config(model(provider, url, monkeypatch)))
        stats = counted(url)
    assert summary["counts"] == {"tried": 161, "scored": 160, "failed": 1}
    assert summary["failures"] == {"bad_response": 1}
    checksums_stand_on_their_own_rows(Index.open(tmp_path / "index"), failed=1)
    assert stats["most"] == 2  # an expired call is asked once more, no other call twice
    assert stats["malformed"] > 3
    assert stats["batches"] > 4
    half = (500 * 2.0 + 100 * 10.0) / 1e6 / 2
    assert summary["usage"]["cost_usd"] == pytest.approx(half * summary["usage"]["calls"])
    with Journal(tmp_path / "index/journal.sqlite") as journal:
        assert journal.open_batches() == []


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
sys.path[:0] = [sys.argv[4], sys.argv[4] + "/../servers"]
import test_batch as test
import undertow.models.embed
from undertow.index import batch, describe
from undertow.index.build import build_index
from undertow.models import batch_wire
from undertow.store.journal import Journal
undertow.models.embed.open_embedder = lambda spec: test.HashEmbedder()
describe.SHARD_EXAMPLES, batch.POLL_SECONDS, batch_wire.CALLS = 50, 0.05, 90
def dies(*rest, **more):
    os.kill(os.getpid(), signal.SIGKILL)
where = sys.argv[3]
if where == "unnamed":
    Journal.name_batch = dies
elif where == "waiting":
    batch.asyncio.sleep, sleep = None, batch.asyncio.sleep
    async def dying(seconds):
        if seconds == batch.POLL_SECONDS:
            dies()
        await sleep(seconds)
    batch.asyncio.sleep = dying
elif where == "half read":
    batch._ROWS, Journal.end_batch = 10, dies
build_index(Path("data.jsonl"), Path("index"), test.config(test.model(sys.argv[2], sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_kill_9_between_hand_over_and_results_pays_for_no_batch_twice(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(ROWS, tmp_path / "data.jsonl")
    with fault_server.running("--malformed", "0.05", "--delay", "0.5", script=SERVER) as url:
        extractor = model(provider, url, monkeypatch)
        for where in ("unnamed", "waiting", "half read"):
            command = [sys.executable, "-c", KILLED, url, provider, where, str(Path(__file__).parent)]
            died = subprocess.run(command, cwd=tmp_path, env=os.environ, check=False, timeout=120)
            assert died.returncode == -signal.SIGKILL, where
        build_index(data, tmp_path / "index", config(extractor))
        stats = counted(url)
        assert stats["most"] == 1
    checksums_stand_on_their_own_rows(Index.open(tmp_path / "index"))
    with fault_server.running("--malformed", "0.05", script=SERVER) as url:
        build_index(data, tmp_path / "whole", config(model(provider, url, monkeypatch)))
    assert content(tmp_path / "index") == content(tmp_path / "whole")


def test_a_batch_whose_answer_was_lost_is_found_by_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(ROWS, tmp_path / "data.jsonl")
    with fault_server.running("--hide", "1", script=SERVER) as url:
        with pytest.raises(UsageError, match="the same command goes on"):
            build_index(data, tmp_path / "index", config(model("openai", url)))
        assert build_index(data, tmp_path / "index", config(model("openai", url)))["status"] == "complete"
        assert counted(url)["calls"] == counted(url)["distinct"] == 280
    checksums_stand_on_their_own_rows(Index.open(tmp_path / "index"))


def test_a_batch_halves_the_estimate_and_keeps_to_the_caps(tmp_path: Path) -> None:
    data = write(ROWS, tmp_path / "data.jsonl")
    whole = estimate_index(data, IndexConfig(extractor="openai:gpt-4o-mini"))["cost_usd"]
    half = estimate_index(data, IndexConfig(extractor="openai:gpt-4o-mini", batch=True))["cost_usd"]
    assert half == pytest.approx([cost / 2 for cost in whole])
    with fault_server.running(script=SERVER) as url:
        stopped = build_index(data, tmp_path / "index", config(model("openai", url), max_calls=100))
        assert (stopped["status"], counted(url)["calls"]) == ("inconclusive", 90)
        assert "--max-calls" in stopped["stopped"]
        stopped = build_index(data, tmp_path / "index", config(model("openai", url), max_cost=0.01))
        assert "--max-cost" in stopped["stopped"]
        summary = build_index(data, tmp_path / "index", config(model("openai", url), max_cost=5.0))
        assert (summary["status"], counted(url)["most"]) == ("complete", 1)


@pytest.mark.parametrize("extractor", ["local", "google:gemini-2.5-flash", "openai:gpt-4o-mini"])
def test_what_cannot_be_asked_by_batch_is_said_in_one_line(
    extractor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    data = write(ROWS[:3], tmp_path / "data.jsonl")
    argv = ["index", str(data), "--out", str(tmp_path / "index"), "--extractor", extractor, "--batch"]
    assert main(argv) == 2
    assert "--batch" in capsys.readouterr().err


class _Full(batch_wire.AnthropicBatches):
    """Lists two batches of one size, the other one first."""

    async def json(self, method: str, path: str, once: bool = False, **content: Any) -> Any:
        made = {"late": "2026-01-01T00:00:09Z", "mine": "2026-01-01T00:00:08Z", "old": "2026-01-01T00:00:00Z"}
        counts = {"processing": 90, "succeeded": 0}
        return {"data": [{"id": i, "created_at": at, "request_counts": counts} for i, at in made.items()]}


def test_of_full_batches_without_a_mark_none_that_may_be_ours_is_left_unread() -> None:
    since = datetime(2026, 1, 1, 0, 0, 8, tzinfo=UTC).timestamp()
    wire = _Full("http://127.0.0.1", "m", {})
    assert asyncio.run(wire.find("tag", 90, since)) == ["late", "mine"]
    assert asyncio.run(wire.find("tag", 89, since)) == []
