"""Concepts from embeddings: features of a signed autoencoder of e⁺ - e⁻, described, and held to it.

A feature is described by the local concepts in which its pairs differ, on half of the prompts. On the other
half an A/B/tie label is read off the description alone; where the activation does not correlate with that
label beyond chance the feature is dropped. Neither step knows which response was chosen: swapping a pair
turns activation and label alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import norm

from undertow.preference.concepts import Activations, Concept
from undertow.preference.signed_sae import DEFAULT, SaeSettings, train_signed_sae

if TYPE_CHECKING:
    from undertow.preference.vectors import ResponseVectors

Label = NDArray[np.float64]
Labeller = Callable[["Feature", NDArray[np.int64]], Label]
"""Says of pairs (row numbers) which side shows a feature more: 1 chosen, -1 rejected, 0 tie, NaN unknown."""

NAMED = 3
"""Local concepts in a description."""
LEAST_SHARED = 0.1
"""Smallest correlation with a local concept that describes a feature."""
LEVEL = 0.05
"""Error rate over all features of taking a chance correlation for fidelity (Bonferroni)."""
SHOWN, LEAST_SHARE = 0.01, 0.01
"""Rate above which a side shows a concept; share of pairs that it must tell apart to describe."""
TIE = 0.25
"""A description's evidence below this, in standard deviations, is a tie."""
LABELLED = 3000
"""Most held-out pairs that are labelled for one feature."""
TOP = 20
"""Pairs kept as examples."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One direction of difference between responses."""

    index: int
    """Column of the autoencoder."""
    more: tuple[str, ...]
    """Local concepts that the side which shows the feature has more of."""
    less: tuple[str, ...]
    """And less of."""
    text: str
    """One sentence."""
    top: tuple[int, ...]
    """Pairs that show it most, of the describing half."""
    fidelity: float | None
    """Correlation of activation with the label on held-out pairs; ``None`` where undefined."""
    labelled: int
    """Held-out pairs behind it."""
    kept: bool
    """Whether the fidelity is above chance."""


@dataclass(frozen=True, slots=True)
class EmbeddingConcepts:
    """What came of the autoencoder."""

    activations: Activations
    """Of the features that were kept, each divided by its largest, so in [0, 1]."""
    features: tuple[Feature, ...]
    """All of them, dropped ones too."""
    explained: float
    """Share of the variance of held-out differences that is reconstructed."""
    made_of: str
    """``texts`` or ``words``: what the embedder saw."""


def embedding_concepts(
    vectors: ResponseVectors,
    local: Activations,
    prompts: NDArray[np.int32],
    settings: SaeSettings = DEFAULT,
    seed: int = 0,
    label: Labeller | None = None,
    describe: Callable[[Feature], str] | None = None,
) -> EmbeddingConcepts:
    """Train, describe, check, and keep what can be described.

    Args:
        vectors: of both sides of n pairs.
        local: surface concepts of the same pairs, which describe.
        prompts: prompt group of each pair, (n,); halves are halves of prompts.
        settings: of the autoencoder.
        seed: of training and halves.
        label: independent A/B/tie label; default: the description's local concepts.
        describe: one sentence for a feature from its top pairs, by a model; default: its local concepts.
    """
    trained = train_signed_sae(vectors.differences, settings, seed)
    signed = trained.encode(vectors.differences)
    held_out = np.random.default_rng(seed).permutation(int(prompts.max()) + 1)[prompts] % 2 == 1
    contrast = _contrast(local)
    names = [concept.name for concept in local.concepts]
    shared = _correlations(signed[~held_out], contrast[np.flatnonzero(~held_out)])
    rows = np.flatnonzero(held_out)[:LABELLED]
    features = []
    for j in range(signed.shape[1]):
        drafted = _drafted(j, shared[j], names, signed, ~held_out)
        if describe is not None:
            drafted = _with(drafted, text=describe(drafted))
        labels = label(drafted, rows) if label else _by_description(drafted, contrast[rows], names)
        features.append(_judged(drafted, signed[rows, j], labels, signed.shape[1]))
    kept = [feature for feature in features if feature.kept]
    return EmbeddingConcepts(_activations(kept, signed), tuple(features), trained.explained, vectors.made_of)


