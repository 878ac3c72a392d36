"""A search that is stopped by a signal, and one that is started twice; in processes of their own."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))

import fault_server

NOISE = ("Traceback", "Warning", "Unclosed", "never retrieved")
WORDS = ("when did", "hello", "river bank", "old mill", "please", "table", "music", "paper")


def command(url: str, folder: Path) -> list[str]:
    """A search of some seconds, whose every warning is shown."""
    (folder / "bad.yaml").write_text("name: bad\nbehaviour: The response says BAD.\nwhen_wrong: Always.\n")
    pool = [json.dumps({"text": f"The query contains the phrase '{word}'"}) for word in WORDS]
    (folder / "pool.jsonl").write_text("\n".join(pool))
    roles = (("target", "biased"), ("generator", "gen"), ("judge", "judge"))
    models = [text for role, name in roles for text in (f"--{role}", f"openai-compatible:{url}/v1#{name}")]
    files = [
        "--rubric",
        f"{folder}/bad.yaml",
        "--attributes",
        f"{folder}/pool.jsonl",
        "--out",
        f"{folder}/run",
    ]
    sizes = ["--runs", "2", "--iterations", "4", "--candidates", "30", "--concurrency", "8", "--no-confirm"]
    return [sys.executable, "-W", "default", "-m", "undertow", "surf", *models, *files, *sizes]


def started(command: Sequence[str], url: str, calls: int) -> subprocess.Popen[str]:
    """Start a process and wait until the server has had ``calls`` more calls."""
    before = asyncio.run(fault_server.stats(url)).get("calls", 0)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while asyncio.run(fault_server.stats(url)).get("calls", 0) < before + calls:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Children hear Ctrl-C even where a shell started the tests in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("ctrl_c")
def test_a_stopped_search_says_one_line_keeps_its_journal_and_goes_on(tmp_path: Path):
    with fault_server.running("--latency", "0.15") as url:
        asked = command(url, tmp_path)
        for number in (signal.SIGTERM, signal.SIGINT):
            process = started(asked, url, 60)
            if number is signal.SIGTERM:
                process.send_signal(signal.SIGSTOP)  # so that it does not end before the second has begun
                second = subprocess.run(asked, capture_output=True, text=True, check=False)
                process.send_signal(signal.SIGCONT)
                assert second.returncode == 2
                assert second.stderr.count("\n") == 1
                assert f"another undertow process (pid {process.pid}) is working in it" in second.stderr
            process.send_signal(number)
            said, told = process.communicate(timeout=30)
            assert process.returncode == 128 + number
            assert told.endswith("stopped; the same command goes on\n")
            assert not [
                word for word in ("Traceback", "Warning", "Unclosed", "never retrieved") if word in told
            ]
            assert said == ""
            with closing(sqlite3.connect(tmp_path / "run" / "journal.sqlite")) as journal:
                assert journal.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert journal.execute("SELECT count(*) FROM calls").fetchone()[0] >= 20
            assert not (tmp_path / "run" / "manifest.json").exists()
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert (done.returncode, "Warning" in done.stderr) == (0, False)
        calls = asyncio.run(fault_server.stats(url))["calls"]
    usage = json.loads((tmp_path / "run" / "summary.json").read_text())["usage"]
    assert usage["calls"] == 3 * 240
    assert calls <= usage["calls"] + 3 * 3 + 2 * 3 * 16  # preflights; in flight or not yet kept at two stops
