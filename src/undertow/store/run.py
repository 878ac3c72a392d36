"""A run directory: everything one verb made, reproducible and resumable from the folder alone.

``config.json`` is written first and says what the run is; ``manifest.json`` is written last, so its presence
means that everything else is whole. Between the two the same command goes on where it was stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from undertow.errors import UsageError
from undertow.store.tables import Json, atomic_write_json, read_json, to_jsonable
from undertow.version import __version__

SCHEMA_VERSION = 1
Status = Literal["complete", "inconclusive", "failed"]

_NO_CALLS: dict[str, Json] = {"calls": 0, "input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}
_LIBRARIES = (
    "numpy", "scipy", "pyarrow", "duckdb", "faiss-cpu", "numba", "torch", "transformers", "trl", "datasets",
    "sentence-transformers", "pydantic-ai-slim", "openai",
)  # fmt: skip
_RESULTS = {".json", ".jsonl", ".npy", ".npz", ".parquet", ".safetensors"}
_WORKING = {"stages", "checkpoints", "config.json", "manifest.json"}
_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LOCK_ATTEMPTS, _SECONDS_BETWEEN_ATTEMPTS = 30, 0.2
_held: dict[Path, int] = {}
"""Run directories this process works in, with the descriptor of their lock."""


def config_hash(value: object) -> str:
    """Hash anything with a JSON form; equal values give equal hashes in every process (32 hex digits)."""
    canonical = json.dumps(to_jsonable(value), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def file_hash(path: Path) -> str:
    """Hash a file's content, or a folder's relative names and contents (32 hex digits).

    Raises:
        UsageError: there is nothing at ``path``.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return config_hash([(file.relative_to(path).as_posix(), file_hash(file)) for file in files])
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: a pipe or device, not a file; write it to a file first")
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None


def read_manifest(path: Path) -> dict[str, Any]:
    """Read what the run directory ``path`` is: its manifest, or its ``config.json`` with status ``running``.

    Raises:
        UsageError: ``path`` is no run directory.
    """
    for name in ("manifest.json", "config.json"):
        if (path / name).is_file():
            manifest = read_json(path / name)
            if isinstance(manifest, dict) and _is_ours(manifest):
                return manifest
    raise UsageError(f"{path}: not a run directory of undertow (no manifest.json); give the --out of a run")


def _is_ours(manifest: Json) -> bool:
    return isinstance(manifest, dict) and manifest.get("tool") == "undertow"


def _sizes(path: Path) -> dict[str, Json]:
    """Size in bytes of every result file.

    Pages are written again, what a run works with goes at its end, runs within look after themselves.
    """
    sizes: dict[str, Json] = {}
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and entry.name not in _WORKING and not (entry / "manifest.json").is_file():
            sizes |= {f"{entry.name}/{name}": size for name, size in _sizes(entry).items()}
        elif entry.is_file() and entry.suffix in _RESULTS and entry.name not in _WORKING:
            sizes[entry.name] = entry.stat().st_size
    return sizes


def check_whole(path: Path) -> None:
    """Check that the files of a finished run are there in the size in which they were written.

    Raises:
        UsageError: one is not.
    """
    files = read_manifest(path).get("files")
    for name, size in files.items() if isinstance(files, dict) else ():
        file = path / name
        if not file.is_file() or file.stat().st_size != size:
            there = f"{file.stat().st_size:,} bytes" if file.is_file() else "missing"
            raise UsageError(f"{file}: damaged ({there}, written with {size:,}); run its verb with --fresh")


def _versions() -> dict[str, Json]:
    found: dict[str, Json] = {"python": platform.python_version(), "undertow": __version__}
    for library in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    return found