def _contrast(local: Activations) -> sparse.csr_matrix:
    """Which side shows each local concept, 1, -1 or 0, in units of its root mean square, (n, f).

    Concepts that tell fewer than 1 % of the pairs apart describe nothing: they are 0.
    """
    shown = [sparse.csr_matrix(side > SHOWN, dtype=np.float64) for side in (local.chosen, local.rejected)]
    difference = sparse.csr_matrix(shown[0] - shown[1])
    share = np.asarray(abs(difference).mean(axis=0)).ravel()
    by = np.where(share >= LEAST_SHARE, 1 / np.sqrt(np.maximum(share, 1e-12)), 0)
    return sparse.csr_matrix(difference @ sparse.diags(by))


def _correlations(signed: NDArray[np.float32], contrast: sparse.csr_matrix) -> NDArray[np.float64]:
    """About 0, as both turn with the pair, (M, f)."""
    size = np.sqrt((signed.astype(np.float64) ** 2).sum(axis=0))
    other = np.sqrt(np.asarray(contrast.multiply(contrast).sum(axis=0)).ravel())
    product = np.asarray((contrast.T @ signed).T)
    return product / np.maximum(np.outer(size, other), 1e-12)


def _drafted(
    j: int, shared: NDArray[np.float64], names: Sequence[str], signed: NDArray[np.float32],
    describing: NDArray[np.bool_],
) -> Feature:  # fmt: skip
    strongest = np.argsort(-np.abs(shared), kind="stable")[: 2 * NAMED]
    strongest = strongest[np.abs(shared[strongest]) >= LEAST_SHARED]
    more = tuple(names[i] for i in strongest if shared[i] > 0)[:NAMED]
    less = tuple(names[i] for i in strongest if shared[i] < 0)[:NAMED]
    said = [f"{word} {', '.join(each)}" for word, each in (("more", more), ("less", less)) if each]
    text = f"The response has {' and '.join(said)} than the other." if said else "Not described."
    strength = np.where(describing, np.abs(signed[:, j]), 0)
    top = [int(i) for i in np.argsort(-strength, kind="stable")[:TOP] if strength[i] > 0]
    return Feature(j, more, less, text, tuple(top), None, 0, kept=False)


def _with(feature: Feature, text: str) -> Feature:
    return Feature(feature.index, feature.more, feature.less, text, feature.top, None, 0, kept=False)


def _by_description(feature: Feature, contrast: sparse.csr_matrix, names: Sequence[str]) -> Label:
    place = {name: i for i, name in enumerate(names)}
    weights = np.zeros(len(names))
    weights[[place[name] for name in feature.more]] = 1
    weights[[place[name] for name in feature.less]] = -1
    evidence = np.asarray(contrast @ weights)
    spread = float(np.sqrt(np.mean(evidence**2)))
    return np.where(np.abs(evidence) < TIE * spread, 0.0, np.sign(evidence))


def _judged(feature: Feature, activation: NDArray[np.float32], label: Label, tests: int) -> Feature:
    """Correlation and whether its lower bound (Fisher's z) is above 0."""
    known = np.isfinite(label)
    a, b = activation[known].astype(np.float64), label[known]
    n = int(known.sum())
    fidelity: float | None = None
    if n > 3 and a.std() > 0 and b.std() > 0:
        fidelity = float(np.corrcoef(a, b)[0, 1])
    least = norm.isf(LEVEL / tests) / np.sqrt(max(n - 3, 1))
    kept = fidelity is not None and float(np.arctanh(min(fidelity, 0.999999))) > least
    return Feature(
        feature.index, feature.more, feature.less, feature.text, feature.top, fidelity, n, kept=kept
    )


def _activations(kept: Sequence[Feature], signed: NDArray[np.float32]) -> Activations:
    columns = signed[:, [feature.index for feature in kept]]
    columns = columns / np.maximum(np.abs(columns).max(axis=0, initial=0), 1e-9)
    concepts = tuple(
        Concept(f"embedding {feature.index + 1}: {_short(feature)}", feature.text, "embedding")
        for feature in kept
    )
    sides = (sparse.csr_matrix(np.maximum(side, 0), dtype=np.float32) for side in (columns, -columns))
    return Activations(concepts, *sides)


def _short(feature: Feature) -> str:
    return ", ".join([*feature.more, *(f"not {name}" for name in feature.less)][:NAMED])
