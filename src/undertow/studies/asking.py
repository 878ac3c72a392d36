"""Cells that are questions to a model: asked, measured, kept in a journal, summed up with intervals."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from undertow.errors import UndertowError, UsageError
from undertow.models.base import ChatModel, Settings
from undertow.models.budget import Budget
from undertow.models.prices import Price
from undertow.progress import SILENT, Progress, Task
from undertow.records import Failure, FailureKind, Interval, Message, Reply
from undertow.stats.intervals import paired_difference, wilson_bounds
from undertow.stats.resample import bootstrap_groups
from undertow.store.journal import Journal
from undertow.store.run import RunDir
from undertow.store.tables import write_table
from undertow.studies.cells import Hole
from undertow.studies.measures import Exchange, Measure, open_measure

if TYPE_CHECKING:
    from undertow.judging.judge import Judge
    from undertow.judging.rubric import Rubric

_MEANS = ("concurrency", "max_calls", "max_cost", "prices")


class AskingConfig(BaseModel):
    """How a study asks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicates: int = Field(default=1, ge=1, le=1000)
    """Samples of each question."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature of the targets."""
    max_tokens: int = Field(default=256, ge=1, le=1_000_000)
    """Longest answer, tokens."""
    failure_share: float = Field(default=0.1, ge=0, le=1)
    """A cell that lacks more than this share of its answers is missing."""
    seed: int = 0
    """Fixes every draw, and the replies where the target is deterministic."""
    concurrency: int | None = Field(default=None, ge=1)
    """Calls in flight a model; adaptive without."""
    max_calls: int | None = Field(default=None, ge=0)
    """Cap of model calls."""
    max_cost: float | None = Field(default=None, ge=0)
    """Cap of US dollars."""
    prices: dict[str, Price] = Field(default_factory=dict)
    """Prices by role where none is known."""

    def identity(self) -> dict[str, Any]:
        """Return what shapes the result, without the means."""
        return self.model_dump(mode="json", exclude=set(_MEANS))


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt of a study."""

    id: str
    """Pairs questions over cells."""
    messages: tuple[Message, ...]
    """What is judged: the question as the data has it, or as a transform made it."""
    asked: tuple[Message, ...] = ()
    """What the model is sent, where more stands in front; empty: ``messages``."""
    gold: str | None = None
    """The right answer."""


@dataclass(frozen=True, slots=True)
class Group:
    """The questions of one cell."""

    place: dict[str, Any]
    """Its coordinates; ``model`` is one of them."""
    model: str | ChatModel
    """Who is asked."""
    questions: tuple[Question, ...]
    """In an order that pairs them with another cell's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply and what was measured of it."""

    question: str
    """Id of the question."""
    replicate: int
    """Which sample of it."""
    sent: str
    """Last turn as it was sent."""
    reply: Reply | Failure
    """What came back."""
    values: tuple[float | Failure, ...]
    """One a measure."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A cell, answered."""

    place: dict[str, Any]
    """Its coordinates."""
    answers: tuple[Answer, ...]
    """Question by question, replicates together."""

    def column(self, measure: int) -> NDArray[np.float64]:
        """Values of one measure (answers,), NaN where missing: for pairing, never for a mean."""
        found = (answer.values[measure] for answer in self.answers)
        return np.array([np.nan if isinstance(v, Failure) else v for v in found])

    def questions(self) -> NDArray[np.str_]:
        """Question ids (answers,)."""
        return np.array([answer.question for answer in self.answers])

    def lost(self, measure: int) -> list[Failure]:
        """Return the failures of one measure."""
        return [v for a in self.answers if isinstance(v := a.values[measure], Failure)]


@dataclass
class Asked:
    """What a study's questions came to."""

    measures: tuple[Measure, ...]
    """In the order of ``Answer.values``."""
    cells: list[Answers] = field(default_factory=list)
    """The cells that have enough answers."""
    holes: list[Hole] = field(default_factory=list)
    """The others."""
    counts: dict[str, int] = field(default_factory=dict)
    """tried, scored, failed."""
    failures: dict[str, int] = field(default_factory=dict)
    """Kind → n."""
    usage: dict[str, Any] = field(default_factory=dict)
    """Calls, tokens, cost."""
    stopped: str | None = None
    """Why the budget ended it."""

    def parts(self) -> dict[str, Any]:
        """Return the parts of a summary that every asking study has."""
        return {
            "counts": self.counts, "failures": self.failures, "usage": self.usage, "stopped": self.stopped,
            "measures": [measure.name for measure in self.measures],
        }  # fmt: skip


