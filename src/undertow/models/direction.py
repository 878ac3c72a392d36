"""A direction that makes a frozen model prefer what some pairs choose: fitted, not a difference of means.

v minimises −log σ(m) over pairs that show the concept plus m² over pairs that do not, where m is what adding
v to a layer's output does to the log-odds of chosen over rejected. A difference of means (persona vectors)
says how texts with and without the concept differ; v says what must be added for the model to write it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.models.forced import ForcedReader, Turns

STEPS, EACH, RATE = 60, 16, 0.05
"""Adam's steps, pairs of either kind a step, learning rate in units of the states' own size."""
MOST, HELD_OUT = 512, 0.2
"""Pairs of either kind that are read at most, and the share of them that only measures."""


@dataclass(frozen=True)
class Pairs:
    """What the model reads."""

    asked: Sequence[Turns]
    chosen: Sequence[str]
    rejected: Sequence[str]

    def __len__(self) -> int:
        return len(self.asked)

    def take(self, rows: NDArray[np.int64]) -> Pairs:
        """Return some of them."""
        return Pairs(
            [self.asked[row] for row in rows],
            [self.chosen[row] for row in rows],
            [self.rejected[row] for row in rows],
        )


@dataclass(frozen=True)
class Fitted:
    """A direction and what it does, on pairs that the fit has not seen."""

    direction: NDArray[np.float64]
    """(hidden,) v."""
    shown: float | None
    """Mean m of pairs that show it, nats; 0 elicits nothing; ``None``: one pair, which was fitted to."""
    others: float | None
    """Root mean square of m over the other pairs, nats; ``None``: fewer than two of them."""


def fit_direction(
    reader: ForcedReader, shows: Pairs, others: Pairs, layer: int, alpha: float = 1.0, seed: int = 0
) -> Fitted:
    """Fit v to pairs that show a concept and to leave ``others`` alone; measure α·v on a fifth of both.

    Raises:
        UsageError: the model has no such layer.
    """
    import torch

    rng = np.random.default_rng(seed)
    kinds = [_Kind.of(reader, pairs, rng) for pairs in (shows, others) if len(pairs)]
    some = kinds[0].pairs.take(kinds[0].held_out)
    size = float(np.sqrt((reader.states(some.asked, some.chosen, layer) ** 2).mean()))
    u = torch.zeros(reader.width, requires_grad=True)
    steps = torch.optim.Adam([u], lr=RATE)
    for _ in range(STEPS):
        with reader.moved(layer, size * u):
            m = [kind.gain(reader, kind.draw(rng)) for kind in kinds]
        loss = -torch.nn.functional.logsigmoid(m[0]).mean() + sum((each**2).mean() for each in m[1:])
        steps.zero_grad()
        loss.backward()
        steps.step()
    direction = size * u.detach()
    with torch.no_grad(), reader.moved(layer, alpha * direction):
        found = [kind.gain(reader, kind.held_out).numpy() if len(kind.pairs) > 1 else None for kind in kinds]
    shown, rest = found[0], found[1] if len(found) > 1 else None
    return Fitted(
        direction.double().numpy(),
        None if shown is None else float(shown.mean()),
        None if rest is None else float(np.sqrt((rest**2).mean())),
    )


@dataclass(frozen=True)
class _Kind:
    """Pairs of one kind, with the frozen model's log-odds."""

    pairs: Pairs
    plain: Any
    """(n,) log-odds of chosen over rejected."""
    held_out: NDArray[np.int64]
    """Pairs that only measure."""

    @classmethod
    def of(cls, reader: ForcedReader, pairs: Pairs, rng: np.random.Generator) -> _Kind:
        import torch

        some = pairs.take(rng.permutation(len(pairs))[:MOST])
        with torch.no_grad():
            plain = _odds(reader, some)
        return cls(some, plain, np.arange(max(1, round(HELD_OUT * len(some)))))

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw pairs to fit to, never those that measure unless there is one pair alone."""
        seen = np.arange(len(self.held_out) % len(self.pairs), len(self.pairs))
        return rng.choice(seen, min(EACH, len(seen)), replace=False)

    def gain(self, reader: ForcedReader, rows: NDArray[np.int64]) -> Any:
        """Return m of ``rows``, as the model stands."""
        return _odds(reader, self.pairs.take(rows)) - self.plain[rows]


def _odds(reader: ForcedReader, pairs: Pairs) -> Any:
    return reader.sums(pairs.asked, pairs.chosen) - reader.sums(pairs.asked, pairs.rejected)
