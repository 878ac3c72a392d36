"""A pair as one row: what both of its sides open with, the prompt above all, is computed once.

A row holds the shared opening, the rest of the chosen side and the rest of the rejected side; the rests stand
at the positions that they have in their own sides and do not see each other. What a model makes of each token
is the same to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from undertow.training.needed import KNOWN, only_needed


@dataclass(frozen=True)
class Folded:
    """A batch of pairs, one row each."""

    ids: torch.Tensor
    """(pairs, longest) tokens, padded right."""
    positions: torch.Tensor
    """(pairs, longest) place of each token in its own side."""
    sees: torch.Tensor
    """(pairs, 1, longest, longest) whether a token (third axis) reads another (fourth)."""
    places: torch.Tensor
    """(2·pairs, longest side) in which column of its row a token of chosen, then rejected sides stands."""
    real: torch.Tensor
    """(pairs, longest) whether a token is no padding."""


def can_fold(model: Any) -> bool:
    """Say whether ``model`` reads a folded pair as it reads the two sides: it goes by mask and positions."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        config.model_type in KNOWN and config._attn_implementation == "sdpa" and kinds == {"full_attention"}
    )


def fold(ids: torch.Tensor, real: torch.Tensor) -> Folded:
    """Fold sides that are padded right, all chosen ones first: ids and attention mask, (2·pairs, longest)."""
    chosen, rejected = ids.chunk(2)
    is_chosen, is_rejected = real.bool().chunk(2)
    opening = ((chosen == rejected) & is_chosen & is_rejected).long().cumprod(1).sum(1, keepdim=True)
    size, other = is_chosen.sum(1, keepdim=True), is_rejected.sum(1, keepdim=True)
    longest = int((size + other - opening).max())
    column = torch.arange(ids.shape[1], device=ids.device)
    moved = torch.where(column < opening, column, column + size - opening)
    places = torch.cat([column.expand_as(moved), moved]).where(real.bool(), longest)
    rows = ids.new_zeros(len(chosen), longest + 1)
    rows.scatter_(1, places.chunk(2)[1], rejected).scatter_(1, places.chunk(2)[0], chosen)
    column = torch.arange(longest, device=ids.device)
    positions = torch.where(column < size, column, column - size + opening).clamp(max=ids.shape[1] - 1)
    in_chosen = (column >= opening) & (column < size)
    apart = (column >= size)[:, :, None] & in_chosen[:, None, :]
    sees = (column <= column[:, None]) & ~apart
    return Folded(rows[:, :longest], positions, sees[:, None], places, column < size + other - opening)


def states_of(
    body: Any, wanted: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor, **kwargs: Any
) -> torch.Tensor:
    """Return the last states of ``body`` at the ``wanted`` places of (2·pairs, longest - 1): (m, hidden).

    A side's last token is foretold and foretells nothing: it is left out.
    """
    folded = fold(input_ids[:, :-1], attention_mask[:, 1:])
    row, column = wanted.nonzero(as_tuple=True)
    place = row % len(folded.ids), folded.places[row, column]
    read = torch.zeros_like(folded.real)
    read[place] = True
    with only_needed(body, folded.real, read):
        hidden = body(
            input_ids=folded.ids, attention_mask=folded.sees, position_ids=folded.positions, **kwargs
        ).last_hidden_state
    states: torch.Tensor = hidden[place]
    return states
