"""Where the steps of a build run: in this process, in worker processes, on a Ray cluster or on Slurm.

A step turns one shard into files. What is finished is said by the shard's own marker, which appears with its
files, so a killed build goes on whatever it runs on, and may go on elsewhere. :class:`Shards` is a block of a
datatrove pipeline, and datatrove submits it to Slurm (extra ``slurm``). A local build does without: datatrove
brings eight packages, and starts processes that a small index would notice; Ray (extra ``ray``) is called
itself. The order in which shards finish is nowhere used.
"""

from __future__ import annotations

import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from undertow.errors import UsageError
from undertow.progress import Progress
from undertow.store.run import config_hash, make_stage, stage_record
from undertow.text import one_line

OBJECT_STORE_BYTES = 100_000_000
"""Shared memory of a Ray that is started here: shards travel as files, never through it."""
RETRIES = 3
"""Times that what a cluster left undone is given to it again."""
TASKS_PER_WORKER = 4
"""Tasks that each worker gets on average: several shards a task, so that a model is loaded seldom."""
_POLL_SECONDS = 0.2
_ENVIRONMENT = {"env_command", "venv_path", "condaenv"}
"""datatrove's options that say where a job finds Python; without one, beside the Python that submits."""


class ExecutorConfig(BaseModel):
    """Where the steps run; it changes nothing of what stands in the index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    executor: Literal["local", "ray", "slurm"] = Field("local", description="What runs the steps.")
    workers: int | None = Field(
        None, ge=1, description="Shards worked on at once; None: one locally, what the cluster has elsewhere."
    )
    ray_address: str | None = Field(
        None, description="Ray's address; None: RAY_ADDRESS, or a Ray started here."
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Ray's for a task (num_cpus, memory, …); datatrove's for Slurm (partition, time, …).",
    )


def read_options(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file of options for datatrove's executor.

    Raises:
        UsageError: unreadable, or no map.
    """
    import yaml

    try:
        options = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"--executor-config {path}: not readable YAML ({one_line(str(error), 160)})"
        ) from error
    if not isinstance(options, dict):
        raise UsageError(
            f"--executor-config {path}: write options as `name: value`, such as `partition: cpu`"
        )
    return options


class Step(Protocol):
    """The work of one stage on one shard. Frozen and picklable; its fields are all that shapes its files."""

    @property
    def name(self) -> str:
        """Stage name without the number of the shard."""
        ...

    def make(self, run: Path, number: int, folder: Path) -> dict[str, Any]:
        """Write the files of shard ``number`` into ``folder``, reading finished stages of ``run``.

        Returns:
            what the shard has to say; ``rows`` is in it.
        """
        ...


