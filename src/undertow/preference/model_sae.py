"""Sparse autoencoders of a residual stream: read from and written in SAELens' layout, and trained here.

A folder holds ``cfg.json`` and ``sae_weights.safetensors`` (W_enc, b_enc, W_dec, b_dec, threshold). What is
trained is BatchTopK (Bussmann et al. 2024), saved as the JumpReLU that it is at inference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.progress import SILENT, Progress
from undertow.store.tables import atomic_write_json, read_json, replace_atomically

Floats = NDArray[np.float32]

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
ARCHITECTURES = ("standard", "jumprelu", "topk")
LOUDEST = 6.0
"""Tokens with a norm above so many times the mean are left out of training."""
DEAD_STEPS = 200
"""Steps without firing after which a feature helps to reconstruct what is left (AuxK)."""


@dataclass(frozen=True)
class ModelSae:
    """An autoencoder of one layer's residual stream."""

    encoder: Floats
    """W_enc, (d, F)."""
    encoder_bias: Floats
    """b_enc, (F,)."""
    decoder: Floats
    """W_dec, (F, d)."""
    decoder_bias: Floats
    """b_dec, (d,)."""
    threshold: Floats | None
    """JumpReLU thresholds, (F,)."""
    top: int | None
    """Features kept a token, for architecture ``topk``."""
    layer: int
    """Block whose output it reads, from 0; -1 is what goes into block 0."""
    centred: bool = True
    """Whether b_dec is taken off the input."""

    @property
    def size(self) -> int:
        """Features F."""
        return int(self.encoder.shape[1])

    def encode(self, vectors: Floats) -> Floats:
        """Activations a ≥ 0 of tokens, (T, F)."""
        x = vectors - self.decoder_bias if self.centred else vectors
        pre = x @ self.encoder + self.encoder_bias
        if self.threshold is not None:
            return np.where(pre > self.threshold, np.maximum(pre, 0), 0).astype(np.float32)
        pre = np.maximum(pre, 0)
        if self.top is not None and self.top < self.size:
            least = np.partition(pre, self.size - self.top, axis=1)[:, self.size - self.top, None]
            pre = np.where(pre >= least, pre, 0)
        return pre.astype(np.float32)

    def decode(self, activations: Floats) -> Floats:
        """Reconstructed vectors, (T, d)."""
        return np.asarray(activations @ self.decoder + self.decoder_bias, np.float32)


def load_sae(folder: Path) -> ModelSae:
    """Read SAELens' layout.

    Raises:
        UsageError: files or tensors are missing, shapes differ, or the architecture is another one.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    kind = config.get("architecture", "standard")
    if kind not in ARCHITECTURES:
        raise UsageError(f"{folder}: architecture {kind!r} cannot be read; {', '.join(ARCHITECTURES)} can")
    scaling = config.get("normalize_activations", "none")
    if scaling not in (None, "none"):
        raise UsageError(f"{folder}: normalize_activations is {scaling!r}; fold it into the weights first")
    tensors = _tensors(folder / WEIGHTS)
    _check(folder, tensors, kind)
    top = int(config.get("k", 0)) or None if kind == "topk" else None
    return ModelSae(
        tensors["W_enc"], tensors["b_enc"], tensors["W_dec"], tensors["b_dec"],
        tensors.get("threshold") if kind == "jumprelu" else None,
        top, _layer(folder, config), bool(config.get("apply_b_dec_to_input", True)),
    )  # fmt: skip


def _tensors(path: Path) -> dict[str, Floats]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            return {name: stored.get_tensor(name).float().numpy() for name in stored.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except SafetensorError as error:
        raise UsageError(f"{path}: not readable safetensors ({str(error).splitlines()[0]})") from None


def _check(folder: Path, tensors: dict[str, Floats], kind: str) -> None:
    needed = ["W_enc", "b_enc", "W_dec", "b_dec", *(["threshold"] if kind == "jumprelu" else [])]
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise UsageError(f"{folder / WEIGHTS}: no tensor {missing[0]}; it has {', '.join(sorted(tensors))}")
    d, f = tensors["W_enc"].shape
    shapes = {"W_enc": (d, f), "b_enc": (f,), "W_dec": (f, d), "b_dec": (d,), "threshold": (f,)}
    wrong = [name for name in needed if tensors[name].shape != shapes[name]]
    if wrong:
        found = tensors[wrong[0]].shape
        raise UsageError(f"{folder / WEIGHTS}: {wrong[0]} is {found}, but W_enc asks for {shapes[wrong[0]]}")


def _layer(folder: Path, config: dict[str, Any]) -> int:
    """Block of the hook ``blocks.L.hook_resid_post`` or ``_pre``."""
    named = config.get("hook_name") or (config.get("metadata") or {}).get("hook_name") or ""
    found = re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", str(named))
    if not found:
        raise UsageError(
            f"{folder / CONFIG}: hook {named!r} is no residual stream (blocks.L.hook_resid_post)"
        )
    layer = int(found[1]) - (found[2] == "pre")
    if layer < 0:
        raise UsageError(
            f"{folder / CONFIG}: the stream before the first block cannot be read; give a later one"
        )
    return layer


def save_sae(sae: ModelSae, folder: Path, model: str) -> None:
    """Write a JumpReLU autoencoder in SAELens' layout."""
    import torch
    from safetensors.torch import save_file

    threshold = sae.threshold if sae.threshold is not None else np.zeros(sae.size, np.float32)
    named = {"W_enc": sae.encoder, "b_enc": sae.encoder_bias, "W_dec": sae.decoder, "b_dec": sae.decoder_bias}
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(each))
        for name, each in (*named.items(), ("threshold", threshold))
    }
    replace_atomically(folder / WEIGHTS, lambda path: save_file(tensors, str(path)))
    hook = f"blocks.{sae.layer}.hook_resid_post"
    config = {
        "architecture": "jumprelu", "d_in": sae.encoder.shape[0], "d_sae": sae.size, "dtype": "float32",
        "device": "cpu", "apply_b_dec_to_input": sae.centred, "normalize_activations": "none",
        "metadata": {"model_name": model, "hook_name": hook, "hook_head_index": None},
    }  # fmt: skip
    atomic_write_json(folder / CONFIG, config)


