"""Read preference data of the usual shapes into columns: prompts, chosen and rejected responses, groups.

What cannot be used is left out, named and counted with the first place it was met; nothing stops at one bad
row. The same pair twice counts once; the same prompt in many pairs stays and is one ``prompt_group``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undertow.data import pairs
from undertow.data.pairs import FAULT, PairColumns
from undertow.data.read import RawTable, read_any
from undertow.data.signal import rows_of
from undertow.errors import UsageError
from undertow.store.run import file_hash

WRITERS = ("chosen_model", "rejected_model")
"""Columns that say who wrote each side, where no others are named."""
EMPTY, EQUAL, REPEATED = "a response is empty", "both responses are equal", "the same pair again"
SWAPPED = "the same two responses stand the other way round in another pair"
CONTENT = "content"
"""Column of :func:`content_hashes` beside what was measured on pairs."""
_BATCH = 20_000
_SCALARS = ("id", "margin", *(name for couple in pairs.SCORES for name in couple))


@dataclass(frozen=True)
class PreferenceData:
    """n usable pairs, in the order of the file."""

    table: pa.Table
    """Text columns id, prompt (last user turn), chosen, rejected; history (JSON list of earlier turns),
    chosen_writer, rejected_writer, null where there is none; margin, float64, null where not given."""
    prompt_group: NDArray[np.int32]
    """Pairs with the same prompt and history have the same number, from 0 without gaps, (n,)."""
    strata: pa.Table
    """The columns asked for, as text, null where missing; no column where none was asked for."""
    path: Path
    """Where it was read from."""
    hash: str
    """Hash of the content of the file or folder."""
    rows: int
    """Rows read, usable or not."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason → rows left out."""
    noted: dict[str, int] = field(default_factory=dict)
    """Oddity → rows that have it and were kept."""
    first: dict[str, str] = field(default_factory=dict)
    """Reason or oddity → the first place it was met, ``line 3`` or ``row 2 (the first is 0)``."""
    at: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Number of each pair's row among the rows of the file, (n,); empty where no file was read."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def groups(self) -> int:
        """Distinct prompts."""
        return int(self.prompt_group.max()) + 1 if len(self) else 0

    @property
    def has_writers(self) -> bool:
        """Whether any row says who wrote both sides."""
        return all(self.table[name].null_count < len(self) for name in ("chosen_writer", "rejected_writer"))

    def take(self, rows: NDArray[np.integer]) -> PreferenceData:
        """The pairs of these row numbers; groups are numbered anew."""
        at = pa.array(rows)
        groups = np.unique(self.prompt_group[rows], return_inverse=True)[1].astype(np.int32)
        return PreferenceData(
            self.table.take(at), groups, self.strata.take(at), self.path, self.hash, self.rows,
            at=self.at[rows] if len(self.at) else self.at,
        )  # fmt: skip


def load_preferences(
    path: Path,
    *,
    identity: tuple[str, str] | None = None,
    strata: Sequence[str] = (),
    skip_bad: bool = False,
) -> PreferenceData:
    """Read pairs of a preferred and a rejected response.

    Args:
        path: ``.parquet``, ``.jsonl`` or ``.jsonl.gz``, a folder of a Hugging Face data set or the run
            directory of a fix. Columns chosen and rejected (text, messages, or dialogues of Human and
            Assistant) and prompt, unless both sides begin with it; or a prompt and ``completions`` with
            ratings.
        identity: Columns that say who wrote chosen and rejected; default :data:`WRITERS` where they exist.
        strata: Columns to keep as strata.
        skip_bad: Leave lines that are no JSON out and count them, instead of stopping.

    Raises:
        UsageError: Missing, empty or unreadable file, wrong columns, no usable pair, a repeated id.
    """
    path = rows_of(Path(path))
    read = PairColumns(identity or WRITERS, tuple(strata))
    raw = read_any(path, skip_bad=skip_bad, columns=read)
    wanted = (*(identity or ()), *strata)
    table = raw.table if FAULT in raw.table.column_names else _columns(raw, read, wanted)
    _refuse_absent(table, path, identity, strata)
    table = _with_ids(table)
    return _usable(table, raw, path)


