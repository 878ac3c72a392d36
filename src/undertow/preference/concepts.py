"""The one shape in which every family of concepts reaches the audit: sparse activations per response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Family = Literal["local", "embedding", "model", "probe"]


@dataclass(frozen=True, slots=True)
class Concept:
    """Something that a response can show more or less of."""

    name: str
    """Unique among the concepts of an audit; the key in every table."""
    text: str
    """One sentence for a person."""
    family: Family
    """Where it comes from: surface features, embedding SAE, model SAE or probe."""


@dataclass(frozen=True, slots=True)
class Activations:
    """How much each response of each pair shows each concept; rows are pairs, columns concepts.

    A local or model concept stands as the share of tokens, words or lines on which it fires, in [0, 1]; a
    signed embedding feature of the difference e⁺ - e⁻ stands in ``chosen`` where positive, in ``rejected``
    where negative.
    """

    concepts: tuple[Concept, ...]
    """Columns, in order."""
    chosen: csr_matrix
    """float32 (pairs, concepts), no negative value."""
    rejected: csr_matrix
    """float32 (pairs, concepts), no negative value."""


@dataclass(frozen=True, slots=True)
class PromptActivations:
    """Which concepts each pair's prompt shows: what prompt groups are made of."""

    concepts: tuple[Concept, ...]
    """Columns, in order."""
    values: csr_matrix
    """float32 (pairs, concepts), no negative value."""
