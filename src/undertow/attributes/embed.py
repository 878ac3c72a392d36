"""Embed attribute sentences once each: equal sentences are one vector with a multiplicity."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undertow.models.base import Embedder
from undertow.progress import SILENT, Progress

BATCH = 4096
"""Sentences embedded between two reports of progress."""


@dataclass(frozen=True)
class Distinct:
    """Distinct sentences of a list."""

    texts: list[str]
    """First spelling of each, in order of appearance, (m,)."""
    keys: list[bytes]
    """128-bit hash of each normalised sentence, (m,)."""
    weights: NDArray[np.int64]
    """How often each occurs, (m,)."""
    ids: NDArray[np.int64]
    """Number of the distinct sentence at each place of the list, (n,)."""


def sentence_key(text: str) -> bytes:
    """Hash of a sentence regardless of Unicode form, case and outer white space (128 bits)."""
    normal = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).strip()
    return hashlib.blake2b(normal.encode("utf-8", "replace"), digest_size=16).digest()


def distinct(texts: Sequence[str]) -> Distinct:
    """Number the distinct sentences of a list."""
    numbers: dict[bytes, int] = {}
    first: list[str] = []
    ids = np.empty(len(texts), np.int64)
    for place, text in enumerate(texts):
        key = sentence_key(text)
        ids[place] = numbers.setdefault(key, len(numbers))
        if len(numbers) > len(first):
            first.append(text)
    return Distinct(first, list(numbers), np.bincount(ids, minlength=len(first)), ids)


def embed_distinct(
    texts: Sequence[str], embedder: Embedder, progress: Progress = SILENT
) -> tuple[Distinct, NDArray[np.float32]]:
    """Embed each distinct sentence once.

    Returns:
        The distinct sentences and their unit vectors, (m, d).
    """
    unique = distinct(texts)
    out = np.zeros((len(unique.texts), embedder.dim), np.float32)
    with progress.task("embed attributes", len(unique.texts)) as task:
        for start in range(0, len(unique.texts), BATCH):
            part = unique.texts[start : start + BATCH]
            out[start : start + len(part)] = embedder.embed(part)
            task.advance(len(part))
    return unique, out
