"""What the description of a corpus by a model will take, before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from undertow.attributes.llm import FORM, HEAD, HISTORY, TAIL, Passage, question
from undertow.index.open import SIDES
from undertow.models.prices import Price
from undertow.records import Message, Side

if TYPE_CHECKING:
    import pyarrow as pa

BYTES_PER_TOKEN = (5.0, 2.5)
"""English prose, and what tokenizers take worst (code, other scripts)."""
ANSWER_TOKENS = (150, 350)
"""Ten sentences."""
AGAIN = (1.0, 1.1)
"""Answers asked for of one text."""

Range = tuple[float, float]
"""Low and high."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Calls, tokens and dollars; ranges are low and high."""

    rows: int
    """Of the corpus."""
    calls: tuple[int, int]
    """Equal texts are asked about once."""
    input_tokens: tuple[int, int]
    """Read by the model."""
    output_tokens: tuple[int, int]
    """Written."""
    cost_usd: Range | None
    """``None`` where no price is known."""

    def line(self) -> str:
        """Say it in one line."""
        low, high = self.calls
        tokens = f"{self.input_tokens[0] / 1e6:.3g} to {self.input_tokens[1] / 1e6:.3g} M tokens read"
        cost = "no price known" if self.cost_usd is None else "${:.3g} to ${:.3g}".format(*self.cost_usd)
        return f"{self.rows:,} rows, {low:,} to {high:,} calls, {tokens}, {cost}"


NOTHING = Estimate(0, (0, 0), (0, 0), (0, 0), (0.0, 0.0))
"""What the local extractor asks of a model."""


def estimate(examples: pa.Table, price: Price | None) -> Estimate:
    """Estimate from the lengths of the distinct texts."""
    texts = text_bytes = 0
    for side in SIDES:
        count, total = _distinct_bytes(examples, side)
        texts, text_bytes = texts + count, text_bytes + total + count * _instruction_bytes(side)
    read = [int(times * text_bytes / per) for times, per in zip(AGAIN, BYTES_PER_TOKEN, strict=True)]
    written = [int(times * texts * tokens) for times, tokens in zip(AGAIN, ANSWER_TOKENS, strict=True)]
    cost = [price.cost(r, w) for r, w in zip(read, written, strict=True)] if price else None
    return Estimate(
        rows=len(examples),
        calls=(texts, int(np.ceil(AGAIN[1] * texts))),
        input_tokens=(read[0], read[1]),
        output_tokens=(written[0], written[1]),
        cost_usd=(cost[0], cost[1]) if cost else None,
    )


def _distinct_bytes(examples: pa.Table, side: Side) -> tuple[int, int]:
    """Count the distinct texts of a side and the bytes shown of them."""
    import pyarrow.compute as pc

    if side == "response":
        names, limits = ["response"], [HEAD + TAIL]
    else:
        names, limits = ["prompt"], [HEAD + TAIL]
        if "history" in examples.column_names:
            names, limits = ["prompt", "history"], [HEAD + TAIL, HISTORY]
    distinct = examples.select(names).group_by(names).aggregate([])
    total = 0
    for name, limit in zip(names, limits, strict=True):
        lengths = np.minimum(np.asarray(pc.utf8_length(distinct[name]), np.int64), limit)
        whole = max(int(np.asarray(pc.utf8_length(distinct[name]), np.int64).sum()), 1)
        per_character = int(np.asarray(pc.binary_length(distinct[name]), np.int64).sum()) / whole
        total += int(lengths.sum() * per_character)
    return len(distinct), total


def _instruction_bytes(side: Side) -> int:
    """Count what stands around every text: the order, the delimiters, the form."""
    messages: list[Message] = question(Passage(side, ""), "0" * 16)
    return sum(len(message.content.encode()) for message in messages) + len(repr(FORM.schema)) + 200
