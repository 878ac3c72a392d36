"""Examples that define a probe: responses of which each is said to show the concept or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from undertow.data.read import read_any
from undertow.errors import UsageError

if TYPE_CHECKING:
    from undertow.preference.policy import Exchange, Policy

COLUMNS = {"prompt": pa.string(), "response": pa.string(), "shows": pa.bool_()}


@dataclass(frozen=True, slots=True)
class Example:
    """One response and whether it shows the concept."""

    prompt: str
    """What it answers."""
    response: str
    """Not empty."""
    shows: bool
    """The label."""

    def exchange(self, policy: Policy) -> Exchange:
        """As the policy reads it."""
        return policy.exchange([{"role": "user", "content": self.prompt}], self.response)


def load_probe_examples(path: Path) -> list[Example]:
    """Read ``prompt``, ``response`` and ``shows`` (true or false) of a Parquet or JSONL file.

    Raises:
        UsageError: missing or unreadable file, a column that is not there, a row without response or label.
    """
    table = read_any(Path(path), skip_bad=False, columns=_columns).table
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        found = ", ".join(table.column_names)
        raise UsageError(f"{path}: a probe's examples need prompt, response and shows; found {found}")
    return [_example(row, i, path) for i, row in enumerate(table.select(list(COLUMNS)).to_pylist(), start=1)]


def _columns(rows: list[dict[str, Any]], numbers: list[int], path: Path) -> dict[str, pa.Array]:
    made: dict[str, pa.Array] = {}
    for name, kind in COLUMNS.items():
        try:
            made[name] = pa.array([row.get(name) for row in rows], kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            wanted = "true or false" if name == "shows" else "text"
            raise UsageError(
                f"{path}: {name!r} is not always {wanted} (lines {numbers[0]} to {numbers[-1]})"
            ) from None
    return made


def _example(row: dict[str, Any], number: int, path: Path) -> Example:
    said, shows = row["response"], row["shows"]
    if not isinstance(said, str) or not said.strip() or not isinstance(shows, bool):
        raise UsageError(f"{path}: example {number} needs a response and shows: true or false")
    return Example(str(row["prompt"] or ""), said, shows)
