"""Which texts show a concept of the audit: to count in a model's answers what was found in pairs.

Only concepts that stand in the text: marked and spoken features, mined words and openings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.preference.features import MARKED, SPOKEN, python_regex
from undertow.preference.local import known_features

WORD, OPENS = "word: ", "opens: "
NAMES = tuple(feature.name for feature in (*MARKED, *SPOKEN))
"""Features that need no mining, in the order of :func:`known_features`."""


def shows(concept: str, texts: Sequence[str]) -> NDArray[np.bool_]:
    """Say for each of n texts whether it shows ``concept``, (n,).

    Args:
        concept: Name of a local concept, as the audit writes it.
        texts: Responses.

    Raises:
        UsageError: the concept is of a model or an embedding, or unknown.
    """
    if concept in NAMES:
        return shown_features(texts)[:, NAMES.index(concept)]
    pattern = word_pattern(concept)
    if pattern is None:
        raise UsageError(f"concept {concept!r}: cannot be told from a text alone; name a local concept")
    return np.array([bool(pattern.search(text)) for text in texts], np.bool_)


def shown_features(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Say which of the features :data:`NAMES` each of n texts shows, (n, features)."""
    if not texts:
        return np.zeros((0, len(NAMES)), np.bool_)
    return np.asarray((known_features(pa.array(texts, pa.string())) > 0).todense(), np.bool_)


def word_pattern(concept: str) -> re.Pattern[str] | None:
    """Return the pattern of a mined word or opening; ``None`` for any other concept."""
    for kind, start in ((WORD, r"(?<!\w)"), (OPENS, r"^\W*")):
        if concept.startswith(kind):
            said = r"\s+".join(re.escape(part) for part in concept.removeprefix(kind).split())
            return re.compile(rf"{start}{said}(?!\w)", re.IGNORECASE)
    return None


def mask_pattern(concept: str) -> str | None:
    """Return where in a text a concept stands, for a mask: the whole sentence around a word or phrase.

    A phrase alone would leave the rest of its sentence to be learned, which leads to it. ``None`` for what
    has no place in the text.
    """
    word = word_pattern(concept)
    if word is not None:
        return _sentence(word.pattern) if concept.startswith(WORD) else f"(?i){word.pattern}"
    spoken = {feature.name: feature.phrases for feature in SPOKEN}.get(concept)
    if spoken is not None:
        phrases = "|".join(re.escape(each.strip()) for each in spoken.split(","))
        return _sentence(rf"(?<!\w)(?:{phrases})(?!\w)")
    marked = {feature.name: feature.regex for feature in MARKED}.get(concept)
    if marked is None or r"\p{" in marked:
        return None
    return python_regex(marked)


def _sentence(pattern: str) -> str:
    return rf"(?i) ?[^.!?\n]*{pattern}[^.!?\n]*[.!?]*"
