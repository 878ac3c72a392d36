"""Undo the start of a run that a wrong input ended, so that the mended command may start there."""

from __future__ import annotations

import shutil

from undertow.store.journal import Journal
from undertow.store.run import RunDir


def undo_start(run: RunDir) -> None:
    """Empty the run directory if this process began it and no answer stands in its ``journal.sqlite``."""
    journal = run.file("journal.sqlite")
    if run.resumed or not journal.exists():
        return
    with Journal(journal) as paid:
        keep = bool(paid.counts())
    if not keep:
        shutil.rmtree(run.path / "stages", ignore_errors=True)
        for file in (*run.path.glob(f"{journal.name}*"), run.file("config.json")):
            file.unlink(missing_ok=True)
