"""The archive: one elite and a count for each cause × kind of answer, and no near-copies among the elites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from undertow.surf.pool import Entry

Vector = NDArray[np.float32]
Embed = Callable[[str], Vector]
"""From a text to a vector of length 1."""

COPY = 0.95
"""Cosine above which two queries are the same."""
ALIKE = 0.5
"""Cosine above which two answers are of one kind."""
KINDS = 64
"""Kinds of answers told apart; a further one joins the nearest."""
WIDTH = 256
READ = 4_000
"""Characters of a text that are read."""


def fingerprint(text: str) -> Vector:
    """Hash words and pairs of words into a unit vector: an embedding of wording that needs no model."""
    words = text[:READ].lower().split()
    grams = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
    places = [crc32(gram.encode()) % WIDTH for gram in grams]
    vector = np.sqrt(np.bincount(places, minlength=WIDTH)).astype(np.float32)
    unit: Vector = vector / max(float(np.linalg.norm(vector)), 1e-9)
    return unit


@dataclass(slots=True)
class Niche:
    """One kind of answer to one cause."""

    elite: Entry
    """Best entry so far."""
    query: Vector
    """The elite's query."""
    count: int = 1
    """Entries that fell in here, copies too."""


class Niches:
    """At most ``capacity`` niches; the weakest gives way."""

    def __init__(self, capacity: int, embed: Embed = fingerprint) -> None:
        self.niches: dict[tuple[tuple[int, ...], int], Niche] = {}
        self._capacity = capacity
        self._embed = embed
        self._kinds: list[Vector] = []
        self._floor = 0.0
        """Score of the weakest elite."""

    def admit(self, entry: Entry, cause: tuple[int, ...], prompt: str, response: str) -> None:
        """Offer an entry: it is counted in its niche, and leads it if it is better and no copy of another."""
        if len(self.niches) >= self._capacity and entry.score <= self._floor:
            return
        key = (cause, self._kind(self._embed(response)))
        query = self._embed(prompt)
        niche = self.niches.get(key)
        copy = any(other.query @ query > COPY for other in self.niches.values() if other is not niche)
        if niche is not None:
            niche.count += 1
            if entry.score > niche.elite.score and not copy:
                niche.elite, niche.query = entry, query
        elif not copy:
            self.niches[key] = Niche(entry, query)
            if len(self.niches) > self._capacity:
                del self.niches[self._weakest]
        self._floor = self.niches[self._weakest].elite.score if self.niches else 0.0

    def top(self, n: int) -> list[Entry]:
        """Return the ``n`` best elites, best first."""
        return sorted((niche.elite for niche in self.niches.values()), key=lambda entry: -entry.score)[:n]

    @property
    def _weakest(self) -> tuple[tuple[int, ...], int]:
        return min(self.niches, key=lambda key: self.niches[key].elite.score)

    def _kind(self, answer: Vector) -> int:
        """Number the kind of an answer by its nearest example (leader clustering)."""
        cosines = [float(kind @ answer) for kind in self._kinds]
        nearest = int(np.argmax(cosines)) if cosines else -1
        if nearest >= 0 and (cosines[nearest] >= ALIKE or len(self._kinds) >= KINDS):
            return nearest
        self._kinds.append(answer)
        return len(self._kinds) - 1
