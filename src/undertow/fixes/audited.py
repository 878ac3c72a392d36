"""From an audit of pairs to the scores that a fix goes by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from undertow.data.preferences import CONTENT
from undertow.errors import UsageError
from undertow.fixes.scores import Target
from undertow.preference.save import SCORES
from undertow.store.run import read_manifest
from undertow.store.tables import read_table

_GIVE = "give the --out of `undertow prefs` or `undertow trace`"


def is_audit(run: Path) -> bool:
    """Say whether ``run`` is the run directory of an audit of pairs; else it is a trace.

    Raises:
        UsageError: there is no such run, it is of another verb, or it has not ended.
    """
    if not run.exists():
        raise UsageError(f"{run}: no such run; {_GIVE}")
    if (run / "rows.parquet").is_file() and not (run / "config.json").is_file():
        return False
    verb = read_manifest(run)["verb"]
    if verb not in ("prefs", "trace"):
        raise UsageError(f"{run}: is a `{verb}`; {_GIVE}")
    if not (run / "manifest.json").is_file():
        raise UsageError(f"{run}: this `{verb}` has not finished; run it again with the same --out")
    return bool(verb == "prefs")


def audit_scores(run: Path, targets: Sequence[Target]) -> Path:
    """Return the scores that an audit left, for ``fix_pairs``.

    Raises:
        UsageError: it left none, or none of a concept that has no pattern; the confirmed ones are named.
    """
    path = run / SCORES
    if not path.is_file():
        raise UsageError(f"{path}: no such file; run `undertow prefs` again with --fresh")
    columns = read_table(path).column_names
    if CONTENT not in columns:
        raise UsageError(f"{path}: says not which pairs it read; run `undertow prefs` again with --fresh")
    known = [name.removesuffix("_chosen") for name in columns if name.endswith("_chosen")]
    asked = [target.name for target in targets if target.pattern is None]
    unknown = [name for name in asked if name not in known]
    if unknown or not targets:
        what = f"concept {unknown[0]!r}: not confirmed by the audit" if unknown else "name a --concept"
        more = f" and {len(known) - 8} more" if len(known) > 8 else ""
        raise UsageError(f"{run}: {what}; it confirmed {', '.join(known[:8]) or 'none'}{more}")
    return path