@dataclass(frozen=True)
class Shards:
    """A step and the shards to be done, as datatrove takes a block: ``(data, rank, world_size)``."""

    step: Step
    """What is done."""
    key: str
    """Key of the finished shards."""
    run: Path
    """Run directory, on storage that all workers see."""
    numbers: tuple[int, ...]
    """Shards to do."""

    def __call__(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Any:
        """Do the part of the shards that belongs to ``rank``."""
        for number in self.numbers[rank::world_size]:
            self.one(number)
        return data

    def one(self, number: int) -> dict[str, Any]:
        """Do one shard, unless it is done."""

        def make(folder: Path) -> dict[str, Any]:
            return timed(lambda: self.step.make(self.run, number, folder))

        result: dict[str, Any] = make_stage(self.folder(number), self.key, make)
        return result

    def folder(self, number: int) -> Path:
        """Return where the files of a shard are."""
        return shard_folder(self.run, self.step.name, number)

    def left(self) -> tuple[int, ...]:
        """Return the shards without a marker."""
        return tuple(n for n in self.numbers if stage_record(self.folder(n), self.key) is None)


def shard_folder(run: Path, name: str, number: int) -> Path:
    """Return the folder of one shard of a stage."""
    return run / "stages" / f"{name}-{number:05d}"


def timed(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Add ``seconds`` and ``rows_per_second`` to what some work says."""
    started = time.monotonic()
    said = make()
    seconds = time.monotonic() - started
    return {"seconds": round(seconds, 3), "rows_per_second": per_second(said["rows"], seconds), **said}


def per_second(rows: int, seconds: float) -> float | None:
    """Return a rate, ``None`` where no time passed."""
    return round(rows / seconds, 1) if seconds else None


def run_step(
    step: Step, shards: int, key: str, run: Path, config: ExecutorConfig, progress: Progress
) -> list[dict[str, Any]]:
    """Do all shards of a step that are not done yet.

    Returns:
        what each shard said, in the order of the shards.

    Raises:
        UsageError: the executor is not installed or not reachable, or a shard cannot be done there.
    """
    whole = Shards(step, config_hash([key, step.name, asdict(step)]), run, tuple(range(shards)))  # type: ignore[call-overload]
    left = whole.left()
    if left:
        with progress.task(step.name.replace("-", " "), shards) as task:
            task.advance(shards - len(left))
            _RUNNERS[config.executor](Shards(step, whole.key, run, left), config, task.advance)
    done = (stage_record(whole.folder(number), whole.key) for number in whole.numbers)
    return [record["result"] for record in done if record is not None]


Advance = Callable[[int], None]


def _local(shards: Shards, config: ExecutorConfig, advance: Advance) -> None:
    workers = min(config.workers or 1, len(shards.numbers))
    if workers > 1:
        return _processes(shards, workers, advance)
    for number in shards.numbers:
        shards.one(number)
        advance(1)
    return None


def _processes(shards: Shards, workers: int, advance: Advance) -> None:
    """Run worker processes of one thread each; they end when this process does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "undertow.index.worker", str(workers)]
    running = [
        subprocess.Popen([*command, str(rank)], stdin=subprocess.PIPE, env=environment)
        for rank in range(workers)
    ]
    try:
        for process in running:
            assert process.stdin is not None  # noqa: S101 - asked for above
            process.stdin.write(pickle.dumps(shards))
            process.stdin.flush()
        _watch(shards, lambda: any(process.poll() is None for process in running), advance)
    finally:
        for process in running:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
    _refuse_unfinished(shards, "a worker process died; its error stands above")


def _watch(shards: Shards, busy: Callable[[], bool], advance: Advance) -> None:
    """Tell the progress by the markers until all are there or nobody works."""
    left = len(shards.numbers)
    while True:
        going = busy()
        now = len(shards.left())
        advance(left - now)
        left = now
        if not left or not going:
            return
        time.sleep(_POLL_SECONDS)


def _refuse_unfinished(shards: Shards, why: str) -> None:
    left = shards.left()
    if left:
        raise UsageError(
            f"{len(left)} of {len(shards.numbers)} shards of {shards.step.name} are not done, the first is "
            f"{left[0]}: {why}; the same command goes on"
        )


def _ray(shards: Shards, config: ExecutorConfig, advance: Advance) -> None:
    """Run on a Ray cluster; Ray gives what a lost node left undone to the others.

    Not by datatrove: its Ray executor (0.10.1) waits for ever when a node dies while a task is being placed,
    and makes an actor, a placement group and a pool for every task (12 empty shards: 13 s against 4 s).
    """
    ray = _imported("ray", "ray")
    if not ray.is_initialized():
        _start_ray(config)
    workers = config.workers or TASKS_PER_WORKER * max(1, int(ray.cluster_resources().get("CPU", 1)))
    tasks = min(len(shards.numbers), workers)
    work = ray.remote(shards.__class__.__call__)
    work = work.options(max_retries=RETRIES, scheduling_strategy="SPREAD", **config.options)
    held = ray.put(shards)
    pending = {work.remote(held, None, rank, tasks) for rank in range(tasks)}
    failed: list[str] = []

    def busy() -> bool:
        done, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0) if pending else ([], [])
        pending.difference_update(done)
        failed.extend(filter(None, (_ray_error(task) for task in done)))
        return bool(pending)

    _watch(shards, busy, advance)
    _refuse_unfinished(shards, failed[0] if failed else "Ray lost the tasks")


def _ray_error(task: Any) -> str | None:
    """Return why a finished task failed."""
    import ray

    try:
        ray.get(task)
    except ray.exceptions.RayTaskError as error:
        return one_line(str(error.cause), 200)
    except ray.exceptions.RayError as error:
        return one_line(str(error), 200)
    return None


