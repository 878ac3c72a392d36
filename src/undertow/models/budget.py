"""The gate between a run and the network: reserve before a call, settle after, never over the cap.

One budget is shared by all roles of a run. What the journal answers does not pass here. A reservation is an
upper bound of the price (a token a byte of input, the longest output), so calls in flight cannot carry the
spending over the cap; a call that would, while others are still unsettled, waits for them. The first call
that cannot be paid closes the gate for good: what is left of the cap would buy halves of samples.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from undertow.models.base import ChatModel, Form, Settings
from undertow.models.forms import fill
from undertow.models.prices import Price
from undertow.records import Failure, FailureKind, Message, Reply

_OVERHEAD = 64
"""Tokens a message that a chat template may add."""


def most_expensive(
    messages: Sequence[Message], settings: Settings, price: Price, form_bytes: int = 0
) -> float:
    """Bound the price of one call, USD: no tokenizer makes more tokens than bytes."""
    read = sum(len(m.content.encode("utf-8", "surrogatepass")) + _OVERHEAD for m in messages) + form_bytes
    return price.cost(read, settings.max_tokens)


class Budget:
    """Counts calls and dollars against their caps. Every try that reaches the network is a call."""

    def __init__(
        self,
        max_calls: int | None = None,
        max_cost: float | None = None,
        calls: int = 0,
        cost_usd: float = 0.0,
    ) -> None:
        """Start with what the run has spent before.

        Args:
            max_calls: Most calls, or ``None``.
            max_cost: Most US dollars, or ``None``.
            calls: Calls made before.
            cost_usd: US dollars spent before.
        """
        self.max_calls = max_calls
        self.max_cost = max_cost
        self.calls = calls
        self.cost_usd = cost_usd
        self.closed: Failure | None = None
        """Why no further call is made; ``None`` while calls are."""
        self._held = 0.0
        self._open = 0
        """Reservations not settled yet, and their sum above."""
        self._lock = threading.Lock()
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def in_flight(self) -> int:
        """Calls reserved and not settled."""
        return self._open

    async def reserve(self, cost: float = 0.0) -> Failure | None:
        """Reserve one call of at most ``cost`` USD; a Failure when it must not be made."""
        while True:
            with self._lock:
                if self.closed is not None:
                    return self.closed
                fits = self.max_cost is None or self.cost_usd + self._held + cost <= self.max_cost
                if fits and not self._calls_used_up():
                    self.calls += 1
                    self._open += 1
                    self._held += cost
                    return None
                if fits or self._open == 0 or self.cost_usd + cost > (self.max_cost or 0.0):
                    return self._exhausted(cost)
                settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(settled)
            await settled

    def settle(self, reserved: float, cost: float | None) -> None:
        """Replace a reservation by its price; ``None`` keeps it whole: the provider may have charged it."""
        with self._lock:
            self._open -= 1
            self._held = self._held - reserved if self._open else 0.0
            self.cost_usd += reserved if cost is None else cost
            waiting, self._waiting = self._waiting, []
        _wake(waiting)

    def take(self, n: int) -> int:
        """Take up to ``n`` calls that cost nothing, from any thread; fewer close the gate."""
        with self._lock:
            if self.closed is not None:
                return 0
            free = n if self.max_calls is None else min(n, max(self.max_calls - self.calls, 0))
            self.calls += free
            if free < n:
                self._exhausted(0.0)
            return free

    def close(self, why: Failure) -> None:
        """Let no further call through; the first reason stands."""
        with self._lock:
            self.closed = self.closed or why
            waiting, self._waiting = self._waiting, []
        _wake(waiting)

    def _calls_used_up(self) -> bool:
        return self.max_calls is not None and self.calls >= self.max_calls

    def _exhausted(self, cost: float) -> Failure:
        if self._calls_used_up():
            why = f"the budget of {self.max_calls} calls is spent; a higher --max-calls goes on"
        else:
            spent = f"${self.cost_usd:.4g} of ${self.max_cost:.4g} spent"
            why = f"{spent}, and the next call may cost ${cost:.2g}; a higher --max-cost goes on"
        self.closed = Failure(FailureKind.BUDGET, why)
        return self.closed


def _wake(waiting: Sequence[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)


class BudgetedModel:
    """A ready model behind a budget: its calls are counted, their price is known after the call only."""

    def __init__(self, inner: ChatModel, budget: Budget) -> None:
        """Count the calls of ``inner`` in ``budget``."""
        self._inner = inner
        self._budget = budget

    @property
    def name(self) -> str:
        """The inner model's name."""
        return self._inner.name

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Answer if the budget allows it."""
        refused = await self._budget.reserve()
        return refused or self._settled(await self._inner.reply(messages, settings, replicate))

    async def fill(
        self, messages: Sequence[Message], form: Form, settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Fill in a form if the budget allows it."""
        refused = await self._budget.reserve()
        return refused or self._settled(await fill(self._inner, messages, form, settings, replicate))

    def _settled(self, reply: Reply | Failure) -> Reply | Failure:
        self._budget.settle(0.0, reply.cost_usd if isinstance(reply, Reply) else 0.0)
        return reply
