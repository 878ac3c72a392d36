"""Read the JSON of a run directory without trusting its shape.

Runs stop half-way, older versions write fewer fields, and people edit files. Whatever is absent, null, of
another type or not finite reads as ``None`` (or empty), which pages show as missing, never as zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from undertow.errors import UsageError
from undertow.records import Interval

Fields = Mapping[str, object]


def read_json(path: Path) -> object | None:
    """Read a JSON file; ``None`` where there is none.

    Raises:
        UsageError: the file is there but is not JSON.
    """
    if not path.is_file():
        return None
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        message = f"{path}: not JSON ({error}); run the verb that wrote it again"
        raise UsageError(message) from error
    return value


def fields(value: object) -> Fields:
    """Take a JSON object; anything else is empty."""
    return value if isinstance(value, dict) else {}


def records(value: object) -> tuple[Fields, ...]:
    """Take the objects of a JSON list; anything else is left out."""
    return tuple(item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def number(of: Fields, key: str) -> float | None:
    """Take a finite number."""
    return finite(of.get(key))


def finite(value: object) -> float | None:
    """Keep a finite number, drop everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if math.isfinite(as_float) else None


def whole(of: Fields, key: str) -> int | None:
    """Take a whole number of at least 0."""
    value = number(of, key)
    return int(value) if value is not None and value >= 0 and value == int(value) else None


def share(of: Fields, key: str) -> float | None:
    """Take a proportion in [0, 1]."""
    value = number(of, key)
    return value if value is not None and 0 <= value <= 1 else None


def text(of: Fields, key: str) -> str:
    """Take a string; a number is written out, anything else is empty."""
    value = of.get(key)
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def flag(of: Fields, key: str) -> bool | None:
    """Take a truth value."""
    value = of.get(key)
    return value if isinstance(value, bool) else None


def strings(of: Fields, key: str) -> tuple[str, ...]:
    """Take the strings of a list."""
    value = of.get(key)
    return (
        tuple(str(item) for item in value if isinstance(item, str | int)) if isinstance(value, list) else ()
    )


def interval(of: Fields, key: str) -> Interval | None:
    """Take an interval, written as ``[low, high]`` or as an object with ``low``, ``high`` and ``level``."""
    value = of.get(key)
    if isinstance(value, list) and len(value) == 2:
        low, high, level = finite(value[0]), finite(value[1]), 0.95
    else:
        inner = fields(value)
        low, high, level = number(inner, "low"), number(inner, "high"), number(inner, "level") or 0.95
    if low is None or high is None or low > high:
        return None
    return Interval(low, high, level)
