"""A real Slurm does every shard once, gives a cancelled task's shards again, and names what it cannot do."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from undertow.errors import UsageError
from undertow.index.executors import ExecutorConfig, run_step
from undertow.progress import SILENT

sys.path.append(str(Path(__file__).parent))
import scale_steps


def queue(*options: str) -> list[str]:
    command = ["squeue", "-h", "-o", "%i", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()


def answers() -> bool:
    try:
        return bool(shutil.which("sbatch")) and queue() is not None
    except (subprocess.SubprocessError, OSError):
        return False


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("datatrove") is None or not answers(), reason="no Slurm, or extra slurm"
    ),
]
SHARDS = 6


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ExecutorConfig:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    partition = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True, check=True)
    options = {"partition": partition.stdout.split()[0], "time": "00:10:00", "mem_per_cpu_gb": 1}
    return ExecutorConfig(executor="slurm", workers=1, options=options)


def worked(run: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in (run / "calls").read_text().splitlines())


def test_a_cancelled_task_is_given_again_and_nothing_is_done_twice(
    tmp_path: Path, config: ExecutorConfig
) -> None:
    def cancel() -> None:
        while not list(tmp_path.glob("stages/*/done.json")):
            time.sleep(0.2)
        subprocess.run(["scancel", queue("-t", "R")[0]], check=True)

    threading.Thread(target=cancel, daemon=True).start()
    said = run_step(scale_steps.Square(wait=0.5), SHARDS, "key", tmp_path, config, SILENT)
    assert [shard["square"] for shard in said] == [n * n for n in range(SHARDS)]
    finished = len(list(tmp_path.glob("stages/*/done.json")))
    assert finished == SHARDS == len(worked(tmp_path))
    assert sum(worked(tmp_path).values()) <= SHARDS + 1  # the one that was cancelled


def test_a_shard_that_fails_is_named_with_its_reason(tmp_path: Path, config: ExecutorConfig) -> None:
    with pytest.raises(UsageError, match=r"1 of 6 shards .* first is 5: .*number 5 is refused"):
        run_step(scale_steps.Square(refuse=5), SHARDS, "key", tmp_path, config, SILENT)
    assert len(list(tmp_path.glob("stages/*/done.json"))) == SHARDS - 1
