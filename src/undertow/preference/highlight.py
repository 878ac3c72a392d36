"""Where in a response a concept fires, for people to see; no number is made of it.

Surface features are found by their own patterns and phrases, mined wordings by their words; a feature of the
embedding autoencoder by the surface concepts that describe it. Length and a policy's features are nowhere.
"""

from __future__ import annotations

import re
from functools import lru_cache

from undertow.preference.features import MARKED, SPOKEN, python_regex

Span = tuple[int, int]

MOST = 60
"""Spans of one text; a concept that fires more often than that shows."""
_LONGEST = 20_000
"""Characters that are searched."""
_SPACE = r"[\W_]{1,4}"
"""Between two words of a phrase."""
_OWN = {
    "ends cut off": r"(?<![^\s.!?])[^\s.!?]+\s*\Z",
    "e-mail address": r"(?<![\w.+-])[\w.+-]+@[\w-]+\.[a-zA-Z]{2,}",
    "other script": r"[\u0370-\u052f\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"
    r"\uac00-\ud7af]+",
}
"""Where Arrow's expressions have no equal here, or would take the square of a text's length."""


def fires_at(name: str, text: str) -> tuple[Span, ...]:
    """Where the concept called ``name`` fires in ``text``: spans in order, none overlapping."""
    found: list[Span] = []
    for pattern in _patterns(name):
        found += [match.span() for match in pattern.finditer(text[:_LONGEST])][:MOST]
    return _merged(found)


def _merged(spans: list[Span]) -> tuple[Span, ...]:
    kept: list[Span] = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if kept and start <= kept[-1][1]:
            kept[-1] = kept[-1][0], max(end, kept[-1][1])
        else:
            kept.append((start, end))
    return tuple(kept[:MOST])


@lru_cache(maxsize=4096)
def _patterns(name: str) -> tuple[re.Pattern[str], ...]:
    if name in _known():
        return (re.compile(_known()[name]),)
    kind, _, said = name.partition(": ")
    if kind in ("word", "opens"):
        said = re.sub(r" \(\d+\)$", "", said)
        return (re.compile(rf"(?i)\A\W*{_phrase(said)}" if kind == "opens" else rf"(?i){_phrase(said)}"),)
    if kind.startswith("embedding "):
        parts = [part for part in said.split(", ") if not part.startswith("not ")]
        return tuple(pattern for part in parts for pattern in _patterns(part))
    return ()


@lru_cache(maxsize=1)
def _known() -> dict[str, str]:
    marked = {each.name: _OWN.get(each.name) or python_regex(each.regex) for each in MARKED}
    spoken = {each.name: "(?i)" + "|".join(map(_phrase, each.phrases.split(","))) for each in SPOKEN}
    return marked | spoken


def _phrase(said: str) -> str:
    words = [re.escape(word).replace("'", "['’]") for word in re.split(r"[^\w'’]+", said) if word]
    return rf"(?<!\w){_SPACE.join(words)}(?!\w)" if words else r"(?!)"