def ask_groups(
    run: RunDir,
    groups: Sequence[Group],
    measures: Sequence[str | Rubric],
    judge: str | ChatModel,
    config: AskingConfig,
    progress: Progress = SILENT,
) -> Asked:
    """Ask every group's questions and measure the replies; model by model, all cells of a model at once.

    Every reply is in ``run``'s journal before it is used. A model that cannot be opened leaves holes.
    Writes ``samples.parquet``.

    Raises:
        UsageError: an unknown measure, a judge that cannot be opened, or no model that can be.
    """
    if "gold" in measures and any(q.gold is None for group in groups for q in group.questions):
        raise UsageError("--measure gold: a prompt has no response to compare with; give the column response")
    with Journal(run.file("journal.sqlite")) as journal:
        spent = journal.usage()
        budget = Budget(config.max_calls, config.max_cost, spent.calls, spent.cost_usd)
        asked = asyncio.run(_ask(groups, measures, judge, config, journal, budget, progress))
        asked.usage = asdict(journal.usage())
        asked.stopped = budget.stopped.detail if budget.stopped else None
    return asked


async def _ask(
    groups: Sequence[Group],
    measures: Sequence[str | Rubric],
    judge: str | ChatModel,
    config: AskingConfig,
    journal: Journal,
    budget: Budget,
    progress: Progress,
) -> Asked:
    async with AsyncExitStack() as stack:
        opener = _Opener(journal, budget, config)
        opened = await opener.measures(stack, measures, judge)
        asked = Asked(opened)
        everything: list[Answers] = []
        unopened: list[UndertowError] = []
        with progress.task("asking", sum(len(g.questions) for g in groups) * config.replicates) as task:
            for model in _in_order(groups):
                mine = [group for group in groups if group.model is model or group.model == model]
                try:
                    async with AsyncExitStack() as one:
                        target = await opener.model(one, model, "target")
                        done = await asyncio.gather(
                            *(_answers(target, g, opened, config, task) for g in mine)
                        )
                except UndertowError as error:
                    unopened.append(error)
                    asked.holes += [Hole(group.place, str(error)) for group in mine]
                    continue
                everything += done
        if unopened and not everything:
            raise unopened[0]
        _sort_out(asked, everything, config)
    return asked


def _in_order(groups: Sequence[Group]) -> list[str | ChatModel]:
    found: list[str | ChatModel] = []
    for group in groups:
        if not any(group.model is other or group.model == other for other in found):
            found.append(group.model)
    return found


@dataclass(frozen=True, slots=True)
class _Opener:
    journal: Journal
    budget: Budget
    config: AskingConfig

    async def model(self, stack: AsyncExitStack, model: str | ChatModel, role: str) -> ChatModel:
        from undertow.models.budget import BudgetedModel
        from undertow.models.journaled import JournaledModel
        from undertow.models.open import open_model, preflight

        if not isinstance(model, str):
            return JournaledModel(BudgetedModel(model, self.budget), self.journal, role)
        price = self.config.prices.get(role) or self.config.prices.get("")
        opened = open_model(
            model, journal=self.journal, role=role, concurrency=self.config.concurrency, budget=self.budget,
            price=price,
        )  # fmt: skip
        await preflight(await stack.enter_async_context(opened))
        return opened

    async def measures(
        self, stack: AsyncExitStack, specs: Sequence[str | Rubric], judge: str | ChatModel
    ) -> tuple[Measure, ...]:
        from undertow.judging.judge import LLMJudge, open_judge

        if not specs:
            raise UsageError("--measure: none is given; name what to measure of the replies")
        asked = None if judge == "checks" else await self._judge_model(stack, judge)

        def judge_of(rubric: Rubric) -> Judge:
            if asked is None:
                return open_judge("checks", rubric)
            if isinstance(judge, str):
                return open_judge(judge, rubric, asked, self.journal.secret())
            return LLMJudge(asked, secret=self.journal.secret())

        return tuple(open_measure(spec, judge_of) for spec in specs)

    async def _judge_model(self, stack: AsyncExitStack, judge: str | ChatModel) -> ChatModel:
        named = judge.removeprefix("checks+") if isinstance(judge, str) else judge
        return await self.model(stack, named, "judge")


async def _answers(
    model: ChatModel, group: Group, measures: Sequence[Measure], config: AskingConfig, task: Task
) -> Answers:
    settings = Settings(config.temperature, config.max_tokens, config.seed)

    async def one(question: Question, replicate: int) -> Answer:
        sent = question.asked or question.messages
        reply = await model.reply(sent, settings, replicate)
        values = [await _value(measure, question, reply) for measure in measures]
        task.advance()
        return Answer(question.id, replicate, sent[-1].content, reply, tuple(values))

    wanted = ((q, r) for q in group.questions for r in range(config.replicates))
    return Answers(group.place, tuple(await asyncio.gather(*(one(q, r) for q, r in wanted))))


