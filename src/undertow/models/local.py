"""Local weights as a chat model: batched on this machine, journalled, reproducible.

A sample is fixed by the model's weights, the rendered prompt, the settings and the replicate index; never by
what else happens to be in its batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import compress
from pathlib import Path
from types import TracebackType
from typing import Any

from undertow.errors import UsageError
from undertow.models.base import Settings
from undertow.models.budget import Budget, Plan, plan
from undertow.models.cores import core_count, map_on_cores
from undertow.models.decode import Continuation, Row, continue_rows
from undertow.models.journaled import call_key, decode_reply, encode_reply
from undertow.records import Failure, FailureKind, Message, Reply
from undertow.store.journal import Journal
from undertow.store.run import config_hash, file_hash

_IDENTITY_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
_QUIET_TICKS = 5
"""Turns of the event loop without a new request before a part-filled batch starts."""
_SMALL = 100_000_000
"""Parameters under which an operation is too small to be shared among cores."""
_LEAST_SHARD = 16
"""Rows that are worth a core of their own."""


@dataclass(frozen=True, slots=True)
class _Request:
    messages: tuple[Message, ...]
    settings: Settings
    replicate: int
    plan: Plan | None = field(default=None, compare=False)


def model_revision(path: str) -> str | None:
    """Hash weights, configuration and tokenizer of a model folder; ``None`` where ``path`` is a hub id."""
    folder = Path(path)
    if not folder.is_dir():
        return None
    files = sorted({file for pattern in _IDENTITY_FILES for file in folder.glob(pattern)})
    return config_hash([(file.name, file_hash(file)) for file in files])[:12]


def check_folder(path: str) -> None:
    """Refuse a path that names no folder and cannot be a Hugging Face id.

    Raises:
        UsageError: it does.
    """
    if not Path(path).is_dir() and path.startswith(("/", ".", "~")):
        raise UsageError(
            f"local:{path}: no such folder; give a folder made by save_pretrained or a Hugging Face id"
        )


def load_weights(path: str, device: str | None) -> tuple[Any, Any]:
    """Load weights and tokenizer: safetensors only, no remote code."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_folder(path)
    on = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(
            path, use_safetensors=True, dtype=torch.float32 if on == "cpu" else "auto"
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(f"local:{path}: cannot be loaded as a causal language model: {reason}") from error
    return model.to(on).eval(), tokenizer


def _hand_out(
    futures: Sequence[asyncio.Future[Reply | Failure]], outcome: list[Reply | Failure] | BaseException
) -> None:
    """Give each caller its reply, or all of them the error that a bug or a lack of memory raised."""
    for i, future in enumerate(futures):
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome[i])


def _row_seed(request: _Request, prompt: str) -> int:
    """Seed of a row's stream; the model is left out on purpose, so that two models share their noise."""
    text = f"{request.settings.seed}\0{request.replicate}\0{prompt}"
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())


