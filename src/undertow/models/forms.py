"""Structured answers from any chat model: by its own means where it has them, else by asking for JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from undertow.models.base import ChatModel, Form, Settings, StructuredModel
from undertow.records import Failure, Message, Reply


def with_schema(messages: Sequence[Message], form: Form) -> list[Message]:
    """Ask, at the end of the last turn, for the form as one bare JSON object."""
    schema = json.dumps(form.schema, sort_keys=True, ensure_ascii=False)
    ask = f"{form.description}\nAnswer with exactly one JSON object and nothing else. Its schema:\n{schema}"
    *before, last = messages
    return [*before, replace(last, content=f"{last.content}\n\n{ask}")]


async def fill(
    model: ChatModel,
    messages: Sequence[Message],
    form: Form,
    settings: Settings = Settings(),
    replicate: int = 0,
) -> Reply | Failure:
    """Make ``model`` fill in ``form``; the reply's text is the JSON as it came, for the caller to check."""
    if isinstance(model, StructuredModel):
        return await model.fill(messages, form, settings, replicate)
    return await model.reply(with_schema(messages, form), settings, replicate)
