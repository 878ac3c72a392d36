"""Preference pairs become token ids: what the policy reads of each, and what the reference reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.training.encode import Encoded, Spans, encode_rows
from undertow.training.signal import Signal

SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class EncodedPairs:
    """Token ids of pairs; rows are numbered as in the data set."""

    policy: tuple[Encoded, Encoded]
    """Chosen and rejected, as the policy reads them."""
    reference: tuple[Encoded, Encoded]
    """The same pairs as the reference reads them; the very same tokens without ``policy_prompt``."""
    rows: NDArray[np.int64]
    """(n,) the pairs that fit on all sides, ascending."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) tokens of each pair's longer side."""
        return reduce(
            np.maximum, (each.lengths[np.searchsorted(each.rows, self.rows)] for each in self.policy)
        )

    @property
    def masked(self) -> int:
        """Response tokens without loss."""
        return sum(each.masked for each in self.policy)


def encode_pairs(table: pa.Table, tokenizer: Any, max_length: int, signal: Signal) -> EncodedPairs:
    """Tokenise both sides of every pair.

    Args:
        table: Columns ``prompt``, ``chosen``, ``rejected`` and perhaps ``history``.
        tokenizer: A transformers tokenizer.
        max_length: Tokens kept of prompt and response.
        signal: Masks, and what the policy reads in the prompt's place.

    Raises:
        UsageError: no pair fits, or a mask leaves nothing of a response.
    """
    reference = _encode_sides(table, tokenizer, max_length, signal)
    policy = reference
    if signal.policy_prompt is not None:
        policy = _encode_sides(_as_policy_reads(table, signal), tokenizer, max_length, signal)
    rows = reduce(np.intersect1d, (each.rows for each in (*policy, *reference)))
    if not len(rows):
        raise UsageError(f"max_length {max_length}: no pair fits; raise it")
    return EncodedPairs(policy, reference, rows)


def _encode_sides(
    table: pa.Table, tokenizer: Any, max_length: int, signal: Signal
) -> tuple[Encoded, Encoded]:
    def side(name: str) -> Encoded:
        spans: list[Spans] | None = list(signal.masks[name]) if name in signal.masks else None
        texts = {"prompt": table["prompt"], "response": table[name]}
        if "history" in table.column_names:
            texts["history"] = pc.fill_null(table["history"], "[]")
        return encode_rows(pa.table(texts), tokenizer, max_length, spans)

    return side("chosen"), side("rejected")


def _as_policy_reads(table: pa.Table, signal: Signal) -> pa.Table:
    plain = table["prompt"].to_pylist()
    read = [
        own if own is not None else p for own, p in zip(signal.policy_prompt or plain, plain, strict=True)
    ]
    return table.set_column(table.column_names.index("prompt"), "prompt", pa.array(read, pa.string()))
