"""Twenty ``kill -9`` at random moments of a search whose roles are all served by another process."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))

import fault_server

from undertow.store.tables import read_table

KILLS = 20
IN_FLIGHT, PREFLIGHTS = 3 * 12, 3
PHRASES = ("when did", "hello", "river bank", "old mill", "please", "table", "music", "paper")


def command(url: str, folder: Path, out: Path) -> list[str]:
    roles = {f"--{role}": f"openai-compatible:{url}/v1#{name}" for role, name in (
        ("target", "biased"), ("generator", "gen"), ("judge", "judge"),
    )}  # fmt: skip
    sizes = {"--runs": "2", "--iterations": "3", "--candidates": "30", "--concurrency": "12"}
    files = {
        "--rubric": str(folder / "bad.yaml"), "--attributes": str(folder / "pool.jsonl"), "--out": str(out),
    }  # fmt: skip
    options = [text for option in {**roles, **sizes, **files}.items() for text in option]
    return [sys.executable, "-m", "undertow", "surf", *options]


def found(out: Path) -> list[dict[str, Any]]:
    keys = ("attributes", "status", "rate", "base_rate")
    return [
        {key: finding[key] for key in keys} for finding in json.loads((out / "findings.json").read_text())
    ]


@pytest.mark.timeout(300)
def test_a_search_killed_twenty_times_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\nbehaviour: The response says BAD.\nwhen_wrong: Always.\n")
    (tmp_path / "pool.jsonl").write_text(
        "".join(json.dumps({"text": f"The query contains the phrase '{p}'"}) + "\n" for p in PHRASES)
    )
    with fault_server.running("--latency", "0.15") as url:
        assert subprocess.run(command(url, tmp_path, tmp_path / "calm"), check=False).returncode == 0
        calm = asyncio.run(fault_server.stats(url))
    moments = random.Random(5)
    with fault_server.running("--latency", "0.15") as url:
        kills = 0
        for _ in range(KILLS):
            process = subprocess.Popen(command(url, tmp_path, tmp_path / "killed"))
            try:
                process.wait(moments.uniform(0.8, 2.0))
                break
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
        assert kills >= KILLS // 2
        assert subprocess.run(command(url, tmp_path, tmp_path / "killed"), check=False).returncode == 0
        killed = asyncio.run(fault_server.stats(url))
    assert found(tmp_path / "killed") == found(tmp_path / "calm")
    for name in ("samples.parquet", "confirm_samples.parquet"):
        runs = [read_table(tmp_path / run / name).drop(["judge"]) for run in ("calm", "killed")]
        assert runs[0] == runs[1]
    # The same questions; at a kill at most those in flight are lost, and each start asks its preflights.
    assert killed["distinct"] == calm["distinct"]
    assert killed["calls"] <= calm["calls"] + kills * (IN_FLIGHT + PREFLIGHTS)
