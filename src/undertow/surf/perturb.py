"""Small changes of a prompt that keep its substance (paper §3.2.3, Fig. 28), by rule and without a model."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

Edit = Callable[[str], str]


def _toggle_final_mark(prompt: str) -> str:
    return prompt[:-1].rstrip() if prompt.endswith((".", "?", "!")) else prompt + "."


def _toggle_first_case(prompt: str) -> str:
    return prompt[:1].swapcase() + prompt[1:]


def _before(words: str) -> Edit:
    return lambda prompt: words + prompt


def _after(words: str) -> Edit:
    return lambda prompt: prompt + words


EDITS: tuple[Edit, ...] = (
    _toggle_final_mark,
    _toggle_first_case,
    lambda prompt: prompt.replace(" ", "  ", 1),
    lambda prompt: prompt + "\n",
    lambda prompt: " " + prompt,
    _before("Please: "),
    _before("Hello. "),
    _before("A question: "),
    _after(" Thanks."),
    _after(" Please."),
)
"""Punctuation, case of the first letter, white space, lead-ins and thanks."""


def perturbations(prompt: str, n: int, rng: np.random.Generator) -> list[str]:
    """Return up to ``n`` distinct perturbed versions: single edits, then pairs, in random order."""
    single = [EDITS[i] for i in rng.permutation(len(EDITS))]
    pairs = list(combinations(range(len(EDITS)), 2))
    versions = [edit(prompt) for edit in single]
    if n > len(versions):
        versions += [EDITS[j](EDITS[i](prompt)) for i, j in (pairs[p] for p in rng.permutation(len(pairs)))]
    return [version for version in dict.fromkeys(versions) if version != prompt and version.strip()][:n]
