"""``undertow prefs sae``: train an autoencoder on a policy's residual stream over a preference set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from undertow.data.preferences import load_preferences
from undertow.models.local import model_revision
from undertow.preference.model_sae import save_sae, train_model_sae
from undertow.preference.policy import Policy, exchanges_of
from undertow.progress import SILENT, Progress
from undertow.store.run import RunDir
from undertow.store.undo import working_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from undertow.data.preferences import PreferenceData

WIDE = 4096
"""Width of the paper's model, at which k is 128."""
LEAST_TOP = 8


class SaeConfig(BaseModel):
    """Settings of ``undertow prefs sae``; numbers in brackets are the paper's (Bergen et al. 2026)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: int | None = Field(None, ge=0, description="Block whose output is read; None: the middle one.")
    expansion: int = Field(16, ge=1, description="Features for each dimension (16).")
    top: int | None = Field(
        None, ge=1, description="Features a token, on average; None: 128 at width 4096, in proportion (128)."
    )
    tokens: int = Field(500_000, ge=1000, description="Response tokens to train on, at most.")
    steps: int = Field(2000, ge=1, description="Steps of Adam.")
    batch: int = Field(1024, ge=1, description="Tokens a step.")
    seed: int = Field(0, ge=0, description="Exchanges drawn, weights, order.")
    skip_bad: bool = Field(False, description="Leave unreadable lines out and count them.")


def train_sae(
    data: Path,
    model: str,
    out: Path,
    config: SaeConfig | None = None,
    progress: Progress = SILENT,
    fresh: bool = False,
) -> dict[str, Any]:
    """Train a BatchTopK autoencoder and write it in SAELens' layout beside the run's summary.

    Args:
        data: preference set whose responses are read.
        model: folder of a causal language model, or a hub id.
        out: run directory: ``cfg.json``, ``sae_weights.safetensors``, ``summary.json``.
        config: settings.
        progress: hears about the work.
        fresh: empty a run directory of ours first.

    Returns:
        The summary: ``explained`` variance, ``active`` features a token, share ``alive``, tokens.

    Raises:
        UsageError: data or model cannot be used, or ``out`` holds something else.
    """
    config = config or SaeConfig()
    pairs = load_preferences(data, skip_bad=config.skip_bad)
    inputs = {"data": pairs.hash, "model": model_revision(model) or model}
    run = RunDir.open(Path(out), "prefs sae", {**config.model_dump(), "model": model}, inputs, fresh)
    with working_in(run, undone_by=BaseException):
        if run.complete:
            return run.summary()
        policy = Policy(model)
        layer = policy.layers // 2 if config.layer is None else config.layer
        vectors = response_tokens(pairs, policy, layer, config.tokens, config.seed, progress)
        top = config.top or max(LEAST_TOP, round(128 * policy.width / WIDE))
        features = config.expansion * policy.width
        trained = train_model_sae(
            vectors, layer, features, top, config.steps, config.batch, config.seed, progress
        )
        save_sae(trained.sae, run.path, policy.name)
        return run.finish("complete", {
            "layer": layer, "width": policy.width, "features": features, "top": top,
            "tokens": trained.tokens, "dropped_for_norm": trained.dropped, "explained": trained.explained,
            "active": trained.active, "alive": trained.alive,
        })  # fmt: skip


def response_tokens(
    pairs: PreferenceData, policy: Policy, layer: int, most: int, seed: int, progress: Progress = SILENT
) -> NDArray[np.float32]:
    """Residual vectors of response tokens of exchanges drawn at random, (T, d), T ≤ ``most``."""
    exchanges = exchanges_of(pairs, policy)[0]
    order = np.random.default_rng(seed).permutation(len(exchanges))
    sizes = np.cumsum([len(exchanges[i].tokens) - exchanges[i].start for i in order])
    drawn = [exchanges[i] for i in order[: int(np.searchsorted(sizes, most)) + 1]]
    parts = []
    with progress.task("read the policy", len(drawn)) as task:
        for stream in policy.read(drawn, [layer]):
            parts.append(stream.vectors[layer][stream.response])
            task.advance(len(np.unique(stream.rows)))
    return np.concatenate(parts)[:most]