class LocalModel:
    """A causal language model of transformers as a :class:`~undertow.models.base.ChatModel`."""

    def __init__(
        self,
        path: str | Path,
        *,
        batch: int = 128,
        journal: Journal | None = None,
        role: str = "target",
        device: str | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Load the model.

        Args:
            path: A ``save_pretrained`` folder or a Hugging Face id.
            batch: Most conversations decoded together.
            journal: Where answers are kept; a whole batch is committed before any of its replies is used.
            role: The journal's word for who calls: target, judge, generator.
            budget: Asked for every conversation that is decoded; it costs a call and no money.
            device: A torch device; without one CUDA where there is one, else the CPU.

        Raises:
            UsageError: nothing loadable at ``path``.
        """
        if batch < 1:
            raise UsageError(f"local:{path}: batch is {batch}; it must be at least 1")
        self._model, self._tokenizer = load_weights(str(path), device)
        revision = model_revision(str(path)) or getattr(self._model.config, "_commit_hash", None) or "unknown"
        shown = Path(path).resolve().name if Path(path).is_dir() else path
        self._name = f"local:{shown}@{revision}"
        self._batch = batch
        self._journal = journal
        self._role = role
        self._budget = budget or Budget()
        config = self._model.config.get_text_config()
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        self._end_ids = self._find_end_ids()
        small = self._model.num_parameters() < _SMALL and self._model.device.type == "cpu"
        self._shards = core_count() if small else 1
        self._busy = threading.Lock()
        self._waiting: list[tuple[_Request, asyncio.Future[Reply | Failure]]] = []
        self._drain: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-model")

    @property
    def name(self) -> str:
        """``local:FOLDER@HASH``: the hash of the files' content, so a retrained model is another model."""
        return self._name

    def _find_end_ids(self) -> list[int]:
        ends: set[int] = set()
        for found in (self._model.generation_config.eos_token_id, self._tokenizer.eos_token_id):
            ends.update(found if isinstance(found, list) else [] if found is None else [found])
        return sorted(ends)

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Answer one conversation, batched with whatever else is waiting, first come first served."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply | Failure] = loop.create_future()
        self._waiting.append((_Request(tuple(messages), settings, replicate, plan.get()), future))
        if self._drain is None or self._drain.done() or self._drain.get_loop() is not loop:
            self._drain = loop.create_task(self._serve())
        return await future

    async def _serve(self) -> None:
        """Answer what waits, batch after batch, until nothing does."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            await self._settle()
            taken, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
            taken = [(request, future) for request, future in taken if not future.done()]
            answering = loop.run_in_executor(self._thread, self._answer, [request for request, _ in taken])
            [outcome] = await asyncio.gather(answering, return_exceptions=True)
            _hand_out([future for _, future in taken], outcome)

    async def _settle(self) -> None:
        """Let the callers that the last batch woke put their next requests in, so that batches are full."""
        quiet, before = 0, 0
        while quiet < _QUIET_TICKS and len(self._waiting) < self._batch:
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._waiting) == before else 0
            before = len(self._waiting)

    def reply_many(
        self,
        conversations: Sequence[Sequence[Message]],
        settings: Settings = Settings(),
        replicates: int | Sequence[int] = 0,
    ) -> list[Reply | Failure]:
        """Answer many conversations, in order, without an event loop.

        Args:
            conversations: One list of messages each.
            settings: The same for all.
            replicates: The replicate index of each conversation, or one index for all.
        """
        indices = [replicates] * len(conversations) if isinstance(replicates, int) else list(replicates)
        requests = [
            _Request(tuple(messages), settings, index)
            for messages, index in zip(conversations, indices, strict=True)
        ]
        replies: list[Reply | Failure] = []
        for start in range(0, len(requests), self._batch):
            replies += self._answer(requests[start : start + self._batch])
        return replies

    async def __aenter__(self) -> LocalModel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the weights loaded: nothing is held open, and the model may be used again."""

    def _answer(self, requests: Sequence[_Request]) -> list[Reply | Failure]:
        """Answer one batch: from the journal where it can be, else decoded and committed first."""
        keys = [call_key(self._name, r.messages, r.settings, r.replicate) for r in requests]
        known: dict[str, Reply | Failure] = {}
        if self._journal is not None:
            known.update((key, decode_reply(load)) for key, load in self._journal.get_many(keys).items())
        missing = {key: r for key, r in zip(keys, requests, strict=True) if key not in known}
        for key, request in zip(keys, requests, strict=True):
            if request.plan is not None and missing.get(key) is not request:
                request.plan.done()
        if missing:
            with self._busy:
                made = dict(zip(missing, self._afford(list(missing.values())), strict=True))
            if self._journal is not None:
                self._journal.put_many(
                    (key, self._role, encode_reply(reply))
                    for key, reply in made.items()
                    if isinstance(reply, Reply)
                )
            known.update(made)
        return [known[key] for key in keys]

    def _afford(self, requests: list[_Request]) -> list[Reply | Failure]:
        """Decode as many as the budget allows, the first ones."""
        granted = self._budget.take([request.plan for request in requests])
        refused = self._budget.closed or Failure(FailureKind.BUDGET)
        decoded = iter(self._decode(list(compress(requests, granted))))
        return [next(decoded) if allowed else refused for allowed in granted]

    def _decode(self, requests: Sequence[_Request]) -> list[Reply | Failure]:
        rows = [self._row(request) for request in requests]
        ready = [row for row in rows if isinstance(row, Row)]
        done = iter(self._continue(ready))
        return [self._read(row, next(done)) if isinstance(row, Row) else row for row in rows]

    def _continue(self, rows: list[Row]) -> list[Continuation]:
        """Decode rows: a small model on the CPU in one shard a core, else all at once."""
        count = min(self._shards, max(1, len(rows) // _LEAST_SHARD))
        if count == 1:
            return continue_rows(self._model, rows, self._end_ids) if rows else []
        shards = [rows[i::count] for i in range(count)]
        parts = map_on_cores(lambda shard: continue_rows(self._model, shard, self._end_ids), shards)
        return [parts[i % count][i // count] for i in range(len(rows))]

    def _row(self, request: _Request) -> Row | Failure:
        """Render and tokenize one request, or say why it cannot be asked."""
        from jinja2 import TemplateError

        try:
            prompt, tokens = self._tokenize(request.messages)
        except TemplateError as error:
            return Failure(FailureKind.REJECTED, f"the chat template refuses this conversation: {error}")
        room = request.settings.max_tokens
        if self._context is not None:
            room = min(room, self._context - len(tokens))
        if not tokens or room < 1:
            return Failure(
                FailureKind.REJECTED,
                f"a prompt of {len(tokens)} tokens leaves no room in a context of {self._context}",
            )
        return Row(tokens, request.settings.temperature, room, _row_seed(request, prompt))

    def _tokenize(self, messages: Sequence[Message]) -> tuple[str, list[int]]:
        """Render by the tokenizer's chat template; without one the contents stand line under line."""
        if not self._tokenizer.chat_template:
            text = "\n".join(message.content for message in messages)
            return text, self._tokenizer(text)["input_ids"]
        turns = [{"role": message.role, "content": message.content} for message in messages]
        text = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return text, self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _read(self, row: Row, made: Continuation) -> Reply:
        text = self._tokenizer.decode(made.tokens, skip_special_tokens=True)
        return Reply(text, made.finish_reason, len(row.tokens), made.count, 0.0)
