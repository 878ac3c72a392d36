"""From a model string to a chat model, and a first look at whether it answers at all."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from undertow.errors import UsageError
from undertow.models.base import ChatModel, Settings
from undertow.models.budget import Budget
from undertow.models.chat_wire import ChatWire
from undertow.models.failures import redact
from undertow.models.journaled import JournaledModel
from undertow.models.prices import Price
from undertow.models.providers import Limits, ProviderModel
from undertow.models.pydantic_wire import PydanticWire
from undertow.models.thinking import thinking_settings
from undertow.records import Failure, FailureKind, Message
from undertow.store.journal import Journal
from undertow.text import one_line

if TYPE_CHECKING:
    from pydantic_ai.providers import Provider

    from undertow.models.local import LocalModel

FORMS = (
    "local:FOLDER_OR_HF_ID, openai-compatible:http://HOST:PORT/v1#MODEL, openai:MODEL, anthropic:MODEL, "
    "google:MODEL, openrouter:MODEL, inspect:PROVIDER/MODEL or another provider of pydantic-ai"
)
"""The accepted model strings, for messages."""
PREFLIGHT_SECONDS = 8.0
"""A run that cannot work ends in ten seconds, its start among them."""


def open_model(
    spec: str,
    *,
    journal: Journal | None = None,
    role: str = "target",
    concurrency: int | None = None,
    limits: Limits | None = None,
    batch: int = 128,
    budget: Budget | None = None,
    price: Price | None = None,
    thinking: int | None = None,
) -> LocalModel | ProviderModel | JournaledModel:
    """Open the model that ``spec`` names; an async context manager that closes its connections.

    Args:
        spec: ``local:…``, ``openai-compatible:URL#MODEL``, ``inspect:PROVIDER/MODEL`` (the extra
            ``inspect``), or a name of pydantic-ai. Keys come from the environment: the provider's own
            variable, or ``UNDERTOW_API_KEY`` for an OpenAI-compatible server.
        journal: Where answers are kept before they are used.
        role: The journal's word for who calls: target, judge, generator.
        concurrency: Calls under way at once, instead of ``limits.concurrency``; ``local:`` has ``batch``.
        limits: Timeout and retries of a provider; the defaults of :class:`Limits` without.
        batch: Conversations decoded together by ``local:``.
        budget: Asked before every call that the journal does not answer.
        price: Of a model that genai-prices does not know, or knows wrongly.
        thinking: Thinking budget, tokens a call, beside ``max_tokens``; ``None``: the model's own way.

    Raises:
        UsageError: an unknown form, nothing loadable, no key, a provider that is not installed or that takes
            no thinking budget.
    """
    kind, _, rest = spec.partition(":")
    if not rest:
        raise UsageError(f"model {spec!r}: not a model string; use {FORMS}")
    think = {} if thinking is None else thinking_settings(spec, thinking)
    if kind == "local":
        from undertow.models.local import LocalModel

        path = str(Path(rest).expanduser()) if rest.startswith("~") else rest
        return LocalModel(path, batch=batch, journal=journal, role=role, budget=budget)
    limits = limits or Limits()
    if concurrency is not None:
        limits = replace(limits, concurrency=concurrency)
    opened = _OPENERS.get(kind, _named)(spec, rest, limits)
    if budget is not None or price is not None:
        opened = opened.under(budget or Budget(), price)
    if thinking is not None:
        opened = opened.with_thinking(thinking, think)
    return opened if journal is None else JournaledModel(opened, journal, role)


def _compatible(spec: str, rest: str, limits: Limits) -> ProviderModel:
    url, _, model = rest.partition("#")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not model:
        raise UsageError(f"model {redact(spec)!r}: write openai-compatible:http://HOST:PORT/v1#MODEL")
    if parts.username or parts.password:
        raise UsageError("model openai-compatible:…: no credentials in the URL; set UNDERTOW_API_KEY")

    key = os.environ.get("UNDERTOW_API_KEY")
    endpoint = f"{parts.scheme}://{parts.netloc} {_hashed(key)}"
    return ProviderModel(spec, lambda: ChatWire(url, model, key), limits, endpoint)


def _hashed(key: str | None) -> str:
    return blake2b(key.encode(), digest_size=8).hexdigest() if key else ""


def _inspected(spec: str, rest: str, limits: Limits) -> ProviderModel:
    from undertow.models.inspected import open_inspect

    open_inspect(rest)
    return ProviderModel(spec, lambda: PydanticWire(open_inspect(rest)), limits)


def _named(spec: str, _: str, limits: Limits) -> ProviderModel:
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.models import infer_model

    def build() -> PydanticWire:
        return PydanticWire(infer_model(spec, provider_factory=_provider))

    try:
        build()
    except ImportError as error:
        raise UsageError(f"model {spec!r}: {one_line(str(error), 300)}") from error
    except (UserError, ValueError) as error:
        raise UsageError(f"model {spec!r}: {_lacking(redact(str(error)))}") from error
    return ProviderModel(spec, build, limits, spec.partition(":")[0])


def _lacking(told: str) -> str:
    """Shorten what pydantic-ai says of a missing key to the variable that holds it."""
    if "`region_name`" in told:
        return "no region; set AWS_DEFAULT_REGION, and credentials of AWS"
    variables = re.findall(r"`([A-Z][A-Z0-9_]*(?:KEY|TOKEN|REGION|PROJECT)[A-Z0-9_]*)`", told)
    if variables:
        return f"no key; set the environment variable {' or '.join(dict.fromkeys(variables))}"
    return f"{one_line(told, 200)}; use {FORMS}"


_OPENERS = {"openai-compatible": _compatible, "inspect": _inspected}


def _provider(name: str) -> Provider[Any]:
    """Make a provider; OpenAI's on the aiohttp transport, which halves the client's CPU time a call."""
    from pydantic_ai.providers import infer_provider

    if name in ("openai", "openai-chat", "openai-responses"):
        from openai import DefaultAioHttpClient
        from pydantic_ai.providers.openai import OpenAIProvider

        return OpenAIProvider(http_client=DefaultAioHttpClient())
    return infer_provider(name)


async def preflight(model: ChatModel, seconds: float | None = None) -> None:
    """Ask a hosted model one short question, before a run relies on it; a dropped connection is tried again.

    A rate limit or a passing server error proves that host and key are good, and passes; so does a spent
    budget, which forbids to ask: the run then reports what its journal holds.

    Args:
        model: What :func:`open_model` returned; local weights are known to be good and are not asked.
        seconds: How long to wait for the answer; ``None``: :data:`PREFLIGHT_SECONDS`.

    Raises:
        UsageError: bad key, unknown model, unreachable host or no answer in time.
    """
    inner = model.inner if isinstance(model, JournaledModel) else model
    if not isinstance(inner, ProviderModel):
        return
    limits = Limits(attempts=3, timeouts=1, timeout=seconds or PREFLIGHT_SECONDS, longest_wait=1)
    async with inner.with_limits(limits) as once:
        answer = await once.reply([Message("user", "Say yes.")], Settings(temperature=0, max_tokens=16))
    if isinstance(answer, Failure) and answer.kind not in (
        FailureKind.RATE_LIMITED, FailureKind.SERVER_ERROR, FailureKind.FILTERED, FailureKind.BUDGET
    ):  # fmt: skip
        slow = answer.kind is FailureKind.TIMEOUT
        wait = "; if the server is still loading the model, run the same command again then" if slow else ""
        raise UsageError(f"model {inner.name}: {answer.kind.value}: {answer.detail}{wait}")
