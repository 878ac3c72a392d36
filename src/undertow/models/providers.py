"""Hosted models through pydantic-ai: one request, bounded retries, a reply or a Failure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

from undertow.models.base import Form, Settings
from undertow.models.budget import Budget, most_expensive
from undertow.models.failures import Fault, fault_of
from undertow.models.forms import with_schema
from undertow.models.prices import Price, list_price
from undertow.records import Failure, FailureKind, Message, Reply

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

_FINISH: dict[str | None, Literal["stop", "length", "filter", "tool", "unknown"]] = {
    "stop": "stop", "length": "length", "content_filter": "filter", "tool_call": "tool",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """How a provider is called."""

    concurrency: int = 32
    """Calls under way at once; a call that waits for its next try holds no place."""
    timeout: float = 120.0
    """Seconds for one try, connection to last byte."""
    attempts: int = 8
    """Tries of one call. At 30 % faults eight leave 7 calls in 100,000 unanswered."""
    timeouts: int = 2
    """Tries of one call that may end in a timeout."""
    backoff: float = 0.5
    """Seconds before the second try, doubled each time, with jitter."""
    longest_wait: float = 60.0
    """Seconds waited at most before a try, whatever the provider asks for."""


class ProviderModel:
    """Any pydantic-ai model as a chat model that can fill forms."""

    def __init__(
        self,
        name: str,
        build: Callable[[], Model],
        limits: Limits = Limits(),
        budget: Budget | None = None,
        price: Price | None = None,
        thinking: tuple[int, Mapping[str, object]] | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            name: The model string; part of the journal key.
            build: Makes the pydantic-ai model. Called once an event loop, for its connections belong to one.
            limits: Concurrency, timeout and retries.
            budget: Asked before every try; none without.
            price: The user's word on the price; else genai-prices' list.
            thinking: Budget in tokens and the provider's settings for it.
        """
        self._name = name
        self._thinking = thinking
        self._build = build
        self._limits = limits
        self._model: Model | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._places = asyncio.Semaphore(limits.concurrency)
        self._jitter = random.Random()
        self._priced = True
        self._budget = budget or Budget()
        self._own_price = price

    @property
    def name(self) -> str:
        """The model string, with the thinking budget where there is one."""
        return f"{self._name} thinking {self._thinking[0]}" if self._thinking else self._name

    def with_limits(self, limits: Limits) -> ProviderModel:
        """Return the same model called under other limits."""
        return self._like(limits=limits)

    def with_thinking(self, tokens: int, settings: Mapping[str, object]) -> ProviderModel:
        """Return the same model with a thinking budget of ``tokens``, asked for by ``settings``."""
        return self._like(thinking=(tokens, settings))

    def under(self, budget: Budget, price: Price | None) -> ProviderModel:
        """Return the same model called under a budget, priced by ``price`` where that is given."""
        return self._like(budget=budget, price=price or self._own_price)

    def _like(self, **other: Any) -> ProviderModel:
        mine = {
            "limits": self._limits, "budget": self._budget, "price": self._own_price,
            "thinking": self._thinking,
        }  # fmt: skip
        return ProviderModel(self._name, self._build, **{**mine, **other})

    @cached_property
    def price(self) -> Price | None:
        """The user's price, or the list's; ``None`` where neither is known."""
        return self._own_price or list_price(self._name)

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Answer one conversation."""
        from pydantic_ai.models import ModelRequestParameters

        return await self._call(messages, settings, replicate, ModelRequestParameters())

    async def fill(
        self, messages: Sequence[Message], form: Form, settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Answer by a forced tool call; the reply's text is its arguments, several calls on several lines."""
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.tools import ToolDefinition

        if self._thinking:  # several providers refuse a forced tool call of a model that thinks
            return await self.reply(with_schema(messages, form), settings, replicate)

        tool = ToolDefinition(
            name=form.name,
            parameters_json_schema=dict(form.schema),
            description=form.description,
            kind="output",
        )
        parameters = ModelRequestParameters(output_mode="tool", output_tools=[tool], allow_text_output=False)
        return await self._call(messages, settings, replicate, parameters)

    async def _call(
        self,
        messages: Sequence[Message],
        settings: Settings,
        replicate: int,
        parameters: ModelRequestParameters,
    ) -> Reply | Failure:
        """Try until there is a reply, a fault that no retry mends, or no try left."""
        request, options = _request(messages), _options(settings, replicate, self._limits.timeout)
        most = self._most_expensive(messages, settings, parameters)
        if self._thinking:
            options = _thoughtful(options, *self._thinking)
        timeouts = 0
        for attempt in range(1, self._limits.attempts + 1):
            outcome = await self._try(request, options, parameters, most)
            if isinstance(outcome, Reply):
                return outcome
            timeouts += outcome.failure.kind is FailureKind.TIMEOUT
            if outcome.failure.kind is FailureKind.BUDGET:
                return outcome.failure
            if not outcome.retry or attempt == self._limits.attempts or timeouts >= self._limits.timeouts:
                return replace(outcome.failure, detail=f"{outcome.failure.detail} (try {attempt})")
            await asyncio.sleep(self._wait(attempt, outcome.retry_after))
        raise AssertionError("unreachable: the last attempt returns")

    def _most_expensive(
        self, messages: Sequence[Message], settings: Settings, parameters: ModelRequestParameters
    ) -> float:
        """Bound the price of one try; 0 where no cap on dollars asks."""
        if self._budget.max_cost is None or self.price is None:
            return 0.0
        forms = sum(len(repr(tool.parameters_json_schema)) for tool in parameters.output_tools)
        if self._thinking:
            settings = replace(settings, max_tokens=settings.max_tokens + self._thinking[0])
        return most_expensive(messages, settings, self.price, forms)

    async def _try(
        self,
        request: list[ModelMessage],
        options: ModelSettings,
        parameters: ModelRequestParameters,
        most: float,
    ) -> Reply | Fault:
        model = self._here()
        async with self._places:
            refused = await self._budget.reserve(most)
            if refused is not None:
                return Fault(refused, retry=False)
            cost: float | None = None
            try:
                outcome = await self._send(model, request, options, parameters)
                cost = _charged(outcome)
            finally:
                self._budget.settle(most, cost)
        return outcome

    async def _send(
        self,
        model: Model,
        request: list[ModelMessage],
        options: ModelSettings,
        parameters: ModelRequestParameters,
    ) -> Reply | Fault:
        from pydantic_ai.direct import model_request

        try:
            response = await model_request(
                model, request, model_settings=options, model_request_parameters=parameters
            )
        except Exception as error:  # the boundary: what fault_of does not know is raised on
            fault = fault_of(error)
            if fault is None:
                raise
            return fault
        return self._read(response)

    def _here(self) -> Model:
        """Return the model of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._model is None or self._loop is not loop:
            self._model, self._loop = self._build(), loop
            self._places = asyncio.Semaphore(self._limits.concurrency)
        return self._model

    def _wait(self, attempt: int, retry_after: float | None) -> float:
        growing = self._limits.backoff * 2.0 ** (attempt - 1) * self._jitter.uniform(0.5, 1.5)
        return min(max(growing, retry_after or 0.0), self._limits.longest_wait)

    def _read(self, response: ModelResponse) -> Reply | Fault:
        # Arguments as they came: written anew, a repeated key or a NaN would be lost to the reader.
        calls = [
            call.args if isinstance(call.args, str) else call.args_as_json_str()
            for call in response.tool_calls
        ]
        texts = calls or [response.text or ""]
        reason = _FINISH.get(response.finish_reason, "unknown")
        if response.finish_reason == "error":
            return Fault(
                Failure(FailureKind.SERVER_ERROR, "the provider ended the reply with an error"), True
            )
        return Reply(
            "\n".join(texts),
            reason,
            response.usage.input_tokens,
            response.usage.output_tokens,
            self._price(response),
        )

    def _price(self, response: ModelResponse) -> float | None:
        """Price a reply by the user's word or the offline list; an unknown model is asked for once."""
        if self._own_price is not None:
            return self._own_price.cost(response.usage.input_tokens, response.usage.output_tokens)
        if not self._priced:
            return None
        try:
            return float(response.cost().total_price)
        except (LookupError, ValueError, AssertionError):
            self._priced = False
            return None

    async def __aenter__(self) -> ProviderModel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        model, self._model = self._model, None
        client = getattr(model, "client", None)
        close = getattr(client, "close", None) or getattr(client, "aclose", None)
        if close is not None and self._loop is asyncio.get_running_loop():
            closing = close()
            if asyncio.iscoroutine(closing):
                await closing


