"""Hosted models: bounded retries under a limiter and a budget, a reply or a Failure."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import Any

from undertow.models.base import Form, Settings
from undertow.models.budget import Budget, most_expensive
from undertow.models.failures import Fault
from undertow.models.forms import with_schema
from undertow.models.health import Health
from undertow.models.limiter import Limiter, health_of, limiter_of
from undertow.models.prices import Price, list_price
from undertow.models.wire import Call, Wire, seed_of
from undertow.records import Failure, FailureKind, Message, Reply


@dataclass(frozen=True, slots=True)
class Limits:
    """How a provider is called."""

    concurrency: int | None = None
    """Calls under way at once; ``None``: what the provider bears. A call that waits for its next try holds
    no place."""
    timeout: float | None = 120.0
    """Seconds for one try at most; less once the model's usual answer time is known. ``None``: two minutes,
    and twenty seconds as long as hardly any answer is known."""
    attempts: int = 12
    """Tries of one call. At 60 % faults twelve leave 2 calls in 1,000 unanswered."""
    timeouts: int = 4
    """Tries of one call that may end in a timeout."""
    backoff: float = 0.5
    """Seconds before the second try, doubled each time, with jitter; no more than a few while other calls
    are answered."""
    longest_wait: float = 60.0
    """Seconds waited at most before a try, whatever the provider asks for."""


@dataclass(frozen=True, slots=True)
class _Here:
    """What belongs to one event loop."""

    loop: asyncio.AbstractEventLoop
    wire: Wire
    limiter: Limiter
    health: Health


class ProviderModel:
    """A hosted model as a chat model that can fill forms."""

    def __init__(
        self,
        name: str,
        build: Callable[[], Wire],
        limits: Limits = Limits(),
        endpoint: str = "",
        budget: Budget | None = None,
        price: Price | None = None,
        thinking: tuple[int, Mapping[str, object]] | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            name: The model string; part of the journal key.
            build: Opens the wire. Called once an event loop, for connections belong to one.
            limits: Concurrency, timeout and retries.
            endpoint: Provider and key (hashed): what shares one limiter; by default the name.
            budget: Asked before every try; none without.
            price: The user's word on the price; else genai-prices' list.
            thinking: Budget in tokens and the provider's settings for it.
        """
        self._name = name
        self._thinking = thinking
        self._build = build
        self._limits = limits
        self._endpoint = endpoint or name
        self._jitter = random.Random()
        self._budget = budget or Budget()
        self._own_price = price
        self._at: _Here | None = None

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
            "limits": self._limits, "endpoint": self._endpoint, "budget": self._budget,
            "price": self._own_price, "thinking": self._thinking,
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
        return await self._call(self._asked(messages, settings, replicate))

    async def fill(
        self, messages: Sequence[Message], form: Form, settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Answer by a forced tool call; the reply's text is its arguments, several calls on several lines."""
        if self._thinking:  # several providers refuse a forced tool call of a model that thinks
            return await self.reply(with_schema(messages, form), settings, replicate)
        return await self._call(self._asked(messages, settings, replicate, form))

    def _asked(
        self, messages: Sequence[Message], settings: Settings, replicate: int, form: Form | None = None
    ) -> Call:
        return Call(tuple(messages), settings, seed_of(settings, replicate), form, self._thinking)

    async def _call(self, call: Call) -> Reply | Failure:
        """Try until there is a reply, a fault that no retry mends, or no try left."""
        here, most = self._here(), self._most_expensive(call)
        timeouts = 0
        for attempt in range(1, self._limits.attempts + 1):
            outcome = await self._try(here, call, most, attempt > 1, timeouts)
            if isinstance(outcome, Reply):
                return outcome
            if here.health.down:
                return outcome.failure
            timeouts += outcome.failure.kind is FailureKind.TIMEOUT
            if not outcome.retry or attempt == self._limits.attempts or timeouts >= self._limits.timeouts:
                return replace(outcome.failure, detail=f"{outcome.failure.detail} (try {attempt})")
            await here.health.wait(self._wait(here.health, attempt, outcome.retry_after))
        raise AssertionError("unreachable: the last attempt returns")

    def _most_expensive(self, call: Call) -> float:
        """Bound the price of one try; 0 where no cap on dollars asks."""
        if self._budget.max_cost is None or self.price is None:
            return 0.0
        form = len(repr(call.form)) if call.form else 0
        thought = call.thinking[0] if call.thinking else 0
        settings = replace(call.settings, max_tokens=call.settings.max_tokens + thought)
        return most_expensive(call.messages, settings, self.price, form)

    async def _try(self, here: _Here, call: Call, most: float, again: bool, stalled: int) -> Reply | Fault:
        """Reserve the price, take a place, send, and tell limiter and health how it went."""
        # Before the place: who waits for money must not keep those from calling who will give some back.
        refused = await self._budget.reserve(most, again)
        if refused is not None:
            return Fault(refused, retry=False)
        sent, cost = False, None
        try:
            async with here.limiter:
                if here.health.down is not None:
                    return Fault(here.health.down, retry=False)
                self._budget.begin()
                sent = True
                outcome, started = await self._send(here, call, stalled)
                outcome = self._priced(outcome) if isinstance(outcome, Reply) else outcome
                cost = _charged(outcome)
                return self._learned(here, outcome, started)
        finally:
            if sent:
                self._budget.settle(most, cost)
            else:
                self._budget.release(most)

    async def _send(self, here: _Here, call: Call, stalled: int) -> tuple[Reply | Fault, float]:
        """Send, unless the model is given up meanwhile; returns when that was, too."""
        seconds = here.health.timeout(self._limits.timeout, stalled)
        cut = asyncio.timeout(None)
        number = here.health.begin(cut)
        try:
            async with cut:
                outcome = await here.wire.send(call, seconds)
        except TimeoutError:
            if here.health.down is None:
                raise
            outcome = Fault(here.health.down, retry=False)
        finally:
            started = here.health.end(number)
        return outcome, started

    def _learned(self, here: _Here, outcome: Reply | Fault, started: float) -> Reply | Fault:
        """Tell the shared limiter and health; the try that shows the model to be gone says so."""
        if isinstance(outcome, Reply):
            here.health.answered(time.monotonic() - started)
            here.limiter.succeeded(started)
        elif outcome.failure.kind is FailureKind.RATE_LIMITED:
            here.limiter.limited(started, self._heeded(outcome.retry_after))
        if isinstance(outcome, Fault) and outcome.retry:
            here.health.failed(outcome.failure, started, outcome.retry_after or 0.0)
            if here.health.down is not None:
                # What is paid to the other roles would buy nothing that could be scored.
                self._budget.close(here.health.down)
                return Fault(here.health.down, retry=False)
        return outcome

    def _priced(self, reply: Reply) -> Reply:
        """Price a reply by the user's word, or by the list where the wire knew none."""
        if self._own_price is None and (reply.cost_usd is not None or self.price is None):
            return reply
        assert self.price is not None  # noqa: S101 - narrows the type
        return replace(reply, cost_usd=self.price.cost(reply.input_tokens, reply.output_tokens))

    def _here(self) -> _Here:
        """Return what belongs to the running event loop."""
        loop = asyncio.get_running_loop()
        if self._at is None or self._at.loop is not loop:
            limiter = limiter_of(self._endpoint, self._limits.concurrency)
            self._at = _Here(loop, self._build(), limiter, health_of(self._endpoint, self._name))
        return self._at

    def _heeded(self, retry_after: float | None) -> float:
        """Return the wait that is asked for; none where it is longer than a run waits."""
        return retry_after if retry_after and retry_after <= self._limits.longest_wait else 0.0

    def _wait(self, health: Health, attempt: int, retry_after: float | None) -> float:
        growing = self._limits.backoff * 2.0 ** (attempt - 1) * self._jitter.uniform(0.5, 1.5)
        return max(min(growing, health.longest_wait(self._limits.longest_wait)), self._heeded(retry_after))

    async def __aenter__(self) -> ProviderModel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        here, self._at = self._at, None
        if here is not None and here.loop is asyncio.get_running_loop():
            await here.wire.close()


def _charged(outcome: Reply | Fault) -> float | None:
    """Say what a try cost; ``None`` where the provider may have charged for an answer that did not arrive."""
    if isinstance(outcome, Reply):
        return outcome.cost_usd or 0.0
    return None if outcome.maybe_charged else 0.0
