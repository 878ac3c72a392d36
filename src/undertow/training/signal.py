"""Columns of a data set that change what its rows teach: offsets, weights, masks, prompts of the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undertow.data.read import read_any
from undertow.data.signal import DATA, ID, OFFSET, POLICY_PROMPT, TRAINING, WEIGHT, mask_column
from undertow.errors import UsageError
from undertow.store.run import file_hash
from undertow.store.tables import read_json
from undertow.training.config import Steer
from undertow.training.encode import Spans


@dataclass(frozen=True)
class Signal:
    """What n rows teach beyond their text; a column that the data set lacks changes nothing."""

    offset: NDArray[np.float32] | None = None
    """(n,) λ·Δs of each pair, log-odds that the loss takes as given: above 0 the pair teaches less."""
    weight: NDArray[np.float32] | None = None
    """(n,) factor on the loss of each row, 0 or more."""
    masks: Mapping[str, Sequence[Spans]] = field(default_factory=dict)
    """Text column → for each row the stretches of it that are read but not learned."""
    policy_prompt: Sequence[str | None] | None = None
    """(n,) what the policy reads in the prompt's place, ``None`` the same; the reference reads the prompt."""


def data_file(data: Path, steer: Steer | None = None) -> tuple[Path, Steer | None]:
    """Return the rows behind ``data`` and how to steer; of a fix's run directory, what it wrote there."""
    if not (data / DATA).is_file():
        return data, steer
    told = data / TRAINING
    if steer is None and told.is_file():
        found = dict(read_json(told)["steer"])
        steer = Steer.model_validate({**found, "vector": data / found["vector"]})
    return data / DATA, steer


def steer_identity(steer: Steer | None) -> dict[str, object]:
    """Return what tells a steered run from others; nothing where nothing is steered."""
    if steer is None:
        return {}
    return {"steer": {"vector": file_hash(steer.vector), "alpha": steer.alpha, "side": steer.side}}


def read_signal(path: Path, ids: pa.ChunkedArray, texts: Sequence[str]) -> Signal:
    """Read the columns ``offset``, ``weight``, ``policy_prompt`` and ``TEXT_mask`` of a data set.

    Args:
        path: The data set.
        ids: Those of its rows that are trained, (n,); a row without an id is called by its number.
        texts: The columns that may be masked: ``response``, or ``chosen`` and ``rejected``.

    Raises:
        UsageError: a value that is missing, not finite or negative, spans that are none, weights all 0.
    """
    names = [OFFSET, WEIGHT, POLICY_PROMPT, *map(mask_column, texts)]
    table = read_any(path, skip_bad=False, columns=_Columns((ID, *names))).table
    there = [name for name in names if name in table.column_names]
    if not there:
        return Signal()
    column = {name: values.to_pylist() for name, values in _in_order(table, there, ids).items()}
    rows: list[str] = ids.to_pylist()
    weight = _numbers(path, WEIGHT, column.get(WEIGHT), rows)
    if weight is not None and (weight < 0).any():
        raise UsageError(f"{path}: row {rows[int((weight < 0).argmax())]!r} has a weight below 0")
    if weight is not None and not weight.any():
        raise UsageError(f"{path}: all weights are 0; nothing would be left to train")
    masks = {text: _spans(path, text, column.get(mask_column(text)), rows) for text in texts}
    return Signal(
        _numbers(path, OFFSET, column.get(OFFSET), rows),
        weight,
        {text: found for text, found in masks.items() if found is not None},
        column.get(POLICY_PROMPT),
    )


def _in_order(table: pa.Table, names: Sequence[str], ids: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Return the columns ``names`` of the rows ``ids``, in their order."""
    own = pa.array(np.arange(len(table))).cast(pa.string())
    if ID in table.column_names:
        own = pc.coalesce(table[ID].cast(pa.string()), own)
    return {name: table[name].take(pc.index_in(ids, value_set=own)) for name in names}


@dataclass(frozen=True)
class _Columns:
    """Takes the named columns out of JSON objects."""

    names: tuple[str, ...]

    def __call__(self, rows: list[dict[str, Any]], numbers: list[int], path: Path) -> dict[str, pa.Array]:
        found = {"#": pa.nulls(len(rows))}
        for name in self.names:
            values = [row.get(name) for row in rows]
            if any(value is not None for value in values):
                texts = [None if value is None else str(value) for value in values]
                found[name] = pa.array(texts if name == ID else values)
        return found


def _numbers(
    path: Path, name: str, values: Sequence[Any] | None, rows: Sequence[str]
) -> NDArray[np.float32] | None:
    if values is None:
        return None
    try:
        found = np.array([np.nan if value is None else float(value) for value in values], np.float32)
    except (TypeError, ValueError):
        raise UsageError(f"{path}: column {name} holds something else than numbers") from None
    if not np.isfinite(found).all():
        row = int((~np.isfinite(found)).argmax())
        raise UsageError(f"{path}: row {rows[row]!r} has no finite {name} ({values[row]}); mend it")
    return found


def _spans(path: Path, text: str, values: Sequence[Any] | None, rows: Sequence[str]) -> list[Spans] | None:
    if values is None:
        return None
    try:
        found = [[_span(each) for each in row or ()] for row in values]
    except (TypeError, ValueError, KeyError):
        raise UsageError(f"{path}: column {text}_mask must hold lists of [start, end), characters") from None
    for row, spans in zip(rows, found, strict=True):
        if any(not 0 <= left < right for left, right in spans):
            raise UsageError(f"{path}: row {row!r}: a span of {text}_mask is empty or begins below 0")
    return list(found)


def _span(value: Any) -> tuple[int, int]:
    left, right = (value["start"], value["end"]) if isinstance(value, dict) else value
    return int(left), int(right)
