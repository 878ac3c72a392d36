"""Descriptions by a provider's batch API: the journal is filled first, then every row is read from it.

Round after round the next try of every text without a usable answer goes into batches. A batch is noted in
the journal before it is handed over and again, with the provider's id, before anything waits for it; a killed
build goes back to the batches that run. An answer joins its text by the key of its call, in whatever order it
comes, and is journalled under the key that the same call would have outside a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from undertow.attributes.llm import ATTEMPTS, FORM, Passage, asked, read_sentences, settings_of
from undertow.models import batch_wire
from undertow.models.base import Form, Settings
from undertow.models.batch_wire import BatchWire, open_batches
from undertow.models.budget import Budget, most_expensive
from undertow.models.journaled import call_key, decode_reply, encode_reply
from undertow.models.prices import Price
from undertow.models.wire import Call, seed_of
from undertow.progress import Progress, Task
from undertow.records import Failure, FailureKind, Message, Reply
from undertow.store.journal import Batch, Journal

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = ATTEMPTS + 2
"""Rounds of batches at most: every try of a text, and two for what was not answered."""
POLL_SECONDS = 20.0
"""Between two looks at the batches that run."""
OPEN = 16
"""Batches under way at once."""
ROLE = "extractor"
_ROWS = 2000
"""Answers journalled at once."""


class StoppedError(Exception):
    """Going on makes no sense; what was answered is kept."""


class BatchDesk:
    """Fills a journal with the answers to all passages."""

    def __init__(
        self, spec: str, journal: Journal, budget: Budget, price: Price | None, progress: Progress
    ) -> None:
        """Ask the model ``spec``; ``price`` is of a call outside a batch."""
        self._spec, self._journal, self._budget, self._progress = spec, journal, budget, progress
        self._price = price and Price(price.input * batch_wire.PRICE, price.output * batch_wire.PRICE)
        self._secret = journal.secret()
        self._failures: dict[str, Failure] = {}
        self._reserved: dict[str, float] = {}

    async def fill(self, passages: Callable[[], Iterator[Sequence[Passage]]], texts: int) -> None:
        """Have all passages answered, which come in portions, anew in each round.

        Raises:
            StoppedError: the budget forbids the next batch, or a round brought no answer.
            UsageError: the provider refuses.
        """
        async with open_batches(self._spec) as wire:
            with self._progress.task("wait for batches", texts) as task:
                await self._attach(wire, task)
                for number in range(ROUNDS):
                    answered, begun = await self._round(wire, passages(), task)
                    if not begun:
                        return
                    if not answered:
                        raise StoppedError(f"round {number + 1} of batches brought no answer: {self._why()}")

    def _why(self) -> str:
        return next((failure.detail for failure in self._failures.values()), "no reason was given")

    async def _attach(self, wire: BatchWire, task: Task) -> None:
        """Wait for the batches that an earlier start left running."""
        for batch in self._journal.open_batches():
            found = [batch.id] if batch.id else await wire.find(batch.tag, batch.calls, batch.at)
            for id in found:
                self._progress.say(f"batch {id}: found again, {batch.calls:,} calls")
                await self._read(wire, replace(batch, id=id), task)
            self._journal.end_batch(batch.tag)

    async def _round(
        self, wire: BatchWire, portions: Iterator[Sequence[Passage]], task: Task
    ) -> tuple[int, int]:
        """Hand over all that is to be asked now, and wait for it; return answers and calls."""
        waiting: set[asyncio.Task[int]] = set()
        answered = begun = 0
        try:
            for calls in self._batches(portions):
                begun += len(calls)
                batch = await self._submit(wire, calls)
                waiting.add(asyncio.create_task(self._wait(wire, batch, task)))
                if len(waiting) >= OPEN:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    answered += sum(each.result() for each in done)
            answered += sum(await asyncio.gather(*waiting))
        finally:
            for each in waiting:
                each.cancel()
        return answered, begun

    def _batches(self, portions: Iterator[Sequence[Passage]]) -> Iterator[dict[str, Call]]:
        """Gather the next calls of all passages into batches that the provider takes."""
        calls: dict[str, Call] = {}
        given: set[str] = set()
        size = 0
        for portion in portions:
            for key, call in self._next_calls(portion).items():
                if key in given:
                    continue
                length = 1000 + 2 * sum(len(message.content.encode()) for message in call.messages)
                if calls and (len(calls) >= batch_wire.CALLS or size + length > batch_wire.BYTES):
                    yield calls
                    calls, size = {}, 0
                given.add(key)
                calls[key] = call
                size += length
        if calls:
            yield calls

    def _next_calls(self, passages: Sequence[Passage]) -> dict[str, Call]:
        """Return, for each passage without a usable answer, the first try that is not answered."""
        open_calls: dict[str, Call] = {}
        left = list(dict.fromkeys(passages))
        for attempt in range(ATTEMPTS):
            settings = settings_of(attempt)
            calls = {
                passage: Call(tuple(asked(passage, self._secret)), settings, seed_of(settings, attempt), FORM)
                for passage in left
            }
            keys = {
                passage: call_key(self._spec, call.messages, settings, attempt, FORM)
                for passage, call in calls.items()
            }
            there = self._journal.get_many(list(keys.values()))
            open_calls |= {keys[passage]: calls[passage] for passage in left if keys[passage] not in there}
            left = [
                passage
                for passage in left
                if keys[passage] in there and _is_unusable(there[keys[passage]], passage)
            ]
        return open_calls

    async def _submit(self, wire: BatchWire, calls: dict[str, Call]) -> Batch:
        """Hand calls over, noted before and after."""
        most = self._reserve(calls)
        tag = blake2b("".join(sorted(calls)).encode(), digest_size=16).hexdigest()
        self._journal.begin_batch(tag, len(calls))
        self._reserved[tag] = most
        id = await wire.submit(calls, tag)
        self._journal.name_batch(tag, id)
        self._progress.say(f"batch {id}: {len(calls):,} calls handed over")
        return Batch(tag, id, len(calls), 0.0)

    def _reserve(self, calls: dict[str, Call]) -> float:
        """Reserve the most a batch may cost, USD; stop before one that could pass a cap."""
        most = 0.0
        if self._price is not None:
            form = len(repr(FORM))
            most = sum(most_expensive(c.messages, c.settings, self._price, form) for c in calls.values())
        budget, n = self._budget, len(calls)
        if budget.max_calls is not None and budget.calls + n > budget.max_calls:
            made = f"{budget.calls:,} of {budget.max_calls:,} calls are made"
            raise StoppedError(f"{made}, and the next batch has {n:,}; a higher --max-calls goes on")
        if budget.max_cost is not None and budget.cost_usd + most > budget.max_cost:
            spent = f"${budget.cost_usd:.4g} of ${budget.max_cost:.4g} spent"
            raise StoppedError(
                f"{spent}, and the next batch may cost ${most:.3g}; a higher --max-cost goes on"
            )
        budget.calls += n
        budget.cost_usd += most
        return most

    async def _wait(self, wire: BatchWire, batch: Batch, task: Task) -> int:
        """Wait for a batch that was handed over, read it, and note that it is read."""
        answered = await self._read(wire, batch, task)
        self._journal.end_batch(batch.tag)
        return answered

    async def _read(self, wire: BatchWire, batch: Batch, task: Task) -> int:
        """Wait for a batch and journal its answers; return how many there are."""
        assert batch.id is not None  # noqa: S101 - handed over
        state = await wire.look(batch.id)
        while not state.ended:
            task.advance(0, f"{state.answered:,} of {batch.calls:,}")
            await asyncio.sleep(POLL_SECONDS)
            state = await wire.look(batch.id)
        answered, spent, replies = 0, 0.0, []
        if not state.places:
            self._failures[batch.tag] = Failure(FailureKind.SERVER_ERROR, f"batch {batch.id}: {state.said}")
        async for key, answer in wire.results(state):
            if isinstance(answer, Failure):
                self._failures[key] = answer
                continue
            reply = self._priced(answer)
            replies.append((key, ROLE, encode_reply(reply)))
            answered, spent = answered + 1, spent + (reply.cost_usd or 0.0)
            if len(replies) >= _ROWS:
                self._journal.put_many(replies)
                replies = []
        self._journal.put_many(replies)
        self._budget.cost_usd += spent - self._reserved.pop(batch.tag, spent)
        task.advance(answered)
        self._progress.say(f"batch {batch.id}: {answered:,} of {batch.calls:,} calls answered")
        return answered

    def _priced(self, reply: Reply) -> Reply:
        if self._price is None:
            return reply
        return replace(reply, cost_usd=self._price.cost(reply.input_tokens, reply.output_tokens))

    def model(self) -> AnsweredModel:
        """Return the model that answers from the journal alone."""
        return AnsweredModel(self._spec, self._journal, self._failures)


def _is_unusable(payload: bytes, passage: Passage) -> bool:
    reply = decode_reply(payload)
    return reply.finish_reason != "filter" and isinstance(read_sentences(reply, passage.side), str)


class AnsweredModel:
    """A chat model that has been asked: what it did not answer is a Failure."""

    def __init__(self, name: str, journal: Journal, failures: dict[str, Failure]) -> None:
        """Answer as ``name`` from ``journal``; ``failures`` says why a call was not answered."""
        self._name, self._journal, self._failures = name, journal, failures

    @property
    def name(self) -> str:
        """The model string."""
        return self._name

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Return what was answered."""
        return self._answer(call_key(self._name, messages, settings, replicate))

    async def fill(
        self, messages: Sequence[Message], form: Form, settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        """Return how the form was filled in."""
        return self._answer(call_key(self._name, messages, settings, replicate, form))

    def _answer(self, key: str) -> Reply | Failure:
        stored = self._journal.get(key)
        if stored is not None:
            return decode_reply(stored)
        missing = Failure(FailureKind.SERVER_ERROR, "not answered in the batches")
        return self._failures.get(key, missing)
