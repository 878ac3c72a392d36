"""A sparse autoencoder of differences of embeddings: signed BatchTopK with Matryoshka prefixes, in NumPy.

After Movva et al. 2025 ("What's in my human feedback?"): M = 32 features of which K = 4 fire on average.
Departure: instead of adding -e_Δ to the data the encoder is odd (no bias, the K·B largest |z| of a batch
are kept with their sign), so that z(-e) = -z(e) holds exactly and no label can enter the training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SaeSettings:
    """How it is trained."""

    features: int = 32
    """M."""
    active: int = 4
    """K: features that fire on a difference, on average."""
    prefixes: tuple[int, ...] = (8, 32)
    """The first so many features must reconstruct by themselves; those above M count as M."""
    steps: int = 1500
    batch: int = 512
    rate: float = 3e-3
    """Step size of Adam, falling to 0 over the last half."""
    patience: int = 200
    """Steps without firing after which a feature begins anew from what is not reconstructed."""


DEFAULT = SaeSettings()


@dataclass(frozen=True)
class SignedSae:
    """A trained autoencoder."""

    encoder: Floats
    """(d, M)."""
    decoder: Floats
    """Unit rows, (M, d)."""
    threshold: float
    """Least |z| that fires: the mean of the least kept over the last batches."""
    explained: float
    """Share of the variance of held-out rows that it reconstructs."""

    def encode(self, rows: Floats) -> Floats:
        """Signed activations, 0 where |z| is below the threshold, (n, M)."""
        z = rows @ self.encoder
        return np.where(np.abs(z) >= self.threshold, z, 0).astype(np.float32)


def train_signed_sae(rows: Floats, settings: SaeSettings = DEFAULT, seed: int = 0) -> SignedSae:
    """Train on differences (n, d); a tenth is held out for ``explained``."""
    rng = np.random.default_rng(seed)
    scale = float(np.sqrt(np.mean(np.sum(rows**2, axis=1)))) or 1.0
    order = rng.permutation(len(rows))
    kept = max(1, len(rows) // 10)
    held, data = rows[order[:kept]] / scale, rows[order[kept:] if len(rows) > 1 else order] / scale
    width = min(settings.features, max(1, len(data)))
    decoder = _unit(data[rng.choice(len(data), width, replace=False)] + 1e-6)
    state = _Training(decoder.T.copy(), decoder, settings, rng)
    for step in range(settings.steps):
        state.step(data[rng.integers(0, len(data), min(settings.batch, len(data)))], step)
    threshold = float(np.mean(state.least[-100:]))
    trained = SignedSae(state.encoder, state.decoder, threshold, 0.0)
    left = held - trained.encode(held) @ state.decoder
    explained = 1 - float((left**2).sum() / max(float((held**2).sum()), 1e-12))
    return SignedSae(state.encoder, state.decoder, threshold * scale, explained)


class _Training:
    """Weights and what Adam remembers of them."""

    def __init__(
        self, encoder: Floats, decoder: Floats, settings: SaeSettings, rng: np.random.Generator
    ) -> None:
        self.encoder, self.decoder = encoder.astype(np.float32), decoder.astype(np.float32)
        self.settings, self.rng = settings, rng
        self.least: list[float] = []
        self._moments = [np.zeros_like(w) for w in (encoder, encoder, decoder, decoder)]
        self._silent = np.zeros(decoder.shape[0], np.int64)

    def step(self, x: Floats, number: int) -> None:
        """One batch."""
        z = x @ self.encoder
        count = min(z.size, self.settings.active * len(x))
        least = np.partition(np.abs(z).ravel(), z.size - count)[z.size - count]
        self.least.append(float(least))
        mask = np.abs(z) >= least
        a = z * mask
        grad_a, grad_d, left = self._gradients(x, a)
        grad_e = x.T @ (grad_a * mask)
        share = number / self.settings.steps
        rate = self.settings.rate * min(1.0, 2 * (1 - share))
        self._adam(self.encoder, grad_e, 0, number + 1, rate)
        self._adam(self.decoder, grad_d, 2, number + 1, rate)
        self.decoder = _unit(self.decoder)
        self._revive(mask, left, share)

    def _gradients(self, x: Floats, a: Floats) -> tuple[Floats, Floats, Floats]:
        """Of the mean squared error, averaged over the prefixes."""
        prefixes = sorted({min(p, a.shape[1]) for p in (*self.settings.prefixes, a.shape[1])})
        grad_a, grad_d = np.zeros_like(a), np.zeros_like(self.decoder)
        left = x
        for p in prefixes:
            left = a[:, :p] @ self.decoder[:p] - x
            by = 2 * left / (len(x) * len(prefixes))
            grad_a[:, :p] += by @ self.decoder[:p].T
            grad_d[:p] += a[:, :p].T @ by
        return grad_a, grad_d, left

    def _adam(self, weights: Floats, grad: Floats, slot: int, number: int, rate: float) -> None:
        first, second = self._moments[slot], self._moments[slot + 1]
        first *= 0.9
        first += 0.1 * grad
        second *= 0.99
        second += 0.01 * grad * grad
        weights -= rate * (first / (1 - 0.9**number)) / (np.sqrt(second / (1 - 0.99**number)) + 1e-8)

    def _revive(self, mask: NDArray[np.bool_], left: Floats, share: float) -> None:
        self._silent = np.where(mask.any(axis=0), 0, self._silent + 1)
        dead = np.flatnonzero(self._silent >= self.settings.patience)
        if not len(dead) or share > 0.8:
            return
        fresh = _unit(-left[self.rng.integers(0, len(left), len(dead))] + 1e-6)
        self.decoder[dead], self.encoder[:, dead] = fresh, fresh.T
        for slot, axis in ((0, 1), (1, 1), (2, 0), (3, 0)):
            self._moments[slot][(slice(None), dead) if axis else dead] = 0
        self._silent[dead] = 0


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-8), np.float32)
