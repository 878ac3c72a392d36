"""The runs in a folder: found by their manifests, read again when these change, never outside of it.

A run is addressed by its path inside the folder and looked up among those that were found, so no address
reaches the file system. A run that holds a link out of the folder is left out.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from undertow.errors import UsageError
from undertow.report.reading import Fields, fields, number, read_json, records, strings, text, whole
from undertow.report.runs import Run, open_run
from undertow.store.run import read_manifest

T = TypeVar("T")
_SECONDS = 2.0
_ROOM = 64_000_000
"""Bytes of the files whose content is kept in memory; the oldest goes first."""
_IDENTITY = ("manifest.json", "config.json", "summary.json")
_NOT_FOR_PEOPLE = {"stages", "checkpoints"}
_READ = {".json", ".parquet", ".html", ".npy"}
Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A run directory, as a list shows it."""

    at: str
    """Path inside the folder; ``.`` is the folder itself."""
    path: Path
    """The directory."""
    manifest: Fields
    """``manifest.json``, or ``config.json`` while it goes on."""
    summary: Fields
    """``summary.json``; empty before the end."""
    changed: float
    """When its manifest was written, seconds since 1970."""

    @property
    def verb(self) -> str:
        """The verb that made it."""
        return text(self.manifest, "verb")

    @property
    def status(self) -> str:
        """``running``, ``complete``, ``inconclusive`` or ``failed``."""
        return text(self.manifest, "status") or "running"

    @property
    def config(self) -> Fields:
        """What it was told."""
        return fields(self.manifest.get("config"))

    @property
    def inputs(self) -> Fields:
        """Input name → content hash."""
        return fields(self.manifest.get("inputs"))

    @property
    def models(self) -> tuple[str, ...]:
        """Model strings it asked or trained; empty where it asked none."""
        named = [text(self.config, key) for key in ("target", "before", "after", "model")]
        several = (*strings(self.config, "targets"), *strings(self.config, "models"))
        return tuple(dict.fromkeys(name for name in (*named, *several) if name))

    @property
    def rubrics(self) -> tuple[str, ...]:
        """Names of the behaviours it is about."""
        told = self.config.get("rubrics")
        listed = [_rubric(each) for each in told] if isinstance(told, list) else []
        own = [_rubric(self.config.get("rubric")), text(self.summary, "rubric")]
        return tuple(dict.fromkeys(name for name in (*own, *listed) if name))

    @property
    def statuses(self) -> tuple[str, ...]:
        """Status of each finding in its summary; of an audit those that it confirmed."""
        if self.verb == "prefs":
            counted = fields(self.summary.get("confirmed"))
            return ("confirmed",) * sum(whole(counted, name) or 0 for name in ("concepts", "hypotheses"))
        found = records(self.summary.get("findings"))
        return tuple(text(each, "status") or text(each, "verdict") for each in found)

    @property
    def cost(self) -> float | None:
        """US dollars; ``None`` where not known."""
        return number(fields(self.summary.get("usage")), "cost_usd")


def _rubric(value: object) -> str:
    return value if isinstance(value, str) else text(fields(value), "name")


