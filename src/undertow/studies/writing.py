"""Texts that a model writes for a study: transforms and realisations that no rule can make; journalled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from undertow.models.base import ChatModel, Settings
from undertow.records import Failure, Message
from undertow.store.journal import Journal
from undertow.store.run import RunDir

_SETTINGS = Settings(0.0, 1024)


def write_texts(
    run: RunDir,
    asked: Sequence[tuple[Message, ...]],
    writer: str | ChatModel,
    concurrency: int | None = None,
) -> list[str | Failure]:
    """Let ``writer`` answer each conversation, greedily; in their order, what failed as it failed.

    Raises:
        UsageError: the writer cannot be opened.
    """
    return asyncio.run(_written(run, asked, writer, concurrency))


async def _written(
    run: RunDir, asked: Sequence[tuple[Message, ...]], writer: str | ChatModel, concurrency: int | None
) -> list[str | Failure]:
    from undertow.models.journaled import JournaledModel
    from undertow.models.open import open_model, preflight

    with Journal(run.file("journal.sqlite")) as journal:
        async with AsyncExitStack() as stack:
            if isinstance(writer, str):
                opened = open_model(writer, journal=journal, role="writer", concurrency=concurrency)
                model: ChatModel = await stack.enter_async_context(opened)
                await preflight(model)
            else:
                model = JournaledModel(writer, journal, "writer")
            replies = await asyncio.gather(*(model.reply(messages, _SETTINGS) for messages in asked))
    return [reply if isinstance(reply, Failure) else reply.text.strip() for reply in replies]
