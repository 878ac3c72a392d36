"""Rows become token ids with the loss on the response, all at once.

Prompt and response are tokenised apart and joined, so that a prompt has the very tokens that
``local:`` gives it at inference; TRL tokenises prompt + response and has to guess where the response begins.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from undertow.errors import UsageError

IGNORED = -100
"""Label of a token without loss, as in torch."""
Spans = Sequence[tuple[int, int]]
"""Stretches [start, end) of a response, in characters."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of n rows, ragged."""

    tokens: NDArray[np.int64]
    """(total,) ids of all rows, one after another."""
    labels: NDArray[np.int64]
    """(total,) the same, or :data:`IGNORED` on prompts and masked tokens."""
    starts: NDArray[np.int64]
    """(n + 1,) where each row begins; the last entry is the total."""
    rows: NDArray[np.int64]
    """(n,) number of each row in the table, ascending: what is too long is left out."""
    masked: int
    """Response tokens that a span takes out of the loss."""
    dropped: int
    """Rows whose prompt alone fills ``max_length``: nothing is left to learn."""
    truncated: int
    """Kept rows that lost the end of their response."""
    unknown: float
    """Share of the response tokens that the tokenizer does not know; a model cannot learn to write them."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) tokens of each row."""
        return np.diff(self.starts)


def encode_rows(
    table: pa.Table, tokenizer: Any, max_length: int, spans: Sequence[Spans] | None = None
) -> Encoded:
    """Tokenise prompt (with ``history``) and response of every row.

    Args:
        table: Columns ``prompt``, ``response`` and perhaps ``history``, as ``load_examples`` gives them.
        tokenizer: A transformers tokenizer; its chat template is used where it has one.
        max_length: Tokens kept of a row, from its start.
        spans: For every row the characters of its response whose tokens are read but not learned; a token
            that lies in part in a span is masked whole.

    Raises:
        UsageError: no row has a response token within ``max_length``, the tokenizer has no end token, or the
            spans of a row leave nothing of its response.
    """
    if tokenizer.eos_token_id is None:
        raise UsageError(f"{tokenizer.name_or_path}: its tokenizer has no end-of-sequence token to train")
    prompts, responses, plain = render_rows(table, tokenizer)
    prompt_ids, prompt_sizes = _ids(tokenizer, prompts, add_special_tokens=plain)
    response_ids, response_sizes = _ids(tokenizer, responses, add_special_tokens=False)
    masked = _masked_tokens(table["response"].to_pylist(), responses, response_sizes, spans, tokenizer)
    kept = prompt_sizes < max_length
    sizes = np.minimum(prompt_sizes + response_sizes, max_length)
    if not kept.any():
        raise UsageError(f"max_length {max_length}: every prompt is longer; raise it")
    tokens, is_response = _interleave(prompt_ids, prompt_sizes, response_ids, response_sizes)
    position = _within(prompt_sizes + response_sizes)
    keep = (position < max_length) & np.repeat(kept, prompt_sizes + response_sizes)
    learned = is_response.copy()
    learned[is_response] = ~masked
    tokens, is_response, learned = tokens[keep], is_response[keep], learned[keep]
    starts = np.concatenate([[0], np.cumsum(sizes[kept])])
    cut = kept & (prompt_sizes + response_sizes > max_length)
    unknown = float((tokens[is_response] == _unknown_id(tokenizer)).mean()) if is_response.any() else 0.0
    return Encoded(
        tokens=tokens,
        labels=np.where(learned, tokens, IGNORED),
        starts=starts,
        rows=np.flatnonzero(kept),
        masked=int((is_response & ~learned).sum()),
        dropped=int((~kept).sum()),
        truncated=int(cut.sum()),
        unknown=unknown,
    )


