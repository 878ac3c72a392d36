"""Steps in worker processes: each shard once, kills and failures included."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from undertow.errors import UsageError
from undertow.index.executors import ExecutorConfig, Shards, run_step
from undertow.progress import SILENT

sys.path.append(str(Path(__file__).parent))
from scale_steps import Square

KEY = "k"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def squares(run: Path, count: int) -> list[int]:
    return [int(np.load(run / f"stages/square-{n:05d}/square.npy")[0]) for n in range(count)]


def done(run: Path) -> set[str]:
    return {path.parent.name for path in run.glob("stages/square-*/done.json")}


@pytest.mark.parametrize("workers", [1, 3])
def test_every_shard_is_done_once_whoever_is_first(workers: int, tmp_path: Path) -> None:
    said = run_step(Square(), 10, KEY, tmp_path, ExecutorConfig(workers=workers), SILENT)
    assert [part["square"] for part in said] == squares(tmp_path, 10) == [n * n for n in range(10)]
    assert len((tmp_path / "calls").read_text().splitlines()) == 10
    assert run_step(Square(), 10, KEY, tmp_path, ExecutorConfig(workers=workers), SILENT) == said
    assert len((tmp_path / "calls").read_text().splitlines()) == 10


def test_a_shard_that_fails_in_a_worker_is_named_and_the_others_stay(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"of 6 shards of square are not done, the first is 4"):
        run_step(Square(refuse=4), 6, KEY, tmp_path, ExecutorConfig(workers=2), SILENT)
    assert "number 4 is refused" in capfd.readouterr().err
    assert {"square-00001", "square-00003", "square-00005"} <= done(tmp_path)


DRIVER = """
import sys
from pathlib import Path
from scale_steps import Square
from undertow.index.executors import ExecutorConfig, run_step
from undertow.progress import SILENT
if __name__ == "__main__":
    run_step(Square(wait=0.15), 12, "k", Path(sys.argv[1]), ExecutorConfig(workers=2), SILENT)
"""


def test_kill_9_of_the_driver_ends_its_workers_and_the_rest_is_done_later(tmp_path: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)])
    wait_for(lambda: len(done(tmp_path)) >= 2)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    time.sleep(1.0)
    kept = done(tmp_path)
    time.sleep(0.5)
    assert done(tmp_path) == kept
    assert len(kept) < 12
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("stages/square-*/done.json")}
    run_step(Square(wait=0.15), 12, KEY, tmp_path, ExecutorConfig(workers=2), SILENT)
    assert squares(tmp_path, 12) == [n * n for n in range(12)]
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())


def test_two_processes_at_the_same_shard_leave_one_whole(tmp_path: Path) -> None:
    shards = Shards(Square(wait=0.3), KEY, tmp_path, (3,))
    program = "import pickle,sys; pickle.load(sys.stdin.buffer).one(3)"
    twins = [subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) for _ in range(3)]
    for twin in twins:
        twin.communicate(pickle.dumps(shards), timeout=60)
    assert [twin.returncode for twin in twins] == [0, 0, 0]
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == ["square-00003"]


def wait_for(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
