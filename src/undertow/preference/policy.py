"""The residual stream of a local policy over prompts and responses, read by a forward hook."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.models.local import load_weights

if TYPE_CHECKING:
    from undertow.data.preferences import PreferenceData

Floats = NDArray[np.float32]

TOKENS = 4096
"""Padded tokens of one forward pass."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One prompt with one response, as the policy reads it."""

    tokens: tuple[int, ...]
    """Token ids."""
    start: int
    """Where the response begins."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Residual vectors of some exchanges; T tokens."""

    rows: NDArray[np.int64]
    """Exchange of each token, (T,)."""
    response: NDArray[np.bool_]
    """Whether the token is of the response, (T,)."""
    vectors: dict[int, Floats]
    """Layer → output of that block, (T, d)."""


class Policy:
    """A causal language model of transformers that is read, not sampled."""

    def __init__(self, path: str | Path, device: str | None = None) -> None:
        """Load weights and tokenizer.

        Raises:
            UsageError: nothing loadable at ``path``, or no stack of blocks in it.
        """
        self._model, self.tokenizer = load_weights(str(path), device)
        self.name = str(path)
        config = self._model.config.get_text_config()
        self.layers, self.width = int(config.num_hidden_layers), int(config.hidden_size)
        self._context = int(getattr(config, "max_position_embeddings", 0) or 1 << 20)
        self._blocks = self._find_blocks()

    def _find_blocks(self) -> Any:
        import torch

        for module in self._model.modules():
            if isinstance(module, torch.nn.ModuleList) and len(module) == self.layers:
                return module
        raise UsageError(f"{self.name}: no stack of {self.layers} blocks is found in this model")

    def exchange(self, turns: Sequence[dict[str, str]], response: str) -> Exchange:
        """Tokens of turns (the last the user's) and a response, cut at the end to the context."""
        template = self.tokenizer.chat_template
        if template:
            text = self.tokenizer.apply_chat_template(list(turns), add_generation_prompt=True, tokenize=False)
            asked = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            asked = self.tokenizer("\n".join(turn["content"] for turn in turns) + "\n")["input_ids"]
        asked = asked[-max(1, self._context // 2) :]
        said = self.tokenizer(response, add_special_tokens=False)["input_ids"]
        return Exchange(tuple((asked + said)[: self._context]), len(asked))

    def read(self, exchanges: Sequence[Exchange], layers: Sequence[int]) -> Iterator[Stream]:
        """Outputs of blocks ``layers`` (from 0), batch by batch; long exchanges first.

        Raises:
            UsageError: a layer that the model does not have.
        """
        wrong = [layer for layer in layers if not 0 <= layer < self.layers]
        if wrong:
            raise UsageError(f"{self.name}: no layer {wrong[0]}; it has 0 to {self.layers - 1}")
        order = sorted(range(len(exchanges)), key=lambda i: -len(exchanges[i].tokens))
        while order:
            size = max(1, TOKENS // max(1, len(exchanges[order[0]].tokens)))
            rows, order = order[:size], order[size:]
            yield self._forward([exchanges[i] for i in rows], np.array(rows), layers)

    def _forward(self, batch: Sequence[Exchange], rows: NDArray[np.int64], layers: Sequence[int]) -> Stream:
        import torch

        length = max(1, max(len(each.tokens) for each in batch))
        ids = torch.zeros((len(batch), length), dtype=torch.long)
        mask = torch.zeros((len(batch), length), dtype=torch.long)
        for i, each in enumerate(batch):
            ids[i, : len(each.tokens)] = torch.tensor(each.tokens, dtype=torch.long)
            mask[i, : len(each.tokens)] = 1
        caught: dict[int, Any] = {}
        hooks = [self._blocks[layer].register_forward_hook(_catch(caught, layer)) for layer in layers]
        try:
            with torch.inference_mode():
                on = self._model.device
                self._model(input_ids=ids.to(on), attention_mask=mask.to(on), use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        real = mask.bool()
        starts = np.array([each.start for each in batch])
        response = np.arange(length)[None] >= starts[:, None]
        return Stream(
            np.repeat(rows, [len(each.tokens) for each in batch]),
            response[real.numpy()],
            {layer: caught[layer].float().cpu()[real].numpy() for layer in layers},
        )


def _catch(caught: dict[int, Any], layer: int) -> Any:
    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        caught[layer] = output[0] if isinstance(output, tuple) else output

    return hook


def exchanges_of(
    data: PreferenceData, policy: Policy
) -> tuple[list[Exchange], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Distinct exchanges of a preference set, and which of them each side of each pair is."""
    places: dict[tuple[int, str], int] = {}
    made: list[Exchange] = []
    sides = []
    for side in ("chosen", "rejected"):
        numbers = np.empty(len(data), np.int64)
        for batch_start in range(0, len(data), 10_000):
            part = data.table.slice(batch_start, 10_000)
            columns = (part[name].to_pylist() for name in ("prompt", "history", side))
            for i, (prompt, history, response) in enumerate(zip(*columns, strict=True), start=batch_start):
                key = (int(data.prompt_group[i]), response)
                if key not in places:
                    turns = [*json.loads(history or "[]"), {"role": "user", "content": prompt}]
                    places[key] = len(made)
                    made.append(policy.exchange(turns, response))
                numbers[i] = places[key]
        sides.append(numbers)
    return made, (sides[0], sides[1])
