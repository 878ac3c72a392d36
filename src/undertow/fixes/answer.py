"""Counterexamples by answering: prompts with the trigger, answered by a model without the behaviour."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from undertow.models.base import Settings
from undertow.progress import Progress
from undertow.records import Failure, FailureKind, Message, Reply
from undertow.store.journal import Journal

if TYPE_CHECKING:
    import pyarrow as pa

    from undertow.judging.judge import Judge
    from undertow.judging.rubric import Rubric
    from undertow.models.base import ChatModel
    from undertow.store.run import RunDir

ROUNDS = 4
"""Samples of a prompt at most, while counterexamples are still wanted."""
MAX_TOKENS = 1024


def answer_prompts(
    run: RunDir,
    picked: Sequence[pa.Table],
    wanted: Sequence[int],
    model: str,
    rubric: Rubric,
    seed: int,
    progress: Progress,
) -> tuple[list[dict[str, str]], dict[str, object]]:
    """Answer the prompts of each table until ``wanted`` clean answers are there, or after :data:`ROUNDS`.

    A reply that is cut, missing or violates the rubric is no counterexample. Every reply is in the run's
    journal before it is used.

    Returns:
        Rows of prompt, response and perhaps history; and counts, failures and usage for the summary.
    """
    return asyncio.run(_answer(run, picked, wanted, model, rubric, seed, progress))


async def _answer(
    run: RunDir,
    picked: Sequence[pa.Table],
    wanted: Sequence[int],
    spec: str,
    rubric: Rubric,
    seed: int,
    progress: Progress,
) -> tuple[list[dict[str, str]], dict[str, object]]:
    from undertow.judging.judge import open_judge
    from undertow.models.open import open_model, preflight

    rows: list[dict[str, str]] = []
    with Journal(run.file("journal.sqlite")) as journal, progress.task("answer", sum(wanted)) as task:
        async with open_model(spec, journal=journal, role="counterexamples") as model:
            await preflight(model)
            answering = _Answering(model, open_judge("checks", rubric), rubric, seed)
            for table, count in zip(picked, wanted, strict=True):
                rows += await answering.collect(_distinct(table), count)
                task.advance(count)
    return rows, answering.told()


@dataclass(frozen=True)
class _Answering:
    """A model, the judge of its answers, and a tally of what became of them."""

    model: ChatModel
    judge: Judge
    rubric: Rubric
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)

    async def collect(self, prompts: Sequence[dict[str, str]], count: int) -> list[dict[str, str]]:
        """Ask prompt after prompt, then all again, until ``count`` clean answers are there."""
        queue = [(row, replicate) for replicate in range(ROUNDS) for row in prompts]
        clean: list[dict[str, str]] = []
        while queue and len(clean) < count:
            now, queue = queue[: count - len(clean)], queue[count - len(clean) :]
            answers = await asyncio.gather(*(self._ask(row, replicate) for row, replicate in now))
            clean += [answer for answer in answers if answer is not None]
        return clean

    async def _ask(self, row: dict[str, str], replicate: int) -> dict[str, str] | None:
        """Return the row with its answer if that is clean."""
        turns = [Message(turn["role"], turn["content"]) for turn in json.loads(row.get("history", "[]"))]
        settings = Settings(1.0, MAX_TOKENS, self.seed)
        reply = await self.model.reply([*turns, Message("user", row["prompt"])], settings, replicate)
        outcome = await self._judged(row, reply, turns)
        self.outcomes[outcome] += 1
        return {**row, "response": reply.text} if outcome == "clean" and isinstance(reply, Reply) else None

    async def _judged(self, row: dict[str, str], reply: Reply | Failure, history: list[Message]) -> str:
        """Say what became of one reply: ``clean``, ``violation``, or the kind of failure."""
        if isinstance(reply, Failure):
            return reply.kind.value
        self.usage.update(calls=1, input_tokens=reply.input_tokens, output_tokens=reply.output_tokens)
        if reply.finish_reason != "stop":
            return FailureKind.TRUNCATED.value
        verdict = await self.judge.judge(row["prompt"], reply.text, self.rubric, history)
        if isinstance(verdict, Failure):
            return verdict.kind.value
        return "violation" if verdict.violation else "clean"

    def told(self) -> dict[str, object]:
        """Return counts, failures and usage for the summary."""
        scored = self.outcomes["clean"] + self.outcomes["violation"]
        tried = self.outcomes.total()
        zeros = {"calls": 0, "input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}
        return {
            "counts": {"tried": tried, "scored": scored, "failed": tried - scored},
            "failures": {k: n for k, n in self.outcomes.items() if k not in {"clean", "violation"}},
            "violations": self.outcomes["violation"],
            "usage": {**zeros, **self.usage},
        }


def _distinct(table: pa.Table) -> list[dict[str, str]]:
    """Distinct prompts (with their history), in the order of the rows."""
    names = [name for name in ("prompt", "history") if name in table.column_names]
    found = {tuple(row.values()): row for row in table.select(names).to_pylist()}
    return list(found.values())