async def _value(measure: Measure, question: Question, reply: Reply | Failure) -> float | Failure:
    if isinstance(reply, Failure):
        return reply
    return await measure.value(Exchange(question.messages, reply.text, question.gold))


def _sort_out(asked: Asked, everything: Sequence[Answers], config: AskingConfig) -> None:
    """Count what is missing; a cell that lacks too much becomes a hole."""
    values = [value for cell in everything for answer in cell.answers for value in answer.values]
    lost = [value for value in values if isinstance(value, Failure)]
    asked.counts = {"tried": len(values), "scored": len(values) - len(lost), "failed": len(lost)}
    asked.failures = dict(Counter(failure.kind.value for failure in lost).most_common())
    for cell in everything:
        worst = max((cell.lost(m) for m in range(len(asked.measures))), key=len, default=[])
        if len(worst) > config.failure_share * len(cell.answers) or not cell.answers:
            asked.holes.append(Hole(cell.place, _why(worst, len(cell.answers))))
        else:
            asked.cells.append(cell)
    asked.holes.sort(key=lambda hole: str(hole.place))


def _why(lost: Sequence[Failure], asked: int) -> str:
    if not asked:
        return "it has no question"
    kinds = Counter(failure.kind for failure in lost)
    unpaid = kinds.pop(FailureKind.BUDGET, 0)
    told = [f"{n} {kind.value}" for kind, n in kinds.most_common()]
    told += [f"{unpaid} not paid for"] if unpaid else []
    return f"{len(lost)} of {asked} answers are missing ({', '.join(told)})"


def save_answers(run: RunDir, asked: Asked, everything: Sequence[Answers] | None = None) -> None:
    """Write ``samples.parquet``: a row an answer, its place, and a column a measure (null where missing)."""
    cells = asked.cells if everything is None else everything
    places = list(dict.fromkeys(key for cell in cells for key in cell.place))
    rows = [(cell, answer) for cell in cells for answer in cell.answers]
    columns: dict[str, Any] = {
        key: pa.array([_told(cell.place.get(key)) for cell, _ in rows], pa.string()) for key in places
    }
    columns["question"] = [answer.question for _, answer in rows]
    columns["replicate"] = pa.array([answer.replicate for _, answer in rows], pa.int32())
    columns["prompt"] = [answer.sent for _, answer in rows]
    columns["reply"] = [a.reply.text if isinstance(a.reply, Reply) else None for _, a in rows]
    for number, measure in enumerate(asked.measures):
        found = (answer.values[number] for _, answer in rows)
        columns[measure.name] = pa.array([None if isinstance(v, Failure) else v for v in found], pa.float64())
    columns["failure"] = [_failed(answer) for _, answer in rows]
    write_table(pa.table(columns), run.file("samples.parquet"))


def _told(value: object) -> str | None:
    return None if value is None else str(value)


def _failed(answer: Answer) -> str | None:
    found = [value.kind.value for value in answer.values if isinstance(value, Failure)]
    return found[0] if found else None


def level(cell: Answers, measure: Measure, number: int, rng: np.random.Generator) -> dict[str, Any]:
    """Sum up one measure in one cell: value, interval, n answers, n questions.

    A rate's Wilson interval is taken at one trial a question where a question is asked several times (the
    resamples of a question are alike); a mean's is a bootstrap over questions.
    """
    values, questions = cell.column(number), cell.questions()
    known = ~np.isnan(values)
    values, questions = values[known], questions[known]
    n, groups = len(values), len(np.unique(questions))
    summary: dict[str, Any] = {
        "value": float(values.mean()) if n else None, "interval": None, "n": n, "questions": groups,
    }  # fmt: skip
    if n and measure.kind == "rate":
        low, high = wilson_bounds(values.mean() * groups, groups)
        summary["interval"] = Interval(float(low), float(high))
    elif n:
        summary["interval"] = bootstrap_groups(values, questions, rng)
    return summary


def change(
    before: Answers, after: Answers, measure: Measure, number: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Compare one measure over two cells with the same questions, answer by answer: after − before."""
    old, new = before.column(number), after.column(number)
    pairs = ~np.isnan(old) & ~np.isnan(new)
    old, new, questions = old[pairs], new[pairs], before.questions()[pairs]
    if measure.kind == "rate":
        difference = paired_difference(old > 0.5, new > 0.5, rng, questions)
        return {"delta": difference.value, "interval": difference.interval, "n": difference.n}
    value = float((new - old).mean()) if len(old) else None
    interval = bootstrap_groups(new - old, questions, rng) if len(old) else None
    return {"delta": value, "interval": interval, "n": len(old)}