def content_hashes(table: pa.Table) -> pa.Array:
    """Hash of each pair's prompt, chosen and rejected, 16 hex digits, (n,): the same texts, the same hash."""
    columns = (table[name].to_pylist() for name in ("prompt", "chosen", "rejected"))
    rows = (json.dumps(texts).encode() for texts in zip(*columns, strict=True))
    return pa.array([hashlib.blake2b(row, digest_size=8).hexdigest() for row in rows], pa.string())


def _columns(raw: RawTable, read: PairColumns, wanted: Sequence[str]) -> pa.Table:
    """Columns of an Arrow table: strings as they are, other shapes row by row in batches."""
    names = raw.table.column_names
    _refuse_columns(names, raw.path)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UsageError(f"{raw.path}: no column {missing[0]!r}; it has {', '.join(names)}")
    if not len(raw.table):
        raise UsageError(f"{raw.path}: no rows in the file")
    if _plain(raw.table):
        return _as_they_are(raw.table, read)
    needed = {*pairs.PROMPTS, *pairs.CHOSEN, *pairs.REJECTED, pairs.COMPLETIONS, *_SCALARS}
    kept = raw.table.select([name for name in names if name in needed | {*read.writers, *read.extra}])
    batches = kept.to_batches(max_chunksize=_BATCH)
    return pa.concat_tables([pa.table(read(batch.to_pylist(), [], raw.path)) for batch in batches])


def _refuse_columns(names: Sequence[str], path: Path) -> None:
    sides = any(name in names for name in pairs.CHOSEN) and any(name in names for name in pairs.REJECTED)
    if not sides and pairs.COMPLETIONS not in names:
        found = ", ".join(names) or "none"
        raise UsageError(f"{path}: needs columns chosen and rejected, or completions; found {found}")


def _plain(table: pa.Table) -> bool:
    """Whether prompt, chosen and rejected are strings of which none is a dialogue."""
    names = ("prompt", "chosen", "rejected")
    if not set(names) <= set(table.column_names) or not all(_is_text(table[name].type) for name in names):
        return False
    if table["prompt"].null_count:
        return False
    turn = r"\A *(\n\n)?(Human|Assistant):"
    return not any(pc.any(pc.match_substring_regex(table[name], turn)).as_py() for name in names)


