"""A local model behind ``transformers serve`` in another process answers as a hosted one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from undertow.models.base import Settings
from undertow.models.local import LocalModel
from undertow.models.open import open_model, preflight
from undertow.records import Message, Reply

pytest.importorskip("fastapi", reason="transformers serve needs fastapi (extra dev)")


@pytest.fixture
def server(tiny_model: Path) -> Iterator[str]:
    """``transformers serve`` on a free loopback port; that process is ended by its id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).parent / "transformers"), "serve", str(tiny_model),
        "--host", "127.0.0.1", "--port", str(port), "--device", "cpu",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(400):
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.fail(f"transformers serve ended: {process.stderr.read().decode()[-800:]}")
        try:
            with urlopen(url, timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.25)
    pytest.fail("transformers serve did not start within 100 s")


@pytest.mark.slow
async def test_a_served_model_answers_as_the_local_one(server: str, tiny_model: Path) -> None:
    greedy = Settings(temperature=0, max_tokens=8)
    question = [Message("user", "who made the lamp ?")]
    async with open_model(f"openai-compatible:{server}#{tiny_model}") as model:
        await preflight(model, seconds=60)
        served = await model.reply(question, greedy)
        sampled = [await model.reply(question, Settings(max_tokens=8), i) for i in range(2)]
    local = LocalModel(tiny_model, device="cpu").reply_many([question], greedy)[0]
    assert isinstance(served, Reply)
    assert isinstance(local, Reply)
    assert served.text.strip() == local.text.strip()
    assert (served.finish_reason, served.output_tokens) == (local.finish_reason, local.output_tokens)
    assert all(isinstance(reply, Reply) for reply in sampled)
