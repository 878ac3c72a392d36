"""Nothing paid for is lost: an answer is in the journal before anybody uses it.

The key of a call is the hash of model name, messages, form, settings and replicate index
(specs: Journal), so resamples are distinct, a rerun pays for none of them again, and identical calls in
flight are made once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from hashlib import blake2b
from types import TracebackType

from undertow.models.base import ChatModel, Form, Settings
from undertow.models.budget import plan
from undertow.models.forms import fill
from undertow.records import Failure, Message, Reply
from undertow.store.journal import Journal


def call_key(
    model: str, messages: Sequence[Message], settings: Settings, replicate: int, form: Form | None = None
) -> str:
    """Hash one call; 32 hex digits, the same in every process."""
    call: list[object] = [
        model,
        [(message.role, message.content) for message in messages],
        asdict(settings),
        replicate,
    ]
    if form is not None:
        call.append([form.name, form.description, form.schema])
    text = json.dumps(call, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def encode_reply(reply: Reply) -> str:
    """Write a reply as the journal's JSON."""
    return json.dumps(asdict(reply), separators=(",", ":"))


def decode_reply(payload: bytes) -> Reply:
    """Read a reply back from the journal."""
    return Reply(**json.loads(payload))


def _free() -> None:
    """Tell the running plan that one of its calls costs nothing."""
    here = plan.get()
    if here is not None:
        here.done()


class JournaledModel:
    """A chat model whose answers are journalled; failures are not, so a rerun tries them again."""

    def __init__(self, inner: ChatModel, journal: Journal, role: str = "target") -> None:
        self.inner = inner
        self._journal = journal
        self._role = role
        self._in_flight: dict[str, asyncio.Task[Reply | Failure]] = {}

    @property
    def name(self) -> str:
        """The inner model's name."""
        return self.inner.name

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Answer from the journal, from an identical call in flight, or from the inner model."""
        key = call_key(self.name, messages, settings, replicate)
        return await self._once(key, lambda: self.inner.reply(messages, settings, replicate))

    async def fill(
        self, messages: Sequence[Message], form: Form, settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Fill in a form, with the same care."""
        key = call_key(self.name, messages, settings, replicate, form)
        return await self._once(key, lambda: fill(self.inner, messages, form, settings, replicate))

    async def _once(
        self, key: str, call: Callable[[], Coroutine[object, object, Reply | Failure]]
    ) -> Reply | Failure:
        task = self._in_flight.get(key)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            stored = self._journal.get(key)
            if stored is not None:
                _free()
                return decode_reply(stored)
            task = asyncio.create_task(self._make(key, call()))
            self._in_flight[key] = task
        else:
            _free()
        # Shielded: a caller that gives up must not throw away an answer that is already paid for.
        return await asyncio.shield(task)

    async def _make(self, key: str, call: Coroutine[object, object, Reply | Failure]) -> Reply | Failure:
        try:
            reply = await call
            if isinstance(reply, Reply):
                await self._journal.put((key, self._role, encode_reply(reply)))
            return reply
        finally:
            self._in_flight.pop(key, None)

    async def _end_calls(self) -> None:
        """Cancel what a stopped run left in flight: it would open connections anew that nobody closes."""
        loop = asyncio.get_running_loop()
        left = [task for task in self._in_flight.values() if task.get_loop() is loop]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def __aenter__(self) -> JournaledModel:
        enter = getattr(self.inner, "__aenter__", None)
        if enter is not None:
            await enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end_calls()
        leave = getattr(self.inner, "__aexit__", None)
        if leave is not None:
            await leave(kind, error, trace)