def _seeds(config: Mapping[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in config.items() if key == "seed" or key.endswith("_seed")}


def _peak_mb() -> float:
    """Largest resident set of this process and, apart, of its biggest child, MB; the larger of the two."""
    unit = 1 if sys.platform == "darwin" else 1024
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(max(usage.ru_maxrss for usage in usages) * unit / 1e6, 1)


def _first_difference(there: Json, here: Json, where: str) -> str | None:
    """Name the first place where two JSON values differ, or ``None``."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            found = _first_difference(there.get(key), here.get(key), f"{where}.{key}" if where else key)
            if found:
                return found
        return None
    if there == here:
        return None
    if where.startswith("input."):
        return f"its {where.removeprefix('input.')} had another content"
    return f"{where} is {_short(there)} there and {_short(here)} here"


def _short(value: Json) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _lock(path: Path) -> None:
    """Hold ``path`` for this process until it ends or :meth:`RunDir.close`; a kill releases it."""
    if path in _held:
        return
    try:
        handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError:
        raise UsageError(f"{path}: no permission to write there; choose another --out") from None
    holder = _other_holder(handle)
    if holder is not None:
        os.close(handle)
        raise UsageError(
            f"{path}: another undertow process ({holder}) is working in it; wait for its end or choose "
            "another --out"
        )
    os.ftruncate(handle, 0)
    os.pwrite(handle, b"%d\n" % os.getpid(), 0)
    _held[path] = handle


def _other_holder(handle: int) -> str | None:
    """Lock the file, or tell at once which living process holds it.

    Workers of a killed process may hold its lock a moment longer: that is waited for.
    """
    holder = ""
    for _ in range(_LOCK_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        if holder.isdigit() and _is_alive(int(holder)):
            return f"pid {holder}"
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
    return f"pid {holder}, of another machine or gone but for its workers"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _unlock(path: Path) -> None:
    handle = _held.pop(path, None)
    if handle is not None:
        os.close(handle)


def _clear(path: Path) -> None:
    """Empty a run directory of ours but for its lock: the manifest first, ``config.json`` last."""
    (path / "manifest.json").unlink(missing_ok=True)
    names = [entry for entry in path.iterdir() if entry.name not in {".lock", "config.json"}]
    for entry in names:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    (path / "config.json").unlink()


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path}: is a file or lies below one; choose another --out") from None
    except PermissionError:
        raise UsageError(f"{path}: no permission to write there; choose another --out") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be made ({error.strerror}); choose another --out") from None


def _is_foreign(path: Path) -> bool:
    """Say whether a folder that is no run directory holds anything (a lone lock: a run killed at birth)."""
    for name in ("config.json", "manifest.json"):
        with contextlib.suppress(UsageError):
            if (path / name).is_file() and _is_ours(read_json(path / name)):
                return False
    return any(entry.name != ".lock" and not entry.name.endswith(".tmp") for entry in path.iterdir())


def stage_record(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the record of a stage made for ``key``, its ``result`` within; ``None`` where it is not."""
    done = folder / "done.json"
    stored = read_json(done) if done.is_file() else None
    return stored if isinstance(stored, dict) and stored.get("key") == key else None


def make_stage(folder: Path, key: str, make: Callable[[Path], object]) -> Any:
    """Run ``make`` into ``folder`` once for ``key``; return what it returned, as JSON.

    The files appear all together, with the marker that says so. Processes that make the same stage at once do
    each other no harm: the first to be through stands.
    """
    there = stage_record(folder, key)
    if there is not None:
        return there["result"]
    temporary = folder.with_name(f".{folder.name}.{platform.node()}-{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    record = {"key": key, "result": to_jsonable(make(temporary))}
    atomic_write_json(temporary / "done.json", record)
    return _place(temporary, folder, record)["result"]


def _place(temporary: Path, folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Put a finished stage in its place, over one of another key; return the record that stands there."""
    replaced = temporary.with_suffix(".old")
    if folder.exists() and stage_record(folder, record["key"]) is None:
        folder.rename(replaced)
    try:
        temporary.rename(folder)
    except OSError:  # another process was first
        twin = stage_record(folder, record["key"])
        if twin is None:
            raise
        record = twin
    for left in (temporary, replaced):
        shutil.rmtree(left, ignore_errors=True)
    return record


@dataclass(frozen=True, slots=True)
class RunDir:
    """A run directory that this process works in; get one from :meth:`open`."""

    path: Path
    """The folder."""
    identity: dict[str, Json]
    """Content of ``config.json``: schema, tool, verb, status, config, inputs."""
    resumed: bool
    """It was there before."""
    opened: float
    """Monotonic clock at opening, seconds."""
    made: bool = False
    """This process made the folder."""

    @classmethod
    def open(
        cls,
        out: Path,
        verb: str,
        config: Mapping[str, object],
        inputs: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> RunDir:
        """Create the run directory ``out``, or go on in it when it is the same run.

        ``config`` is everything that shapes the result, ``inputs`` maps input names to content hashes.
        ``fresh`` empties a run directory of ours first, never another folder.

        Raises:
            UsageError: ``out`` holds another verb, config or inputs (the first difference is named), is a
                folder of something else, or another process works in it.
        """
        path = Path(out).absolute()
        made = not path.exists()
        _make_folder(path)
        if _is_foreign(path):
            raise UsageError(f"{out}: not empty and no run directory of undertow; choose another --out")
        _lock(path)
        identity: dict[str, Json] = {
            "schema_version": SCHEMA_VERSION, "tool": "undertow", "verb": verb, "status": "running",
            "config": to_jsonable(config), "inputs": to_jsonable(inputs or {}),
        }  # fmt: skip
        if fresh and (path / "config.json").exists():
            _clear(path)
        resumed = (path / "config.json").exists()
        try:
            if resumed:
                _check_same_run(out, read_manifest(path), identity)
                check_whole(path)
            else:
                atomic_write_json(path / "config.json", identity)
        except UsageError:
            _unlock(path)
            raise
        run = cls(path, identity, resumed, time.monotonic(), made)
        run._tidy()
        return run

    def _tidy(self) -> None:
        """Drop what a kill left half-written, and the manifest of a run that goes on."""
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink()
        for pattern in (".*.tmp", ".*.old"):
            for folder in self.path.glob(f"stages/{pattern}"):
                shutil.rmtree(folder, ignore_errors=True)
        if not self.complete:
            (self.path / "manifest.json").unlink(missing_ok=True)

    def file(self, name: str) -> Path:
        """Return the path of ``name`` inside the run directory.

        Raises:
            UsageError: the name leads out of it.
        """
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise UsageError(f"{name}: leads out of the run directory {self.path}")
        return path

    @property
    def complete(self) -> bool:
        """Whether the run ended ``complete``; an inconclusive or failed one goes on when rerun."""
        manifest = self.path / "manifest.json"
        return manifest.is_file() and read_manifest(self.path)["status"] == "complete"

    def summary(self) -> dict[str, Any]:
        """Return ``summary.json`` of a finished run.

        Raises:
            UsageError: the run is not finished.
        """
        summary = read_json(self.path / "summary.json")
        if not isinstance(summary, dict):
            raise UsageError(f"{self.path / 'summary.json'}: holds no object")
        return summary

    def finish(self, status: Status, summary: Mapping[str, object]) -> dict[str, Any]:
        """Write ``summary.json``, then the manifest, and give the directory free; return the summary.

        Adds ``status``, ``seconds`` (this process, since opening), ``peak_mb``, ``out``, and zero ``counts``,
        ``failures`` and ``usage`` where the verb made no calls.
        """
        whole: dict[str, Any] = {
            "status": status,
            "counts": {"tried": 0, "scored": 0, "failed": 0},
            "failures": {},
            "usage": dict(_NO_CALLS),
            **summary,
            "seconds": round(time.monotonic() - self.opened, 3),
            "peak_mb": _peak_mb(),
            "out": str(self.path),
        }
        whole["status"] = status
        atomic_write_json(self.path / "summary.json", whole)
        atomic_write_json(self.path / "manifest.json", self._manifest(status, whole))
        self.close()
        return self.summary()

    def _manifest(self, status: Status, summary: Mapping[str, Any]) -> dict[str, object]:
        config = self.identity["config"]
        return {
            **self.identity,
            "status": status,
            "resumed": self.resumed,
            "seeds": _seeds(config if isinstance(config, dict) else {}),
            "versions": _versions(),
            **{key: summary[key] for key in ("counts", "failures", "usage", "seconds", "peak_mb")},
            "files": _sizes(self.path),
        }

    def stage(self, name: str, key: str, make: Callable[[Path], object]) -> Any:
        """Run ``make(folder)`` once for ``key`` and return what it returned, as JSON.

        ``make`` writes its files into the folder it is given; they appear in :meth:`stage_path` all together
        when it has returned. A rerun with the same key returns the stored JSON without calling it; another
        key replaces the stage.

        Raises:
            ValueError: ``name`` is no plain file name.
        """
        return make_stage(self.stage_path(name), key, make)

    def stage_path(self, name: str) -> Path:
        """Return the folder of a stage's files."""
        if not _STAGE_NAME.fullmatch(name):
            raise ValueError(f"{name!r}: a stage name is letters, digits, '_', '.', '-'")
        return self.path / "stages" / name

    def close(self) -> None:
        """Give the directory free to other processes, as the end of the process does; safe to call twice."""
        _unlock(self.path)


def _check_same_run(out: Path, there: Mapping[str, Json], here: Mapping[str, Json]) -> None:
    for part, name in (
        ("schema_version", "schema version"),
        ("verb", "verb"),
        ("config", ""),
        ("inputs", "input"),
    ):
        difference = _first_difference(there.get(part), here.get(part), name)
        if difference:
            raise UsageError(f"{out}: holds another run ({difference}); rerun with --fresh or another --out")