@dataclass(frozen=True, slots=True)
class Trained:
    """An autoencoder and how its training went."""

    sae: ModelSae
    """Ready to be saved."""
    explained: float
    """Share of the variance of held-out tokens that is reconstructed."""
    active: float
    """Features that fire on a held-out token, on average."""
    alive: float
    """Share of features that fire on some held-out token."""
    tokens: int
    """Tokens trained on."""
    dropped: int
    """Tokens left out for their norm."""


def train_model_sae(
    vectors: Floats,
    layer: int,
    features: int,
    top: int,
    steps: int = 2000,
    batch: int = 1024,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Trained:
    """Train BatchTopK on residual vectors (T, d); a twentieth of the tokens is held out.

    Args:
        vectors: tokens, (T, d).
        layer: where they are from.
        features: F.
        top: k, features that fire on a token on average.
        steps: of Adam.
        batch: tokens a step.
        seed: of weights, order and what is held out.
        progress: hears about steps.
    """
    import torch

    norms = np.linalg.norm(vectors, axis=1)
    quiet = norms <= LOUDEST * norms.mean()
    kept = vectors[quiet]
    order = np.random.default_rng(seed).permutation(len(kept))
    held = kept[order[: max(1, len(kept) // 20)]]
    data = torch.from_numpy(kept[order[len(held) :] if len(kept) > 1 else order])
    scale = float(np.sqrt(vectors.shape[1])) / max(float(norms[quiet].mean()), 1e-8)
    training = _Training(data * scale, features, top, seed)
    with progress.task("train the autoencoder", steps) as task:
        for step in range(steps):
            training.step(batch, step, steps)
            task.advance()
    sae = training.finished(layer, scale)
    a = sae.encode(held)
    left = ((held - sae.decode(a)) ** 2).sum() / max(float(((held - held.mean(0)) ** 2).sum()), 1e-12)
    return Trained(
        sae, 1 - float(left), float((a > 0).sum(1).mean()), float((a > 0).any(0).mean()), len(data),
        int((~quiet).sum()),
    )  # fmt: skip


class _Training:
    """Weights in units in which a token's norm is √d."""

    def __init__(self, data: Any, features: int, top: int, seed: int) -> None:
        import torch

        self._random = torch.Generator().manual_seed(seed)
        width = data.shape[1]
        self._data, self._top = data, min(top, features)
        decoder = torch.randn((features, width), generator=self._random)
        self._decoder = (decoder / decoder.norm(dim=1, keepdim=True)).requires_grad_()
        self._encoder = self._decoder.detach().T.clone().requires_grad_()
        self._bias = torch.zeros(features, requires_grad=True)
        self._centre = data.mean(0).clone().requires_grad_()
        weights = [self._decoder, self._encoder, self._bias, self._centre]
        self._adam = torch.optim.Adam(weights, lr=1e-3, betas=(0.9, 0.99))
        self._silent = torch.zeros(features)
        self._least = 0.0

    def step(self, batch: int, number: int, steps: int) -> None:
        import torch

        x = self._data[torch.randint(len(self._data), (batch,), generator=self._random)]
        pre = torch.relu((x - self._centre) @ self._encoder + self._bias)
        least = pre.detach().flatten().topk(self._top * len(x)).values[-1].clamp_min(1e-6)
        a = pre * (pre >= least)
        left = x - (a @ self._decoder + self._centre)
        loss = left.square().sum(1).mean() + self._revived(pre, left.detach())
        self._adam.param_groups[0]["lr"] = 1e-3 * min(1.0, 3 * (1 - number / steps))
        self._adam.zero_grad()
        loss.backward()
        self._adam.step()
        with torch.no_grad():
            self._decoder /= self._decoder.norm(dim=1, keepdim=True)
            self._silent = torch.where((a > 0).any(0), 0, self._silent + 1)
            self._least = float(least) if not self._least else 0.99 * self._least + 0.01 * float(least)

    def _revived(self, pre: Any, left: Any) -> Any:
        """1/32 of what dead features leave of the error (Gao et al. 2024, §A.2)."""
        import torch

        dead = self._silent > DEAD_STEPS
        if not bool(dead.any()):
            return torch.zeros(())
        some = pre[:, dead] if bool((pre[:, dead] > 0).any()) else torch.zeros_like(pre[:, dead])
        values, at = some.topk(min(2 * self._top, some.shape[1]), dim=1)
        helped = torch.zeros_like(some).scatter(1, at, values) @ self._decoder[dead]
        return (left - helped).square().sum(1).mean() / 32

    def finished(self, layer: int, scale: float) -> ModelSae:
        """In the model's own units: activations and thresholds shrink by ``scale``, directions stay."""
        encoder, decoder, bias, centre = (
            each.detach().numpy().astype(np.float32)
            for each in (self._encoder, self._decoder, self._bias, self._centre)
        )
        threshold = np.full(len(bias), self._least / scale, np.float32)
        return ModelSae(encoder, bias / scale, decoder, centre / scale, threshold, None, layer)
