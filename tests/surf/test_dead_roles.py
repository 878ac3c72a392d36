"""A role that is gone for good ends ``undertow surf`` soon, by one line."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from undertow.cli import main
from undertow.models import health, open, silence

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))
import fault_server

WORDS = ("when did", "hello", "river bank", "old mill", "please", "table", "music", "paper")
QUICK = {
    "SECONDS_UNANSWERED": 0.6, "PATIENCE": 0.25, "SECONDS_LIMITED": 2.0, "SECONDS_NEVER": 0.75,
    "LONGEST_ASKED": 3.0, "SHORTEST_TIMEOUT": 0.3, "UNSURE_TIMEOUT": 1.0, "SECONDS_SILENT": 0.1,
}  # fmt: skip
"""The clocks of health, a twentieth or less."""
HOW = (
    *("503/1", "reset/1", "slow/1", "429/1", "429/1/0.25", "429/1/3600", "429/0/0.25"),
    *("503/16", "reset/16", "slow/16", "429/16", "429/16/0.25", "429/16/3600"),
)
"""Fault, good answers before, of which the preflight takes one, and Retry-After."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with fault_server.running("--stall", "60") as address:
        yield address


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in QUICK.items():
        monkeypatch.setattr(health, name, seconds)
    monkeypatch.setattr(silence, "_SECONDS_BETWEEN", 0.05)


def search(folder: Path, url: str, **roles: str) -> list[str]:
    """The command; ``roles`` are other models of the server, or whole model strings."""
    (folder / "bad.yaml").write_text("name: bad\nbehaviour: The response says BAD.\nwhen_wrong: Always.\n")
    pool = [json.dumps({"text": f"The query contains the phrase '{word}'"}) for word in WORDS]
    (folder / "pool.jsonl").write_text("\n".join(pool))
    models = {"target": "biased", "generator": "writer", "judge": "judge", **roles}
    files = {"rubric": "bad.yaml", "attributes": "pool.jsonl", "out": "run"}
    options = {
        **{role: m if ":" in m else f"openai-compatible:{url}/v1#{m}" for role, m in models.items()},
        **{option: str(folder / name) for option, name in files.items()},
        "runs": "2", "iterations": "2", "candidates": "20",
    }  # fmt: skip
    return ["surf", *(word for option, value in options.items() for word in (f"--{option}", value))]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("role", "dead"),
    [
        *(("judge", f"dead/{how}") for how in HOW),
        ("target", "dead/503/15"),
        ("generator", "dead/slow/2"),
    ],
)
def test_a_role_that_is_gone_for_good_leaves_an_inconclusive_run_and_one_line(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str], role: str, dead: str
) -> None:
    began = time.monotonic()
    code = main(search(tmp_path, url, **{role: dead}))
    took = time.monotonic() - began
    told = capsys.readouterr().err.splitlines()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    counts, good = summary["counts"], int(dead.split("/")[2])
    assert (code, summary["status"]) == (3, "inconclusive")
    assert took < 30
    (line,) = [line for line in told if line.startswith("stopped early: ")]
    assert f"#{dead}: no answer in" in line
    assert [line for line in told if "no answer for" in line and "given up after" in line] or "slow" in dead
    assert counts["scored"] + counts["failed"] == counts["tried"]
    assert counts["scored"] < max(good, 1)
    assert set(summary["failures"]) <= {"unavailable", "timeout"}


@pytest.fixture
def full() -> Iterator[str]:
    """A host whose backlog is full: what connects hears nothing at all."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as stack:
        address = server.getsockname()
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"


def test_a_model_that_cannot_work_ends_the_command_before_anything_is_asked(
    tmp_path: Path, url: str, full: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(open, "PREFLIGHT_SECONDS", 1.0)
    wrong = {
        "no such model": f"{url}/v1#missing",
        "Cannot connect": "http://127.0.0.1:9/v1#judge",
        "timeout: no answer": f"{full}/v1#judge",
        "no answer in 1 s": f"{url}/v1#dead/slow/0",
        "isconnect": f"{url}/v1#dead/reset/0",
        "write openai-compatible": "judge",
    }
    before = asyncio.run(fault_server.stats(url))["calls"]
    for said, judge in wrong.items():
        began = time.monotonic()
        assert main(search(tmp_path, url, judge=f"openai-compatible:{judge}")) == 2
        told = capsys.readouterr()
        assert said in told.err
        assert (told.out, told.err.count("\n")) == ("", 1)
        assert time.monotonic() - began < 20
    monkeypatch.setenv("UNDERTOW_API_KEY", "bad-key-canary")
    assert main(search(tmp_path, url)) == 2
    told = capsys.readouterr().err
    assert "401" in told
    assert "bad-key-canary" not in told
    assert asyncio.run(fault_server.stats(url))["calls"] - before <= 4 * len(wrong) + 8
    assert not (tmp_path / "run" / "journal.sqlite").exists()
