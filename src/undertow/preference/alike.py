"""Statements that rest on the same pairs, gathered under the first of them: for reading, no test uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from undertow.preference.audit import Audit

SAME_PAIRS = 0.6
"""Cosine of two statements' evidence over all pairs from which they say the same thing of the same pairs."""


def heads(evidence: Any, least: float = SAME_PAIRS) -> NDArray[np.int64]:
    """Put each statement under the first earlier head whose evidence it shares.

    Args:
        evidence: (S, N) signed evidence of each statement in each pair, the ones to stand at the head first.
        least: cosine.

    Returns:
        (S,) row of each statement's head; a head's own is itself.
    """
    rows = _unit(evidence)
    shared = (rows @ rows.T).tocsr()
    found = np.full(rows.shape[0], -1, np.int64)
    for i in range(rows.shape[0]):
        if found[i] < 0:
            span = slice(shared.indptr[i], shared.indptr[i + 1])
            near = shared.indices[span][shared.data[span] >= least]
            found[near[found[near] < 0]] = i
            found[i] = i
    return found


def _unit(evidence: Any) -> csr_matrix:
    from scipy import sparse

    rows = sparse.csr_matrix(evidence, dtype=np.float32)
    norm = np.sqrt(np.asarray(rows.multiply(rows).sum(1)).ravel())
    scaled: csr_matrix = (sparse.diags(1 / np.maximum(norm, 1e-12).astype(np.float32)) @ rows).tocsr()
    return scaled


def concept_heads(found: Audit) -> dict[int, int]:
    """Column of each confirmed concept → of the one it stands under: named ones before mined wordings."""
    told = [i for i, c in enumerate(found.concepts) if c.confirmed]
    order = sorted(told, key=lambda i: (i != 0, ": " in found.concepts[i].cluster.name))
    sign = np.array([np.sign(found.concepts[i].delta) for i in order])
    return _headed(order, found.signed[:, order].T.multiply(sign[:, None])) if order else {}


def hypothesis_heads(found: Audit) -> dict[int, int]:
    """Number of each confirmed hypothesis → of the one it stands under: the same pairs, the same way."""
    from scipy import sparse

    order = [i for i, h in enumerate(found.hypotheses) if h.confirmed]
    evidence = []
    for i in order:
        each = found.hypotheses[i]
        view = found.views[each.pipeline]
        inside = view.groups.inside[[each.group]]
        sign = 1 if each.direction == "towards" else -1
        evidence.append(inside.multiply(view.values[:, [each.column]].T) * sign)
    return _headed(order, sparse.vstack(evidence)) if order else {}


def _headed(order: Sequence[int], evidence: Any) -> dict[int, int]:
    return {i: order[head] for i, head in zip(order, heads(evidence), strict=True)}