def _start_ray(config: ExecutorConfig) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    address = config.ray_address or os.environ.get("RAY_ADDRESS")
    if address:
        settings["address"] = address
    else:
        own = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
        settings |= {"num_cpus": config.workers, **own}
    try:
        ray.init(**settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UsageError(f"--ray-address {address}: no Ray cluster answers ({reason})") from error


def _slurm(shards: Shards, config: ExecutorConfig, advance: Advance) -> None:
    """Submit an array job and wait for its shards."""
    executor = _imported("datatrove.executor.slurm", "slurm").SlurmPipelineExecutor
    _imported("loguru", "slurm").logger.disable("datatrove")
    missing = {"partition", "time"} - config.options.keys()
    if missing:
        raise UsageError(f"--executor slurm: --executor-config needs {' and '.join(sorted(missing))}")
    if shutil.which("sbatch") is None:
        raise UsageError(
            "--executor slurm: no sbatch on this machine; start undertow where jobs are submitted"
        )

    def launch(todo: Shards, logs: Path) -> None:
        workers = config.workers or -1
        tasks = len(todo.numbers) if workers < 0 else min(len(todo.numbers), TASKS_PER_WORKER * workers)
        name = f"undertow-{todo.step.name}"
        settings: dict[str, Any] = {"tasks": tasks, "workers": workers, "job_name": name}
        if not _ENVIRONMENT & config.options.keys():
            settings["env_command"] = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
        job = executor([todo], logging_dir=str(logs), **{**settings, **config.options})
        job.launch_merge_stats = lambda: None  # a job more, for statistics that nobody reads
        job.run()
        while todo.left() and _queued(str(job.job_id)):
            time.sleep(min(5.0, 25 * _POLL_SECONDS))

    _rounds(shards, launch, advance)


def _queued(job: str) -> bool:
    """Ask Slurm whether a job is waiting or running."""
    asked = subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True, check=False)  # noqa: S607
    return asked.returncode == 0 and bool(asked.stdout.strip())


def _imported(module: str, extra: str) -> Any:
    """Import what an executor needs.

    Raises:
        UsageError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"--executor {extra}: {error.name} is not installed; pip install 'undertow[{extra}]'"
        ) from error


def _rounds(shards: Shards, launch: Callable[[Shards, Path], None], advance: Advance) -> None:
    """Launch what is left until nothing is, or nothing gets done; the logs lie beside the stages."""
    left = shards.numbers
    logs = shards.run / "stages"
    for _ in range(1 + RETRIES):
        todo = Shards(shards.step, shards.key, shards.run, left)
        logs = shards.run / "logs" / f"{shards.step.name}-{config_hash([shards.key, left])[:12]}"
        shutil.rmtree(logs, ignore_errors=True)
        _in_thread(lambda todo=todo, logs=logs: launch(todo, logs), todo, advance)  # type: ignore[misc]
        before, left = left, todo.left()
        if not left or len(left) == len(before):
            break
    _refuse_unfinished(shards, _last_error(logs))


def _in_thread(work: Callable[[], None], todo: Shards, advance: Advance) -> None:
    """Run ``work`` in a thread and tell the progress meanwhile; what it raises is raised here."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    _watch(todo, thread.is_alive, advance)
    thread.join()
    if raised:
        raise raised[0]


def _last_error(logs: Path) -> str:
    """Return the last line of the last task that logged an error, or of what a job printed."""
    tasks = [f for f in sorted(logs.glob("logs/*.log")) if "ERROR" in f.read_text("utf-8", "replace")]
    for file in reversed([*sorted(logs.glob("slurm_logs/*")), *tasks]):
        lines = file.read_text("utf-8", "replace").splitlines()
        said = [line for line in lines if re.sub(r"^\d+:", "", line).strip()]
        if said:
            return f"{said[-1][:200]} (in {file})"
    return f"see {logs}"


_RUNNERS: Mapping[str, Callable[[Shards, ExecutorConfig, Advance], None]] = {
    "local": _local,
    "ray": _ray,
    "slurm": _slurm,
}