def _request(messages: Sequence[Message]) -> list[ModelMessage]:
    from pydantic_ai import messages as ai

    history: list[ModelMessage] = []
    for message in messages:
        if message.role == "assistant":
            history.append(ai.ModelResponse(parts=[ai.TextPart(message.content)]))
        elif message.role == "system":
            history.append(ai.ModelRequest(parts=[ai.SystemPromptPart(message.content)]))
        else:
            history.append(ai.ModelRequest(parts=[ai.UserPromptPart(message.content)]))
    return history


def _charged(outcome: Reply | Fault) -> float | None:
    """Say what a try cost; ``None`` where the provider may have charged for an answer that did not arrive."""
    if isinstance(outcome, Reply):
        return outcome.cost_usd or 0.0
    return None if outcome.maybe_charged else 0.0


def _thoughtful(options: ModelSettings, tokens: int, settings: Mapping[str, object]) -> ModelSettings:
    """Add the thinking budget, which counts as output, and drop the temperature, which thinking excludes."""
    kept = {name: value for name, value in options.items() if name != "temperature"}
    return cast("ModelSettings", {**kept, "max_tokens": options["max_tokens"] + tokens, **settings})


def _options(settings: Settings, replicate: int, timeout: float) -> ModelSettings:
    """Sampling settings of one try; retries are ours, so the client makes none."""
    seed = int.from_bytes(blake2b(f"{settings.seed}/{replicate}".encode(), digest_size=4).digest()) >> 1
    return {
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "seed": seed,
        "timeout": timeout,
        "request_timeout": timeout,
        "max_retries": 0,
    }
