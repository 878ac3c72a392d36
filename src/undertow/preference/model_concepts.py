"""Concepts of a policy's own features: how often, and how strongly, each fires on a response and a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undertow.errors import UsageError
from undertow.preference.concepts import Activations, Concept, PromptActivations
from undertow.preference.model_sae import ModelSae
from undertow.preference.policy import Policy, exchanges_of
from undertow.progress import SILENT, Progress

if TYPE_CHECKING:
    from undertow.data.preferences import PreferenceData

CHUNK = 1024
"""Tokens encoded at once."""


@dataclass(frozen=True)
class ModelConcepts:
    """What a model's features say of n pairs."""

    responses: Activations
    """c_freq and r_freq: share of a response's tokens with a > 0."""
    prompts: PromptActivations
    """The same share of the prompt's tokens, template included."""
    chosen_max: sparse.csr_matrix
    """Largest activation on the chosen response, (n, F)."""
    rejected_max: sparse.csr_matrix
    """On the rejected one, (n, F)."""


def model_concepts(
    data: PreferenceData, policy: Policy, sae: ModelSae, progress: Progress = SILENT
) -> ModelConcepts:
    """Read every distinct exchange once.

    Raises:
        UsageError: the autoencoder is not of this model's width or layers.
    """
    if sae.encoder.shape[0] != policy.width:
        raise UsageError(
            f"{policy.name}: width {policy.width}, but the autoencoder reads {sae.encoder.shape[0]}"
        )
    exchanges, sides = exchanges_of(data, policy)
    parts = _Cells(len(exchanges), sae.size)
    with progress.task("read the policy", len(exchanges)) as task:
        for stream in policy.read(exchanges, [sae.layer]):
            parts.add(stream.rows, stream.response, stream.vectors[sae.layer], sae)
            task.advance(len(np.unique(stream.rows)))
    said, most, asked = parts.tables()
    concepts = feature_concepts(sae)
    chosen, rejected = sides
    return ModelConcepts(
        Activations(concepts, said[chosen], said[rejected]),
        PromptActivations(concepts, asked[chosen]),
        most[chosen],
        most[rejected],
    )


def feature_concepts(sae: ModelSae) -> tuple[Concept, ...]:
    """Name the features of an autoencoder, F of them."""
    return tuple(
        Concept(f"model {sae.layer}/{j}", f"Feature {j} of layer {sae.layer} fires.", "model")
        for j in range(sae.size)
    )


class _Cells:
    """Nonzero cells of three tables (exchanges, features), gathered batch by batch."""

    def __init__(self, n: int, features: int) -> None:
        self._shape = (n, features)
        self._counts = np.zeros((2, n))
        self._fired: list[list[sparse.coo_matrix]] = [[], []]
        self._most: list[sparse.coo_matrix] = []

    def add(
        self,
        rows: NDArray[np.int64],
        response: NDArray[np.bool_],
        vectors: NDArray[np.float32],
        sae: ModelSae,
    ) -> None:
        distinct, local = np.unique(rows, return_inverse=True)
        most = np.zeros((len(distinct), self._shape[1]), np.float32)
        fired = np.zeros((2, len(distinct), self._shape[1]), np.float32)
        for start in range(0, len(rows), CHUNK):
            at = slice(start, start + CHUNK)
            a = sae.encode(vectors[at])
            for side in (0, 1):
                mine = response[at] == bool(side)
                who = sparse.csr_matrix(
                    (np.ones(int(mine.sum()), np.float32), (local[at][mine], np.arange(int(mine.sum())))),
                    shape=(len(distinct), int(mine.sum())),
                )
                fired[side] += who @ (a[mine] > 0)
            said = response[at]
            np.maximum.at(most, local[at][said], a[said])
        for side in (0, 1):
            self._counts[side] += np.bincount(rows[response == bool(side)], minlength=self._shape[0])
            self._fired[side].append(self._placed(fired[side], distinct))
        self._most.append(self._placed(most, distinct))

    def _placed(self, dense: NDArray[np.float32], rows: NDArray[np.int64]) -> sparse.coo_matrix:
        cells = sparse.coo_matrix(dense)
        return sparse.coo_matrix((cells.data, (rows[cells.row], cells.col)), shape=self._shape)

    def tables(self) -> tuple[sparse.csr_matrix, sparse.csr_matrix, sparse.csr_matrix]:
        """Share of response tokens, largest activation, share of prompt tokens."""
        shares = []
        for side in (1, 0):
            total = _sum(self._fired[side], self._shape)
            shares.append(sparse.csr_matrix(sparse.diags(1 / np.maximum(self._counts[side], 1)) @ total))
        said, asked = (sparse.csr_matrix(each, dtype=np.float32) for each in shares)
        return said, _sum(self._most, self._shape), asked


def _sum(parts: list[sparse.coo_matrix], shape: tuple[int, int]) -> sparse.csr_matrix:
    if not parts:
        return sparse.csr_matrix(np.zeros(shape, np.float32))
    data, rows, columns = (np.concatenate([getattr(p, n) for p in parts]) for n in ("data", "row", "col"))
    return sparse.csr_matrix((data, (rows, columns)), shape=shape)
