"""What a run asked of its models, from the journal or anew: the same numbers with a resume as without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from undertow.models.base import ChatModel, Form, Settings
from undertow.models.forms import fill
from undertow.records import Failure, Message, Reply


@dataclass(slots=True)
class Usage:
    """Totals over all roles."""

    calls: int = 0
    """Answered calls."""
    input_tokens: int = 0
    """Tokens read."""
    output_tokens: int = 0
    """Tokens written."""
    cost_usd: float = 0.0
    """Sum of the known prices."""

    def add(self, reply: Reply | Failure) -> None:
        """Count one answer; a failure is no answer."""
        if isinstance(reply, Reply):
            self.calls += 1
            self.input_tokens += reply.input_tokens
            self.output_tokens += reply.output_tokens
            self.cost_usd += reply.cost_usd or 0.0


class Metered:
    """A chat model whose answers are counted."""

    def __init__(self, inner: ChatModel, usage: Usage) -> None:
        """Count the answers of ``inner`` in ``usage``."""
        self._inner = inner
        self._usage = usage

    @property
    def name(self) -> str:
        """The inner model's name."""
        return self._inner.name

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Answer and count."""
        reply = await self._inner.reply(messages, settings, replicate)
        self._usage.add(reply)
        return reply

    async def fill(
        self, messages: Sequence[Message], form: Form, settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Fill in a form and count."""
        reply = await fill(self._inner, messages, form, settings, replicate)
        self._usage.add(reply)
        return reply
