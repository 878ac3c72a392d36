"""Activations with known plants: what an audit must find and what it must leave."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from undertow.preference.audit import Material
from undertow.preference.concepts import Activations, Concept

BOLD, PRAISE, LONG = 0, 1, 2
PHYSICS = 3


def planted(
    seed: int, prompts: int = 1200, per: int = 4, concepts: int = 30, swapped: bool = False
) -> Material:
    """Bold is chosen everywhere, praise on one topic of 25 alone, LONG stands on the longer side, no more."""
    rng = np.random.default_rng(seed)
    n, prompt = prompts * per, np.repeat(np.arange(prompts), per)
    topic = rng.integers(0, 25, prompts)[prompt]
    share = rng.random(concepts) * 0.3
    chosen, rejected = ((rng.random((n, concepts)) < share) * rng.random((n, concepts)) for _ in range(2))
    bold, praised = rng.random(n) < 0.3, (topic == PHYSICS) & (rng.random(n) < 0.6)
    chosen[bold, BOLD], rejected[bold, BOLD] = 0.5, 0
    chosen[praised, PRAISE], rejected[praised, PRAISE] = 0.5, 0
    length = rng.normal(size=n) + 0.8
    chosen[:, LONG] = ((length > 0) & (rng.random(n) < 0.5)) * 0.4
    rejected[:, LONG] = ((length < 0) & (rng.random(n) < 0.5)) * 0.4
    if swapped:
        turn = (rng.random(prompts) < 0.5)[prompt]
        chosen, rejected = (
            np.where(turn[:, None], *sides) for sides in ((rejected, chosen), (chosen, rejected))
        )
        length = np.where(turn, -length, length)
    named = tuple(Concept(f"c{i}", f"The response shows {i}.", "local") for i in range(concepts))
    sides = (sparse.csr_matrix(side.astype(np.float32)) for side in (chosen, rejected))
    names = tuple(f"topic {i}" for i in range(25))
    return Material(Activations(named, *sides), None, (topic, names), prompt, length, None)
