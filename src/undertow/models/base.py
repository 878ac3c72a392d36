"""What a model is to undertow: two protocols, no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from undertow.records import Failure, Message, Reply


@dataclass(frozen=True, slots=True)
class Settings:
    """How one call is sampled; part of the journal key."""

    temperature: float = 1.0
    """0 is greedy."""
    max_tokens: int = 1024
    """Longest answer, tokens."""
    seed: int = 0
    """With the replicate index it fixes the sample where the model is deterministic."""


class ChatModel(Protocol):
    """Answers conversations. Never raises for a failed call: that is a :class:`Failure`."""

    @property
    def name(self) -> str:
        """Model string with revision; part of the journal key."""
        ...

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Answer one conversation; ``replicate`` distinguishes resamples of the same prompt."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """What a structured answer must fill in; part of the journal key."""

    name: str
    """Name of the tool or schema, an identifier."""
    description: str
    """What filling it in means, for the model."""
    schema: Mapping[str, object]
    """JSON schema of the object."""


@runtime_checkable
class StructuredModel(Protocol):
    """A chat model that can be made to fill in a form (tool call or JSON schema)."""

    async def fill(
        self, messages: Sequence[Message], form: Form, settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Answer with the form's JSON as the reply's text, unchecked; several stand on several lines."""
        ...


class Embedder(Protocol):
    """Maps strings to unit vectors."""

    @property
    def name(self) -> str:
        """Model id with revision; part of the index key."""
        ...

    @property
    def dim(self) -> int:
        """Vector length d."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed ``texts`` into an (n, d) array of unit rows."""
        ...
