"""A local model that reads given responses instead of writing its own: their log-probability, its states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.models.layers import layers_of
from undertow.models.local import load_weights

Turns = Sequence[dict[str, str]]
"""Role and content of each turn, oldest first, the user's last."""


class ForcedReader:
    """Weights and tokenizer; one method for each thing that reading gives."""

    def __init__(self, path: str, batch: int = 32) -> None:
        """Load the model in ``path``; ``batch`` responses are read together.

        Raises:
            UsageError: nothing loadable there.
        """
        self._model, self._tokenizer = load_weights(path.removeprefix("local:"), None)
        self._model.requires_grad_(False)
        self._batch = batch

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return int(self._model.config.get_text_config().num_hidden_layers)

    @property
    def width(self) -> int:
        """Width of its states."""
        return int(self._model.config.get_text_config().hidden_size)

    def log_probs(self, asked: Sequence[Turns], responses: Sequence[str]) -> NDArray[np.float64]:
        """Return log π(response | conversation), the sum over its tokens and the end token, (n,)."""
        import torch

        with torch.no_grad():
            found: NDArray[np.float64] = self.sums(asked, responses).double().numpy()
        return found

    def sums(self, asked: Sequence[Turns], responses: Sequence[str]) -> Any:
        """Return the same as a tensor (n,) on the CPU, through which :meth:`moved` can be differentiated."""
        import torch

        order, parts = [], []
        for rows, ids, mask, wanted in self._batches(asked, responses):
            logits = self._model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            each = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
            parts.append((each * wanted[:, 1:]).sum(1).cpu())
            order.append(rows)
        return torch.cat(parts)[np.argsort(np.concatenate(order))]

    @contextmanager
    def moved(self, layer: int, push: Any) -> Iterator[None]:
        """Add ``push`` (hidden,) to every output of ``layer`` (from 0) while it lasts."""

        def move(_module: Any, _inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (output[0] + push.to(output[0]), *output[1:])
            return output + push.to(output)

        handle = self._layer(layer).register_forward_hook(move)
        try:
            yield
        finally:
            handle.remove()

    def states(self, asked: Sequence[Turns], responses: Sequence[str], layer: int) -> NDArray[np.float64]:
        """Return the mean output of ``layer`` (from 0) over each response's tokens, (n, hidden).

        Not transformers' ``hidden_states``: there the last layer's stand behind the model's final norm.
        """
        parts: dict[int, NDArray[np.float64]] = {}
        for rows, ids, mask, wanted in self._batches(asked, responses):
            hidden = self._output_of(layer, ids, mask)
            mean = (hidden.float() * wanted[..., None]).sum(1) / wanted.sum(1, keepdim=True)
            parts.update(zip(rows.tolist(), mean.cpu().double().numpy(), strict=True))
        return np.stack([parts[row] for row in range(len(responses))])

    def _output_of(self, layer: int, ids: Any, mask: Any) -> Any:
        import torch

        found: list[Any] = []

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)

        handle = self._layer(layer).register_forward_hook(keep)
        try:
            with torch.no_grad():
                self._model(input_ids=ids, attention_mask=mask)
        finally:
            handle.remove()
        return found[0]

    def _layer(self, layer: int) -> Any:
        if not 0 <= layer < self.layers:
            raise UsageError(f"layer {layer}: the model has layers 0 to {self.layers - 1}")
        return layers_of(self._model)[layer]

    def _batches(
        self, asked: Sequence[Turns], responses: Sequence[str]
    ) -> Iterator[tuple[NDArray[np.int64], Any, Any, Any]]:
        """Yield row numbers, token ids, attention and response masks, (rows, longest), padded right."""
        import torch

        read = [self._ids(turns, text) for turns, text in zip(asked, responses, strict=True)]
        order = np.argsort([len(prompt) + len(answer) for prompt, answer in read], kind="stable")
        device = self._model.device
        for start in range(0, len(order), self._batch):
            rows = order[start : start + self._batch]
            size = max(len(read[row][0]) + len(read[row][1]) for row in rows)
            ids = np.zeros((len(rows), size), np.int64)
            mask, wanted = np.zeros_like(ids), np.zeros_like(ids)
            for i, row in enumerate(rows):
                prompt, answer = read[row]
                end = len(prompt) + len(answer)
                ids[i, :end] = [*prompt, *answer]
                mask[i, :end], wanted[i, len(prompt) : end] = 1, 1
            tensors = [torch.from_numpy(each).to(device) for each in (ids, mask, wanted)]
            yield rows, tensors[0], tensors[1], tensors[2]

    def _ids(self, turns: Turns, response: str) -> tuple[list[int], list[int]]:
        tokenizer = self._tokenizer
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(list(turns), add_generation_prompt=True, tokenize=False)
        else:
            text = "\n".join(turn["content"] for turn in turns)
        prompt = tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]
        room = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        answer = [*tokenizer(response, add_special_tokens=False)["input_ids"], *end]
        if room is not None and len(prompt) >= room:
            raise UsageError(f"a prompt of {len(prompt)} tokens fills the model's context of {room}")
        return prompt, answer if room is None else answer[: room - len(prompt)]
