"""The gate between a run and the network: reserve before a call, settle after, never over the cap.

One budget is shared by all roles of a run. What the journal answers does not pass here. A reservation is an
upper bound of the price (a token a byte of input, the longest output), so calls in flight cannot carry the
spending over the cap; a call that would, while others are still unsettled, waits for them.

Half a sample is worth nothing. A candidate's calls are a :class:`Plan`: its first one is let through only if
the cap pays all of them, and they are set aside for it. So a small cap buys few whole candidates.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

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


@dataclass(slots=True, eq=False)
class Plan:
    """Calls of which the first ones are worth nothing without the last: those of a candidate, of a probe."""

    calls: int
    """Calls that are neither made nor under way, retries not counted."""
    cost: float
    """What they may cost, USD."""
    held_calls: int = 0
    held_cost: float = 0.0
    """What is set aside for them."""
    refused: Failure | None = None
    """Why the plan cannot be paid to its end."""

    def done(self) -> None:
        """Note that one of the calls is made, or needs not be: the journal has its answer."""
        self.cost *= max(self.calls - 1, 0) / max(self.calls, 1)
        self.calls = max(self.calls - 1, 0)


plan: ContextVar[Plan | None] = ContextVar("plan", default=None)
"""What the running task is part of; a task hands it on to the tasks it starts."""


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
        """Why nothing new is begun; ``None`` while it is. Plans that were admitted go on to their end."""
        self.stopped: Failure | None = None
        """The first reason for which something could not be paid, or all was given up."""
        self._down: Failure | None = None
        self._kept: tuple[int, float] = (0, 0.0)
        """Calls and dollars that the present stage leaves to later ones."""
        self._held_calls, self._held = 0, 0.0
        """Set aside: for plans, and for calls that are under way or wait for a place."""
        self._open = self._reserved = 0
        """Calls under way; calls reserved and not settled, these included."""
        self._holders: set[Plan] = set()
        self._stuck: set[Plan] = set()
        """Admitted plans; those of them that wait for more."""
        self._lock = threading.Lock()
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self._open

    @property
    def capped(self) -> bool:
        """Whether there is a cap."""
        return self.max_calls is not None or self.max_cost is not None

    def keep(self, calls: int = 0, cost: float = 0.0) -> None:
        """Leave so much of the caps to later stages; what was kept for this one is open now."""
        with self._lock:
            self._kept = (calls, cost)
            self.closed = self._down

    @contextmanager
    def whole(self, calls: int, cost: float = 0.0) -> Iterator[Plan]:
        """Make the calls within one plan: the first that the journal does not answer admits all, or none.

        Args:
            calls: How many there are.
            cost: What they may cost together, USD; an estimate will do, the caps hold without it.
        """
        mine = Plan(calls, cost)
        token = plan.set(mine)
        try:
            yield mine
        finally:
            plan.reset(token)
            with self._lock:
                self._held_calls -= mine.held_calls
                self._held -= mine.held_cost
                self._holders.discard(mine)
                waiting, self._waiting = self._waiting, []
            _wake(waiting)

    async def reserve(self, cost: float = 0.0, again: bool = False) -> Failure | None:
        """Reserve one call of at most ``cost`` USD; a Failure when it must not be made.

        Within a plan the whole rest of it is set aside with it. Waits while others may give back what is
        lacking; of plans that wait for each other the one that came last ends. ``again``: another try of a
        call that the plan counted before.
        """
        mine = plan.get() or Plan(0, cost)
        mine.calls += again
        while True:
            with self._lock:
                refused = self._refusal(mine, cost)
                if refused is not None:
                    return refused
                if self._set_aside(mine, cost):
                    return None
                if mine in self._holders:
                    self._stuck.add(mine)
                settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(settled)
            try:
                await settled
            finally:
                self._stuck.discard(mine)

    def _refusal(self, mine: Plan, cost: float) -> Failure | None:
        """Say why the call must not be made; ``None`` if it may, at once or after a wait."""
        if self._down is not None:
            return self._down
        if mine.refused is None and not self._fits(mine, cost, 0, 0.0):
            mine.refused = self._exhausted(mine, cost)
        elif mine.refused is None and not self._fits(mine, cost, self._held_calls, self._held):
            others = self._holders - self._stuck - {mine}
            if not self._reserved and not others:
                mine.refused = self._exhausted(mine, cost)
        return mine.refused

    def _fits(self, mine: Plan, cost: float, held_calls: int, held: float) -> bool:
        """Say whether plan and call fit beside ``held_calls`` and ``held`` dollars of everybody."""
        calls, dollars = self._lacking(mine, cost)
        if not held_calls and not held:
            calls, dollars = calls + mine.held_calls, dollars + mine.held_cost
        kept_calls, kept = self._kept
        return (
            self.max_calls is None or self.calls + held_calls + calls <= self.max_calls - kept_calls
        ) and (self.max_cost is None or self.cost_usd + held + dollars <= self.max_cost - kept)

    @staticmethod
    def _lacking(mine: Plan, cost: float) -> tuple[int, float]:
        return max(max(mine.calls, 1) - mine.held_calls, 0), max(max(mine.cost, cost) - mine.held_cost, 0.0)

    def _set_aside(self, mine: Plan, cost: float) -> bool:
        """Set aside what the plan lacks, and take this call out of it."""
        if not self._fits(mine, cost, self._held_calls, self._held):
            return False
        calls, dollars = self._lacking(mine, cost)
        self._held_calls += calls
        self._held += dollars
        mine.held_calls += calls - 1
        mine.held_cost += dollars - cost
        mine.done()
        self._reserved += 1
        if mine is plan.get():
            self._holders.add(mine)
        return True

    def begin(self) -> None:
        """Note that a reserved call is sent."""
        with self._lock:
            self._held_calls -= 1
            self.calls += 1
            self._open += 1

    def release(self, reserved: float) -> None:
        """Give back a reservation whose call was never sent."""
        with self._lock:
            self._held_calls -= 1
        self._end(reserved)

    def settle(self, reserved: float, cost: float | None) -> None:
        """Replace a reservation by its price; ``None`` keeps it whole: the provider may have charged it."""
        with self._lock:
            self._open -= 1
            self.cost_usd += reserved if cost is None else cost
        self._end(reserved)

    def _end(self, reserved: float) -> None:
        with self._lock:
            self._reserved -= 1
            self._held -= reserved
            if not self._reserved and not self._holders:
                self._held = 0.0  # sums of floats leave crumbs
            waiting, self._waiting = self._waiting, []
        _wake(waiting)

    def take(self, plans: Sequence[Plan | None]) -> list[bool]:
        """Take a call that costs nothing for each of ``plans``, from any thread, without waiting."""
        with self._lock:
            return [self._take(each or Plan(0, 0.0)) for each in plans]

    def _take(self, mine: Plan) -> bool:
        refused = self._down or mine.refused
        if refused is None and not self._fits(mine, 0.0, self._held_calls, self._held):
            mine.refused = refused = self._exhausted(mine, 0.0)
        if refused is not None:
            return False
        calls, dollars = self._lacking(mine, 0.0)
        self._held_calls += calls - 1
        self._held += dollars
        mine.held_calls += calls - 1
        mine.held_cost += dollars
        mine.done()
        self.calls += 1
        if mine.held_calls or mine.held_cost:
            self._holders.add(mine)
        return True

    def close(self, why: Failure) -> None:
        """Let no further call through; the first reason stands."""
        with self._lock:
            self._down = self._down or why
            self.closed = self.closed or why
            self.stopped = self.stopped or why
            waiting, self._waiting = self._waiting, []
        _wake(waiting)

    def _exhausted(self, mine: Plan, cost: float) -> Failure:
        calls, dollars = max(mine.calls, 1), max(mine.cost, cost)
        if self.max_calls is not None and self.calls + calls > self.max_calls - self._kept[0]:
            rest = "" if self.calls >= self.max_calls else f", and the next step takes {calls}"
            why = f"{self.calls} of {self.max_calls} calls made{rest}; a higher --max-calls goes on"
        elif self.max_cost is not None:
            spent = f"${self.cost_usd:.4g} of ${self.max_cost:.4g} spent"
            why = f"{spent}, and the next step may cost ${dollars:.2g}; a higher --max-cost goes on"
        else:
            why = f"{self.calls} of {self.max_calls} calls made, and all others are promised"
        self.closed = self.closed or Failure(FailureKind.BUDGET, why)
        self.stopped = self.stopped or self.closed
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
        return await self._paid(lambda: self._inner.reply(messages, settings, replicate))

    async def fill(
        self, messages: Sequence[Message], form: Form, settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Fill in a form if the budget allows it."""
        return await self._paid(lambda: fill(self._inner, messages, form, settings, replicate))

    async def _paid(self, call: Callable[[], Awaitable[Reply | Failure]]) -> Reply | Failure:
        refused = await self._budget.reserve()
        if refused is not None:
            return refused
        self._budget.begin()
        reply: Reply | Failure | None = None
        try:
            reply = await call()
            return reply
        finally:
            self._budget.settle(0.0, (reply.cost_usd or 0.0) if isinstance(reply, Reply) else 0.0)
