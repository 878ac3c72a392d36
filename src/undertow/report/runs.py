"""What a run directory holds, read once, with whatever is missing left empty."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from undertow.errors import UsageError
from undertow.report.reading import Fields, fields, read_json, records, text

Kind = Literal[
    "demo", "matrix", "surf", "trace", "shift", "grid", "context", "robustness", "ablation", "salience",
    "prefs", "verify",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Verbs that a report is made of."""
_REPORTED = "demo, study, surf, prefs, trace or verify"


@dataclass(frozen=True, slots=True)
class Run:
    """One run directory."""

    path: Path
    """The folder."""
    kind: Kind
    """Which verb made it."""
    manifest: Fields
    """``manifest.json``, or ``config.json`` while the run goes on."""
    summary: Fields
    """``summary.json``; empty before the end of the run."""
    findings: dict[str, tuple[Fields, ...]]
    """Rubric → findings, of every search that has ended; a search without findings has an empty tuple."""
    attributions: dict[str, tuple[Fields, ...]]
    """Rubric → attributions, of every trace that has ended."""
    verified: dict[str, tuple[Fields, ...]]
    """Rubric → before/after of its findings, of every verification that has ended."""

    @property
    def status(self) -> str:
        """Status of the run."""
        return text(self.summary, "status") or text(self.manifest, "status") or "running"

    @property
    def config(self) -> Fields:
        """What the run was told."""
        return fields(self.manifest.get("config"))


def open_run(path: Path) -> Run:
    """Read a run directory.

    Raises:
        UsageError: it is no directory, or none of a demo, a matrix, a search or a trace.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such run directory; give the --out of a {_REPORTED}")
    manifest = fields(read_json(path / "manifest.json")) or fields(read_json(path / "config.json"))
    summary = fields(read_json(path / "summary.json"))
    kind = _kind(path, manifest, summary)
    config = fields(manifest.get("config"))
    own = text(summary, "rubric") or text(config, "rubric") or text(fields(config.get("rubric")), "name")
    return Run(
        path=path,
        kind=kind,
        manifest=manifest,
        summary=summary,
        findings=_each(path / "runs", "findings.json") | _one(path, "findings.json", own),
        attributions=_each(path / "trace", "attribution.json") | _one(path, "attribution.json", own),
        verified=_each(path / "verify", "summary.json"),
    )


def _kind(path: Path, manifest: Fields, summary: Fields) -> Kind:
    verb = text(manifest, "verb")
    signs: tuple[tuple[Kind, bool], ...] = (
        ("demo", "shortcuts" in summary),
        ("matrix", "cells" in summary),
        ("trace", (path / "attribution.json").is_file()),
        ("surf", (path / "findings.json").is_file()),
        ("shift", False),
        ("grid", False),
        ("context", False),
        ("robustness", False),
        ("ablation", False),
        ("prefs", "hypotheses" in summary),
        ("salience", False),
        ("verify", False),
    )
    for kind, is_there in signs:
        if verb == kind or (not verb and is_there):
            return kind
    what = f"the run of `undertow {verb}`" if verb else "no run directory"
    message = f"{path}: {what}, and a report needs one of {_REPORTED}; give the --out of one"
    raise UsageError(message)


def _each(folder: Path, name: str) -> dict[str, tuple[Fields, ...]]:
    files = sorted(folder.glob(f"*/{name}")) if folder.is_dir() else []
    return {file.parent.name: _items(file) for file in files}


def _one(folder: Path, name: str, rubric: str) -> dict[str, tuple[Fields, ...]]:
    file = folder / name
    return {rubric: _items(file)} if file.is_file() else {}


def _items(file: Path) -> tuple[Fields, ...]:
    value = read_json(file)
    if isinstance(value, dict):
        return records(value.get("findings"))
    return records(value)
