"""No verb empties a folder that it was told to read: one check at the boundary, before any verb runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from undertow.errors import UsageError


def guard(command: Any) -> None:
    """Have a click command, or every one below a group, check its folders first."""
    for each in getattr(command, "commands", {}).values():
        guard(each)
    if command.callback is not None:
        command.callback = _guarded(command.callback)


def _guarded(callback: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(callback)
    def run(**given: Any) -> Any:
        refuse_inputs_in_out(given)
        return callback(**given)

    return run


def refuse_inputs_in_out(given: Mapping[str, object]) -> None:
    """Refuse ``--fresh`` where ``--out`` is an input, or one of the two lies in the other.

    Args:
        given: Parameters of a verb; what exists as a path is an input, also in ``NAME=PATH`` and
            ``KIND:PATH``.

    Raises:
        UsageError: an input would be emptied, or its folder written into.
    """
    if not given.get("fresh") or given.get("out") is None:
        return
    out = Path(str(given["out"]))
    for name, value in given.items():
        for path in _paths(value) if name != "out" else ():
            ours, theirs = out.resolve(), path.resolve()
            if ours == theirs or ours in theirs.parents or theirs in ours.parents:
                place = "is" if ours == theirs else "holds" if ours in theirs.parents else "lies in"
                raise UsageError(f"--out {out} {place} the input {path}; with --fresh choose another --out")


def _paths(value: object) -> Iterator[Path]:
    """Every path that a value may name and that exists."""
    if isinstance(value, Path | str) and value:
        text = str(value)
        named = text.partition("=")[2]
        for each in {text, named, text.partition(":")[2], named.partition(":")[2]} - {""}:
            if _exists(Path(each)):
                yield Path(each)
    elif isinstance(value, Iterable) and not isinstance(value, bytes | str | Path):
        for each in value:
            yield from _paths(each)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null byte: a text, no path
        return False
