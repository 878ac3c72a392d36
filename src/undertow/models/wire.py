"""What goes to a provider and comes back: one call, one try, no retry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from undertow.models.base import Form, Settings
from undertow.models.failures import Fault
from undertow.records import Message, Reply


@dataclass(frozen=True, slots=True)
class Call:
    """One call, the same at every try."""

    messages: tuple[Message, ...]
    """The conversation."""
    settings: Settings
    """How it is sampled."""
    seed: int
    """31 bits, of the settings' seed and the replicate index."""
    form: Form | None = None
    """What must be filled in; ``None``: plain text."""
    thinking: tuple[int, Mapping[str, object]] | None = None
    """Thinking budget in tokens, and the provider's settings for it."""


def seed_of(settings: Settings, replicate: int) -> int:
    """Draw the 31 bits that make a resample another sample."""
    digest = blake2b(f"{settings.seed}/{replicate}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1


class Wire(Protocol):
    """The connections to one model, of one event loop."""

    async def send(self, call: Call, timeout: float) -> Reply | Fault:  # noqa: ASYNC109 - part of the request
        """Try once, within ``timeout`` seconds; the reply has a price where the wire knows one."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
