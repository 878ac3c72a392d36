"""Which run belongs to which: by the content hashes that each run wrote of what it read, not by names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from undertow.report.reading import Fields, fields, read_json, records, text
from undertow.store.run import file_hash
from undertow.studies.verify import search_hash
from undertow.view.folder import Entry, Folder


def traces_of(folder: Folder, search: Entry) -> list[Entry]:
    """List the traces of a search, the nearest first."""
    key = _findings_hash(folder, search)
    found = (run for run in folder.runs.values() if run.verb == "trace" and text(run.inputs, "run") == key)
    return _nearest(found, search) if key else []


def search_of(folder: Folder, trace: Entry) -> Entry | None:
    """Find the search that a trace read."""
    key = text(trace.inputs, "run")
    found = (r for r in folder.runs.values() if r.verb == "surf" and key and _findings_hash(folder, r) == key)
    return next(iter(_nearest(found, trace)), None)


def index_of(folder: Folder, trace: Entry) -> Entry | None:
    """Find the index that a trace read."""
    key = text(trace.inputs, "index")
    found = (r for r in folder.runs.values() if r.verb == "index" and key and _index_key(folder, r) == key)
    return next(iter(_nearest(found, trace)), None)


def traces_on(folder: Folder, index: Entry) -> list[Entry]:
    """List the traces that read an index."""
    key = _index_key(folder, index)
    found = (run for run in folder.runs.values() if run.verb == "trace" and text(run.inputs, "index") == key)
    return _nearest(found, index) if key else []


def verified_of(folder: Folder, search: Entry, finding: str) -> list[tuple[Entry, Fields]]:
    """List the verifications of a search with what each says about one finding."""
    file = folder.file(search, "confirm_prompts.parquet")
    if file is None:
        return []
    asked = folder.kept("asked", search.path, [file], lambda: search_hash(search.path, search.config))
    runs = (r for r in folder.runs.values() if r.verb == "verify" and text(r.inputs, "search") == asked)
    about = ((run, _about(run.summary, finding)) for run in _nearest(runs, search))
    return [(run, entry) for run, entry in about if entry]


def fixes_of(folder: Folder, index: Entry) -> list[Entry]:
    """List the fixes of the data set that an index describes."""
    key = text(index.inputs, "data")
    found = (run for run in folder.runs.values() if run.verb == "fix" and text(run.inputs, "data") == key)
    return _nearest(found, index) if key else []


def touched_by(folder: Folder, fix: Entry) -> frozenset[str]:
    """Return the ids of the rows that a fix took out or changed."""
    file = folder.file(fix, "diff.json")
    if file is None:
        return frozenset()
    return folder.kept("touched", file, [file], lambda: _ids(read_json(file)))


def _ids(diff: object) -> frozenset[str]:
    ids = fields(diff).get("row_ids")
    return frozenset(str(each) for each in ids) if isinstance(ids, list) else frozenset()


def _about(summary: Fields, finding: str) -> Fields:
    found = records(summary.get("findings"))
    return next((entry for entry in found if finding and text(entry, "finding") == finding), {})


def _findings_hash(folder: Folder, search: Entry) -> str:
    file = folder.file(search, "findings.json")
    return str(folder.kept("hash", file, [file], lambda: file_hash(file))) if file is not None else ""


def _index_key(folder: Folder, index: Entry) -> str:
    return text(fields(folder.json(index, "index.json")), "key")


def _nearest(entries: Iterable[Entry], to: Entry) -> list[Entry]:
    """Put those first that are the fewest steps away: two copies of a run may lie in one folder."""
    return sorted(entries, key=lambda entry: (_steps(entry.path, to.path), entry.at))


def _steps(one: Path, other: Path) -> int:
    """Count the folders to leave and to enter on the way from one to the other."""
    shared = len(Path(os.path.commonpath([one, other])).parts)
    return len(one.parts) + len(other.parts) - 2 * shared