class Folder:
    """All runs below ``root``, for several threads; each request looks whether something changed."""

    def __init__(self, root: Path) -> None:
        """Take the folder; nothing is read yet.

        Raises:
            UsageError: it is no folder.
        """
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder; give one that holds runs of undertow")
        self.root = root.resolve()
        self._lock = threading.RLock()
        self._scanned = -_SECONDS
        self._runs: dict[str, Entry] = {}
        self._left_out: dict[str, str] = {}
        self._read: dict[Path, tuple[Stamp, Entry]] = {}
        self._kept: dict[tuple[str, Path], tuple[Stamp, Any]] = {}

    @property
    def runs(self) -> dict[str, Entry]:
        """Every run by its address, newest first."""
        with self._lock:
            if time.monotonic() - self._scanned >= _SECONDS:
                self._scan()
                self._scanned = time.monotonic()
            return self._runs

    @property
    def left_out(self) -> dict[str, str]:
        """Address → why a run directory is not shown."""
        return self._left_out

    def run(self, entry: Entry) -> Run:
        """Open a run as a report does; one is read again when its files change.

        Raises:
            UsageError: no report is made of such a run, or a file in it is broken.
        """
        parts = [entry.path, *(entry.path / name for name in ("runs", "trace", "verify"))]
        files = [file for part in parts for file in (*part.glob("*.json"), *part.glob("*/*.json"))]
        return self.kept("run", entry.path, files, lambda: open_run(entry.path))

    def kept(self, what: str, path: Path, files: list[Path], make: Callable[[], T]) -> T:
        """Return what ``make`` makes of ``files``, made again when one of them changes."""
        stamp = _stamp(files)
        with self._lock:
            known = self._kept.pop((what, path), None)
            if known is None or known[0] != stamp:
                known = (stamp, make())
            self._kept[what, path] = known
            self._make_room()
            value: T = known[1]
            return value

    def _make_room(self) -> None:
        total = sum(size for stamp, _ in self._kept.values() for *_, size in stamp)
        while total > _ROOM and len(self._kept) > 1:
            stamp, _ = self._kept.pop(next(iter(self._kept)))
            total -= sum(size for *_, size in stamp)

    def json(self, entry: Entry, name: str) -> object:
        """Read a JSON file of a run; ``None`` where there is none."""
        file = self.file(entry, name)
        return None if file is None else self.kept("json", file, [file], lambda: read_json(file))

    def file(self, entry: Entry, name: str) -> Path | None:
        """Return the path of a run's file, where there is one and it lies in the folder."""
        path = (entry.path / name).resolve()
        return path if path.is_relative_to(self.root) and path.exists() else None

    def _scan(self) -> None:
        found: list[Entry] = []
        outward: list[Path] = []
        self._left_out = {}
        for folder, names, links in _walk(self.root):
            outward += [link for link in links if not link.resolve().is_relative_to(self.root)]
            if {"manifest.json", "config.json"} & names:
                found += self._entry(folder)
        for entry in found:
            out = next((link for link in outward if link.is_relative_to(entry.path)), None)
            if out is not None:
                self._left_out[entry.at] = f"{out.relative_to(entry.path)} leads out of the folder"
        kept = [entry for entry in found if entry.at not in self._left_out]
        self._runs = {entry.at: entry for entry in sorted(kept, key=lambda e: (-e.changed, e.at))}

    def _entry(self, folder: Path) -> list[Entry]:
        """Read a run directory; a folder of something else is none."""
        stamp = _stamp([folder / name for name in _IDENTITY])
        known = self._read.get(folder)
        if known is not None and known[0] == stamp:
            return [known[1]]
        at = folder.relative_to(self.root).as_posix()
        try:
            manifest, summary = read_manifest(folder), fields(read_json(folder / "summary.json"))
        except UsageError as error:
            if "not a run directory" not in str(error):
                self._left_out[at] = str(error)
            return []
        entry = Entry(at, folder, manifest, summary, max(changed for _, changed, _ in stamp) / 1e9)
        self._read[folder] = (stamp, entry)
        return [entry]


def _walk(root: Path) -> Iterator[tuple[Path, set[str], list[Path]]]:
    """Yield each folder with its file names and its links; links are not followed."""
    for at, folders, files in os.walk(root):
        here = Path(at)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in _NOT_FOR_PEOPLE)
        names = [name for name in files if Path(name).suffix in _READ]
        yield here, set(files), [p for p in (here / n for n in (*folders, *names)) if p.is_symlink()]


def _stamp(files: list[Path]) -> Stamp:
    """Tell the state of files: name, time and size of those that are there."""
    made = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        made.append((str(file), status.st_mtime_ns, status.st_size))
    return tuple(made)
