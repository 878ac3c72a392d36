"""Many small torch jobs on all cores: one job a core, one thread a job.

torch's own way, all threads on one small operation, waits at every operation; with 1 M parameters and another
process on the machine that made sampling on two cores 40 times slower than on one.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

_SHORT_SPIN, _LONG_SPIN = 1_000, 20_000
_LOOKS, _BETWEEN_S = 4, 0.01
"""A moment's guest is no load: idle in one of these looks is idle."""
T = TypeVar("T")
R = TypeVar("R")


def core_count() -> int:
    """Count the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spin_count() -> int:
    """How often an OpenMP thread of libgomp looks for work before it sleeps (``GOMP_SPINCOUNT``).

    A training step of 1 M parameters is hundreds of operations. On idle cores it takes 1.7 times as long
    where threads sleep at once as where they wait some hundred microseconds for each other. Of two such
    processes on two cores each takes twice as long where threads wait so, or for milliseconds, as libgomp
    would. So: long where the cores are idle now.
    """
    for _ in range(_LOOKS):
        if _others_running() < core_count() / 2:
            return _LONG_SPIN
        time.sleep(_BETWEEN_S)
    return _SHORT_SPIN


def _others_running() -> float:
    """Count what else runs on this machine at this moment, as far as Linux says it."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]) - 1
    except (OSError, ValueError, IndexError):
        return math.inf


class _ThreadSetting:
    """torch's thread count is one number a process: the first user lowers it, the last one restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = 1

    @contextmanager
    def one(self) -> Iterator[None]:
        """Give operations one thread each while inside."""
        import torch

        with self._lock:
            if self._users == 0:
                self._before = torch.get_num_threads()
                torch.set_num_threads(1)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    torch.set_num_threads(self._before)


_setting = _ThreadSetting()


def map_on_cores(job: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Run ``job`` on every part, one a core at a time; results in order, the first error is raised.

    ``OMP_NUM_THREADS`` bounds the cores, as it does for torch.
    """
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    cores = min(core_count(), int(allowed)) if allowed.isdigit() and int(allowed) else core_count()
    with _setting.one(), ThreadPoolExecutor(cores, initializer=_single) as pool:
        return list(pool.map(job, parts))


def _single() -> None:
    """Fix this thread's own count, which a thread copies only once."""
    import torch

    torch.set_num_threads(1)