def _is_text(kind: pa.DataType) -> bool:
    return any(fits(kind) for fits in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _history(table: pa.Table) -> pa.ChunkedArray | pa.Array:
    """The earlier turns of our own Parquet."""
    if "history" not in table.column_names or not _is_text(table["history"].type):
        return pa.nulls(len(table), pa.string())
    return table["history"].cast(pa.string())


def _as_they_are(table: pa.Table, read: PairColumns) -> pa.Table:
    n = len(table)
    columns = {name: table[name].cast(pa.string()) for name in ("prompt", "chosen", "rejected")}
    columns["history"] = _history(table)
    columns[FAULT] = pa.nulls(n, pa.string())
    scalars = [name for name in (*_SCALARS, *read.writers, *read.extra) if name in table.column_names]
    wanted = [f"stratum:{name}" for name in read.extra]
    rest = [
        read(batch.to_pylist(), [], Path())
        for batch in table.select(list(dict.fromkeys(scalars))).to_batches(max_chunksize=_BATCH)
    ] if scalars else []  # fmt: skip
    for name in ("id", "margin", "chosen_writer", "rejected_writer", *wanted):
        kind = pa.float64() if name == "margin" else pa.string()
        columns[name] = pa.chunked_array([part[name] for part in rest], kind) if rest else pa.nulls(n, kind)
    return pa.table(columns)


def _refuse_absent(
    table: pa.Table, path: Path, identity: tuple[str, str] | None, strata: Sequence[str]
) -> None:
    """JSON has no schema: a column that no row has is an absent one."""
    asked = dict(zip(("chosen_writer", "rejected_writer"), identity or (), strict=False))
    asked |= {f"stratum:{name}": name for name in strata}
    for column, name in asked.items():
        if table[column].null_count == len(table):
            raise UsageError(f"{path}: no row has a value in column {name!r}")


def _with_ids(table: pa.Table) -> pa.Table:
    """Rows without an id are called by their number."""
    numbers = pa.array(np.arange(len(table))).cast(pa.string())
    return table.set_column(table.column_names.index("id"), "id", pc.coalesce(table["id"], numbers))


def _usable(table: pa.Table, raw: RawTable, path: Path) -> PreferenceData:
    """Leave out what holds no pair, and count it."""
    good = np.ones(len(table), np.bool_)
    counts: dict[str, int] = dict(raw.skipped)
    first: dict[str, str] = {}

    def drop(reason: str, bad: NDArray[np.bool_]) -> None:
        bad = bad & good
        if bad.any():
            counts[reason] = counts.get(reason, 0) + int(bad.sum())
            first.setdefault(reason, _where(raw, int(bad.argmax())))
            good[bad] = False

    for reason in pc.unique(table[FAULT]).drop_null().to_pylist():
        drop(reason, np.asarray(pc.fill_null(pc.equal(table[FAULT], reason), False), np.bool_))
    drop(pairs.NO_PROMPT, _blank(table["prompt"]))
    drop(EMPTY, _blank(table["chosen"]) | _blank(table["rejected"]))
    keys = _keys(table)
    drop(EQUAL, keys[:, 1] == keys[:, 2])
    drop(REPEATED, _again(keys, good))
    noted: dict[str, int] = {}
    swapped = _swapped(keys, good)
    if swapped.any():
        noted[SWAPPED] = int(swapped.sum())
        first[SWAPPED] = _where(raw, int(swapped.argmax()))
    if not good.any():
        reasons = "; ".join(f"{reason}: {n}" for reason, n in counts.items())
        raise UsageError(f"{path}: no usable pair ({reasons or 'no rows'})")
    kept = table if good.all() else table.filter(pa.array(good))
    _refuse_repeated(kept["id"], path)
    prefix = "stratum:"
    strata = [name for name in kept.column_names if name.startswith(prefix)]
    names = ["id", "prompt", "history", "chosen", "rejected", "margin", "chosen_writer", "rejected_writer"]
    return PreferenceData(
        kept.select(names).combine_chunks(),
        _renumbered(keys[good, 0]),
        kept.select(strata).rename_columns([name.removeprefix(prefix) for name in strata]),
        path, file_hash(path), len(table), counts, noted, first, np.flatnonzero(good),
    )  # fmt: skip


def _where(raw: RawTable, row: int) -> str:
    return f"row {row} (the first is 0)" if raw.lines is None else f"line {raw.lines[row]}"


def _blank(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    empty = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(column)), 0)
    return np.asarray(pc.fill_null(empty, True), np.bool_)


def _keys(table: pa.Table) -> NDArray[np.int64]:
    """Numbers of prompt with history, of chosen and of rejected; equal texts have equal numbers, (n, 3)."""
    prompt = pc.binary_join_element_wise(
        pc.fill_null(table["prompt"], ""), pc.fill_null(table["history"], ""), "\x1f"
    )
    sides = pa.chunked_array([*table["chosen"].chunks, *table["rejected"].chunks], pa.string())
    sides_codes = _codes(pc.utf8_trim_whitespace(sides))
    return np.stack([_codes(prompt), sides_codes[: len(table)], sides_codes[len(table) :]], axis=1)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Number of each text among the distinct ones; −1 for null."""
    encoded = column.dictionary_encode().unify_dictionaries()
    parts = [np.asarray(pc.fill_null(chunk.indices, -1), np.int64) for chunk in encoded.chunks]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _again(keys: NDArray[np.int64], good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Usable rows whose like came before."""
    at = np.flatnonzero(good)
    again = np.zeros(len(good), np.bool_)
    again[at] = True
    again[at[np.unique(keys[at], axis=0, return_index=True)[1]]] = False
    return again


def _swapped(keys: NDArray[np.int64], good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Usable rows of which another usable one is the mirror."""
    at = np.flatnonzero(good)
    both = np.concatenate([keys[at], keys[at][:, [0, 2, 1]]])
    ids = np.unique(both, axis=0, return_inverse=True)[1].reshape(2, -1)
    swapped = np.zeros(len(good), np.bool_)
    swapped[at] = np.isin(ids[0], ids[1])
    return swapped


def _renumbered(group: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.unique(group, return_inverse=True)[1].astype(np.int32)


def _refuse_repeated(ids: pa.ChunkedArray, path: Path) -> None:
    counts = pc.value_counts(ids)
    if pc.max(counts.field("counts")).as_py() > 1:
        repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0].as_py()
        raise UsageError(f"{path}: id {repeated[:60]!r} stands in more than one row; ids must be unique")
