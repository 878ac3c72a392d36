"""A model that dies in the middle of a study leaves holes; when it is back, the same call fills them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from undertow.report.build import write_report
from undertow.studies.asking import AskingConfig
from undertow.studies.shift import run_shift

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "servers"))

import fault_server  # noqa: E402

SERVER = TESTS / "servers" / "fault_server.py"


class Endpoint:
    """A served model that can be killed and started again on its port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(SERVER), "--port", str(self.port), "--latency", "0.02"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = json.loads(self.process.stdout.readline())["port"]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def model(self) -> str:
        return f"openai-compatible:{self.url}/v1#echo"


@pytest.fixture
def endpoint():
    served = Endpoint()
    yield served
    served.kill()


def calls(endpoint: Endpoint) -> int:
    return asyncio.run(fault_server.stats(endpoint.url)).get("calls", 0)


def kill_after(endpoint: Endpoint, answered: int) -> threading.Thread:
    def watch() -> None:
        while calls(endpoint) < answered:
            time.sleep(0.02)
        endpoint.kill()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_an_endpoint_that_dies_and_comes_back(tmp_path: Path, endpoint: Endpoint):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": f"How many boats, harbour {n}?"}) for n in range(30)))

    def study() -> dict:
        transforms, measures = ["prefix:kite"], ["regex:kite"]
        config = AskingConfig(concurrency=2)
        return run_shift([endpoint.model], prompts, transforms, measures, tmp_path / "s", config)

    watcher = kill_after(endpoint, 40)
    broken = study()
    watcher.join()
    assert (broken["status"], broken["shifts"]) == ("inconclusive", [])
    [hole] = broken["missing"]
    assert hole["version"] == "prefix:kite"
    assert "1 cell is missing" in broken["sentence"]
    assert "Missing: " in write_report(tmp_path / "s").read_text()
    endpoint.start()
    whole = study()
    assert (whole["status"], whole["missing"]) == ("complete", [])
    assert [(shift["delta"], shift["n"]) for shift in whole["shifts"]] == [(1.0, 30)]
    assert calls(endpoint) < 30
