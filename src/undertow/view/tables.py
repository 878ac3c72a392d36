"""Parquet files asked by DuckDB: every text is a bound parameter, nothing outside the folder can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undertow.errors import UsageError

_MEMORY = "384MB"


class Tables:
    """One in-memory DuckDB for the viewer; each question gets a cursor of its own, so threads may ask."""

    def __init__(self, root: Path) -> None:
        """Open it for the Parquet files below ``root``."""
        import duckdb

        self._database = duckdb.connect(":memory:")
        ours = str(root).replace("'", "''")
        for setting in (
            f"memory_limit = '{_MEMORY}'",
            "threads = 2",
            f"allowed_directories = ['{ours}']",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._database.execute(f"SET {setting}")

    def ask(self, question: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Run a query and return its rows.

        Raises:
            UsageError: a file of it is damaged or lacks a column.
        """
        import duckdb

        with self._database.cursor() as cursor:
            try:
                found = cursor.execute(question, list(values))
                names = [column[0] for column in found.description or ()]
                return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
            except (duckdb.Error, UnicodeEncodeError) as error:
                raise UsageError(f"cannot be read: {str(error).splitlines()[0]}") from None
