"""The k (example, attribute) pairs whose response attribute is most like the crux (paper eq. 3), exactly.

Departure: distinct strings are stored once, so the scan ranks strings and expands them to their examples.
Identical strings tie by the thousand; which of them make the k is drawn uniformly with a seed, never taken in
row order, and the size of the tie is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from undertow.index.incidence import Incidence
from undertow.turf.counts import FeatureRows, Floats, Ints

if TYPE_CHECKING:
    from undertow.index.open import Index

Near = tuple[Ints, NDArray[np.float32]]
"""Attribute ids and their cosines, most similar first."""
TIE = 1e-6
"""Cosines closer than this are one similarity."""
DEPTH = 0.45
"""How far below the best cosine a wording may still say the crux."""
STRETCH, STEP, ABOUT_AS_FLAT = 0.1, 0.005, 0.05
"""Width and step of the stretches in which :func:`bend` looks, in cosine, and what is as good as flattest."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The retrieved pairs of one crux, as a weight per example."""

    pairs_N: Ints
    """(N,) retrieved pairs of each example."""
    k: int
    """Pairs asked for."""
    found: int
    """Pairs there are, at most k."""
    tie: int
    """Pairs at the k-th similarity, retrieved or not."""
    drawn: int
    """How many of those were drawn."""
    lowest: float | None
    """The k-th similarity; ``None`` when nothing was found."""

    @property
    def report(self) -> dict[str, object]:
        """Say what a reader needs to trust the hit counts."""
        return {"found": self.found, "tie": self.tie, "drawn_from_tie": self.drawn, "lowest": self.lowest}


def retrieve(
    incidence: Incidence, ids: Ints, cosines: NDArray[np.float32], k: int, rng: np.random.Generator
) -> Retrieved:
    """Expand similar attributes to the k most similar (example, attribute) pairs.

    Args:
        incidence: response attributes of every row.
        ids: (A,) distinct attributes, most similar first; enough of them to hold k pairs and the whole tie.
        cosines: (A,) their similarities.
        k: pairs.
        rng: breaks the tie at the k-th similarity.
    """
    counts = incidence.counts[ids]
    running = np.cumsum(counts)
    pairs = np.zeros(incidence.n, dtype=np.int64)
    if not len(ids) or running[-1] == 0:
        return Retrieved(pairs, k, 0, 0, 0, None)
    last = min(int(np.searchsorted(running, k)), len(ids) - 1)
    lowest = float(cosines[last])
    whole, tied = ids[cosines > lowest + TIE], ids[np.abs(cosines - lowest) <= TIE]
    for column in whole:
        pairs[incidence.rows_of(int(column))] += 1
    candidates, _ = incidence.gather(tied)
    room = min(k - int(pairs.sum()), len(candidates))
    drawn = candidates if room == len(candidates) else rng.choice(candidates, size=room, replace=False)
    np.add.at(pairs, drawn, 1)
    return Retrieved(pairs, k, int(pairs.sum()), len(candidates), room, lowest)


def hits(of: FeatureRows, retrieved: Retrieved) -> Ints:
    """Count h(c): retrieved pairs whose example has cluster c among its query attributes (paper §4.1 step 3).

    Returns:
        (F,) hits of each feature, each at most k. They sum to more than k, as in the paper's example.
    """
    found = retrieved.pairs_N[of.rows]
    some = np.flatnonzero(found)
    counted = np.bincount(of.owner[some], weights=found[some], minlength=len(of.features))
    return counted.astype(np.int64)


def bend(cosines: Floats, counts: Ints, pairs: int, rows: int) -> float:
    """Find the similarity that parts the attributes that say the crux from those merely near it.

    The curve of pairs over similarity climbs while further wordings of the crux come in, is flat between
    them and the rest, and climbs again where the rest begins. The threshold lies in the flattest stretch of
    width ``STRETCH``, by the log-odds of the pairs so far among all; of stretches about as flat in the
    lowest. The farthest point under the chord of the curve, the usual knee, took twenty wrong wordings for
    one right one where the crux was rare, and a tenth of the right ones where it was frequent.

    Args:
        cosines: (A,) descending similarities of distinct attributes, A > 0, down to the best less ``DEPTH``.
        counts: (A,) examples each holds for.
        pairs: of the corpus, all (example, attribute).
        rows: of the corpus; a crux has no more pairs.

    Returns:
        the lowest similarity that counts.
    """
    running = np.cumsum(counts, dtype=np.float64)
    best = float(cosines[0])
    grid = np.arange(best - STRETCH / 2, best - DEPTH + STRETCH / 2, -STEP)

    def log_odds(at: Floats) -> Floats:
        reached: Floats = running[np.searchsorted(-cosines, -at + TIE, side="right") - 1]
        odds: Floats = np.log(reached / (pairs + 1 - reached))
        return odds

    climb = log_odds(grid - STRETCH / 2) - log_odds(grid + STRETCH / 2)
    climb[running[np.searchsorted(-cosines, -grid, side="right") - 1] > rows] = np.inf
    flat = grid[np.flatnonzero(climb <= climb.min() + ABOUT_AS_FLAT)[-1]]
    return float(cosines[cosines >= flat][-1])


def neighbours(index: Index, vectors: NDArray[np.float32], k: int) -> list[Near]:
    """Find the response attributes nearest to C cruxes: enough for k pairs and the whole tie at the k-th.

    Args:
        index: the opened index.
        vectors: (C, d) unit rows.
        k: pairs.
    """
    scanner, room = index.scanner("response"), k + 1000
    while True:
        cosines, ids = scanner.top_k(vectors, room)
        if room >= scanner.rows or (cosines[:, k - 1] > cosines[:, -1] + 1e-5).all():
            return [(ids[c], cosines[c]) for c in range(len(vectors))]
        room *= 2


def similar(index: Index, vector: NDArray[np.float32], threshold: float, known: Near | None = None) -> Near:
    """Find every response attribute at least as similar to a crux as ``threshold``, most similar first.

    Args:
        index: the opened index.
        vector: (d,) unit row.
        threshold: cosine.
        known: what is known of the nearest attributes already; scanned only if that is not enough.
    """
    if known is not None and known[1][-1] < threshold:
        ids, cosines = known
        near = cosines >= threshold
        return ids[near], cosines[near]
    return index.scanner("response").above(vector, threshold)
