"""Conversations into the last user turn, the answer to it, and the turns before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undertow.data.read import MESSAGES, conversation
from undertow.errors import UsageError
from undertow.records import Message, Role
from undertow.text import one_line

_WRITE = 'write [{"role": "user", "content": "…"}, …]'


@dataclass(frozen=True)
class Split:
    """Columns of n conversations."""

    prompts: pa.Array
    """Text of the turn before the last; null where it is not the user's, (n,)."""
    responses: pa.Array
    """Text of the last turn; null where it is not the assistant's, (n,)."""
    history: pa.Array | None
    """JSON list of the turns before; null where there are none; ``None`` where no row has any."""


def split_messages(column: pa.ChunkedArray, path: Path) -> Split:
    """Split conversations of role and content.

    Raises:
        UsageError: The column does not hold lists of role and content.
    """
    lists = _as_messages(column, path)
    offsets = np.asarray(lists.offsets, np.int64)
    sizes = np.where(np.asarray(lists.is_valid()), np.diff(offsets), 0)
    turns = lists.values
    roles, contents = turns.field("role"), turns.field("content")
    return Split(
        _turn(roles, contents, offsets, sizes, back=2, role="user"),
        _turn(roles, contents, offsets, sizes, back=1, role="assistant"),
        _history(lists, sizes),
    )


def _as_messages(column: pa.ChunkedArray, path: Path) -> pa.ListArray:
    lists = column.combine_chunks()
    if lists.type != MESSAGES:
        kind = lists.type
        element = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
        if (
            element is None
            or not pa.types.is_struct(element)
            or {"role", "content"} - {field.name for field in element}
        ):
            raise UsageError(f"{path}: messages must be lists of role and content, found {str(kind)[:80]}")
        lists = pa.array([conversation(row) for row in lists.to_pylist()], MESSAGES)
    return lists


def _turn(
    roles: pa.Array,
    contents: pa.Array,
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    back: int,
    role: str,
) -> pa.Array:
    at = pa.array(offsets[1:] - back, mask=sizes < back)
    return pc.if_else(pc.equal(roles.take(at), role), contents.take(at), pa.scalar(None, pa.string()))


def _history(lists: pa.ListArray, sizes: NDArray[np.int64]) -> pa.Array | None:
    long = np.flatnonzero(sizes > 2)
    if not len(long):
        return None
    values: list[str | None] = [None] * len(sizes)
    for row, turns in zip(long, lists.take(pa.array(long)).to_pylist(), strict=True):
        values[row] = json.dumps(
            [{"role": turn["role"] or "", "content": turn["content"] or ""} for turn in turns[:-2]],
            ensure_ascii=False,
        )
    return pa.array(values, pa.string())


def read_failing(value: str) -> tuple[tuple[Message, ...], str | None]:
    """Read one failing conversation: a JSON list of role and content, or a file that holds it.

    Args:
        value: JSON (a list, or an object with ``messages``), or the path of a ``.json`` or one-line
            ``.jsonl`` file.

    Returns:
        the turns up to the last of the user, and the answer to it where the conversation has one.

    Raises:
        UsageError: no such file, no JSON, no turns, or the last turns are not the user's and the assistant's.
    """
    inline = value.lstrip().startswith(("[", "{"))
    where = "--messages" if inline else f"--messages {value}"
    try:
        read = json.loads(value if inline else Path(value).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: not a readable text file ({type(error).__name__})") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not one JSON value ({one_line(str(error), 120)}); {_WRITE}") from None
    turns = conversation(read.get("messages") if isinstance(read, dict) else read)
    if not turns:
        raise UsageError(f"{where}: holds no list of turns; {_WRITE}")
    for number, turn in enumerate(turns, start=1):
        if not turn["role"] or turn["content"] is None:
            raise UsageError(f"{where}: turn {number} has no role or no content; {_WRITE}")
    said = [Message(cast(Role, turn["role"]), str(turn["content"])) for turn in turns]
    answer = said.pop().content if said[-1].role == "assistant" else None
    if not said or said[-1].role != "user" or not said[-1].content.strip():
        raise UsageError(f"{where}: must end with the user's turn that failed, or with the answer to it")
    return tuple(said), answer