def _masked_tokens(
    responses: Sequence[str],
    written: Sequence[str],
    sizes: NDArray[np.int64],
    spans: Sequence[Spans] | None,
    tokenizer: Any,
) -> NDArray[np.bool_]:
    """Say of every response token, row after row, whether a span takes it out of the loss."""
    masked = np.zeros(int(sizes.sum()), np.bool_)
    first = np.cumsum(sizes) - sizes
    for row in (row for row, found in enumerate(spans or ()) if found):
        hit = _tokens_in(responses[row], written[row], (spans or ())[row], tokenizer, row)
        masked[first[row] : first[row] + sizes[row]] = hit
    return masked


def _tokens_in(response: str, written: str, spans: Spans, tokenizer: Any, row: int) -> NDArray[np.bool_]:
    shift = written.find(response)
    if shift < 0:
        raise UsageError(f"row {row}: the chat template rewrites its response; no span of it can be masked")
    if not tokenizer.is_fast:
        raise UsageError(f"{tokenizer.name_or_path}: masks need a fast tokenizer, which knows its characters")
    found = tokenizer(written, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    start, end = np.array(found, np.int64).reshape(-1, 2).T - shift
    hit = np.zeros(len(start), np.bool_)
    for left, right in spans:
        hit |= (start < right) & (end > left)
    if hit[end <= len(response)].all():
        raise UsageError(f"row {row} (the first is 0): its mask leaves nothing of the response; drop the row")
    return hit


def _unknown_id(tokenizer: Any) -> int:
    """Return the id that stands for text the tokenizer cannot write; -1 where it can write all.

    GPT-2's tokenizers name their end token as the unknown one, which stands for itself.
    """
    unknown = tokenizer.unk_token_id
    return -1 if unknown is None or unknown == tokenizer.eos_token_id else int(unknown)


def render_rows(table: pa.Table, tokenizer: Any) -> tuple[list[str], list[str], bool]:
    """Return what the model reads of each row, what it shall write, and whether no template was used.

    A response ends with the end token. Without a chat template the turns stand line under line.
    """
    prompts: list[str] = table["prompt"].to_pylist()
    responses: list[str] = table["response"].to_pylist()
    has_history = "history" in table.column_names
    before = [json.loads(t) for t in table["history"].to_pylist()] if has_history else [[] for _ in prompts]
    asked = [[*turns, {"role": "user", "content": p}] for turns, p in zip(before, prompts, strict=True)]
    if not tokenizer.chat_template:
        read = ["\n".join(turn["content"] for turn in turns) for turns in asked]
        return read, [response + tokenizer.eos_token for response in responses], True
    read = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(
        [[*turns, {"role": "assistant", "content": r}] for turns, r in zip(asked, responses, strict=True)],
        tokenize=False,
    )
    written = [
        _after(prompt, full, response, tokenizer.eos_token)
        for prompt, full, response in zip(read, whole, responses, strict=True)
    ]
    return read, written, False


def _after(prompt: str, whole: str, response: str, end: str) -> str:
    """Return what the template puts after the prompt; where it rewrites the prompt, response + end."""
    written = whole[len(prompt) :] if whole.startswith(prompt) else response
    return written if written.rstrip().endswith(end) else written + end


def _ids(
    tokenizer: Any, texts: list[str], add_special_tokens: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    found = tokenizer(
        texts, add_special_tokens=add_special_tokens, return_attention_mask=False, return_token_type_ids=False
    )["input_ids"]
    sizes = np.fromiter(map(len, found), np.int64, len(found))
    flat = np.fromiter((token for row in found for token in row), np.int64, int(sizes.sum()))
    return flat, sizes


def _within(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of every token in its row."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _interleave(
    first: NDArray[np.int64],
    first_sizes: NDArray[np.int64],
    second: NDArray[np.int64],
    second_sizes: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Join two ragged arrays row by row; the mask marks the second's tokens."""
    sizes = first_sizes + second_sizes
    is_second = _within(sizes) >= np.repeat(first_sizes, sizes)
    joined = np.empty(len(is_second), np.int64)
    joined[~is_second], joined[is_second] = first, second
    return joined, is_second
