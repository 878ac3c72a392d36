"""Rows of a data set named by what is in them: ``prompt~^When did & response!~invented & source=quiz``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undertow.data.load import ExampleTable
from undertow.errors import UsageError

FORM = (
    "write FIELD~REGEX, FIELD!~REGEX, source=NAME or ids=FILE, joined by ' & '; FIELD is prompt or response"
)


def select_rows(examples: ExampleTable, selector: str) -> NDArray[np.int64]:
    """Return the rows that ``selector`` names, ascending.

    Regular expressions are RE2's; every part must hold.

    Raises:
        UsageError: not a selector, or it names no row.
    """
    table = examples.table
    keep = np.ones(len(table), bool)
    for part in selector.split(" & "):
        keep &= np.asarray(_holds(table, part.strip()), bool)
    if not keep.any():
        raise UsageError(f"{selector!r}: names no row of {examples.path}")
    return np.flatnonzero(keep)


def _holds(table: pa.Table, part: str) -> pa.ChunkedArray:
    for mark, negated in (("!~", True), ("~", False)):
        field, found, pattern = part.partition(mark)
        if found and field in ("prompt", "response"):
            try:
                matched = pc.match_substring_regex(table[field], pattern)
            except pa.ArrowInvalid as error:
                raise UsageError(f"{part!r}: {str(error).splitlines()[0]}") from None
            return pc.invert(matched) if negated else matched
    field, found, value = part.partition("=")
    if found and field == "source":
        return pc.equal(table["source"], value)
    if found and field == "ids":
        return pc.is_in(table["id"], value_set=pa.array(_ids(Path(value)), pa.string()))
    raise UsageError(f"{part!r}: not a selector of rows; {FORM}")


def _ids(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a readable file of ids ({type(error).__name__})") from None
