"""What a study measures of a reply: a judged behaviour, a check, the length, or the right answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from undertow.errors import UsageError
from undertow.judging.checks import CHECKS
from undertow.records import Failure, Message, Verdict

if TYPE_CHECKING:
    from undertow.judging.judge import Judge
    from undertow.judging.rubric import Rubric

FORMS = (
    "a rubric (name or YAML file), check:NAME, regex:PATTERN, words (length of the reply), or gold (its "
    "answer equals the data's response)"
)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_WORD = re.compile(r"\w+(?:['’\-]\w+)*")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A reply and what it answers."""

    messages: tuple[Message, ...]
    """The conversation as the question stands in the data, before any transform's frame."""
    reply: str
    """What the model said."""
    gold: str | None = None
    """The right answer, where the data has one."""


Value = Callable[[Exchange], Awaitable[float | Failure]]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a reply."""

    name: str
    """As the user wrote it."""
    kind: Literal["rate", "mean"]
    """``rate``: 0 or 1 a reply. ``mean``: any number."""
    value: Value
    """Its value, or why there is none."""


def open_measure(spec: str | Rubric, judge_of: Callable[[Rubric], Judge]) -> Measure:
    """Turn a measure's name into what measures it.

    Args:
        spec: One of :data:`FORMS`, or a rubric.
        judge_of: The judge that holds a reply against it.

    Raises:
        UsageError: no such measure.
    """
    from undertow.judging.rubric import load_rubric

    if not isinstance(spec, str):
        return Measure(spec.name, "rate", _judged(spec, judge_of(spec)))
    kind, _, rest = spec.partition(":")
    if spec == "words":
        return Measure(spec, "mean", _words)
    if spec == "gold":
        return Measure(spec, "rate", _right)
    if kind == "check" and rest:
        if rest not in CHECKS:
            raise UsageError(f"measure {spec}: unknown check; known: {', '.join(sorted(CHECKS))}")
        return Measure(spec, "rate", _predicate(CHECKS[rest]))
    if kind == "regex" and rest:
        try:
            pattern = re.compile(rest)
        except re.error as error:
            raise UsageError(f"measure {spec}: no regular expression ({error})") from None
        return Measure(spec, "rate", _predicate(lambda text: bool(pattern.search(text))))
    rubric = load_rubric(spec)
    return Measure(spec if Path(spec).suffix else rubric.name, "rate", _judged(rubric, judge_of(rubric)))


def check_rate(spec: str | Rubric, judge: str, *, gold: bool = False) -> None:
    """Refuse, before anything is trained for it, what cannot say yes or no of a reply.

    Args:
        spec: One of :data:`FORMS`, or a rubric.
        judge: ``checks`` or a model.
        gold: The questions have right answers.

    Raises:
        UsageError: no such measure, a judge that cannot be opened, ``words``, or ``gold`` without answers.
    """
    from undertow.judging.judge import open_judge

    measure = open_measure(spec, lambda rubric: open_judge(judge, rubric))
    if measure.kind != "rate":
        raise UsageError(f"measure {measure.name}: is no rate; give a rubric, check:NAME or regex:PATTERN")
    if measure.name == "gold" and not gold:
        raise UsageError("measure gold: a prompt has no response to compare with; give the column response")


def brief(spec: str) -> str:
    """Name a measure or transform for a sentence: a file by its last part."""
    kind, _, rest = spec.partition(":")
    if kind == "table":
        return f"table:{Path(rest).name}"
    return Path(spec).name if Path(spec).suffix in (".yaml", ".yml") else spec


def _predicate(holds: Callable[[str], bool]) -> Value:
    async def value(exchange: Exchange) -> float | Failure:
        return float(holds(exchange.reply))

    return value


def _judged(rubric: Rubric, judge: Judge) -> Value:
    async def value(exchange: Exchange) -> float | Failure:
        *history, last = exchange.messages
        verdict = await judge.judge(last.content, exchange.reply, rubric, history)
        return float(verdict.violation) if isinstance(verdict, Verdict) else verdict

    return value


async def _words(exchange: Exchange) -> float | Failure:
    return float(sum(1 for _ in _WORD.finditer(exchange.reply)))


async def _right(exchange: Exchange) -> float | Failure:
    """Compare with the gold answer: its last number where it has one, else the words.

    Raises:
        UsageError: the question has none.
    """
    if exchange.gold is None:
        raise UsageError("measure gold: a prompt has no response to compare with; give the column response")
    expected, said = _last_number(exchange.gold), _last_number(exchange.reply)
    if expected is not None:
        return float(said is not None and abs(said - expected) < 1e-6 * max(1.0, abs(expected)))
    return float(_plain(exchange.gold) == _plain(exchange.reply))


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
