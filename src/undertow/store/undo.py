"""Undo the start of a run that a wrong input ended, so that the mended command may start there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from undertow.errors import UsageError
from undertow.store.journal import Journal
from undertow.store.run import RunDir


@contextmanager
def working_in(run: RunDir, undone_by: type[BaseException] = UsageError) -> Iterator[None]:
    """Close the run directory after the block, and undo its start if ``undone_by`` ended the block."""
    try:
        yield
    except undone_by:
        _undo_start(run)
        raise
    finally:
        run.close()


def _undo_start(run: RunDir) -> None:
    """Empty the run directory if this process began it and it holds nothing that was paid for or done."""
    if run.resumed or _holds_work(run):
        return
    shutil.rmtree(run.path / "stages", ignore_errors=True)
    for file in (*run.path.glob("journal.sqlite*"), run.file("config.json")):
        file.unlink(missing_ok=True)
    if run.made and {entry.name for entry in run.path.iterdir()} <= {".lock"}:
        run.file(".lock").unlink(missing_ok=True)
        run.path.rmdir()


def _holds_work(run: RunDir) -> bool:
    journal = run.file("journal.sqlite")
    if not journal.exists():
        results = {entry.name for entry in run.path.iterdir()} - {".lock", "config.json", "stages"}
        return bool(results) or any(run.path.glob("stages/*/done.json"))
    with Journal(journal) as paid:
        return bool(paid.counts() or paid.open_batches())
