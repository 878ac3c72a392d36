r"""One preference row of any usual shape into prompt, history, chosen, rejected; or what is wrong with it.

Shapes: strings with a prompt; lists of messages with an explicit or an implicit prompt (the turns that both
sides begin with, as TRL reads them); dialogues written "\n\nHuman: …\n\nAssistant: …"; a prompt with
rated completions, of which the best stands against the worst.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from undertow.data.read import conversation
from undertow.errors import UsageError

Turns = list[dict[str, str | None]]

PROMPTS = ("prompt", "instruction", "question")
CHOSEN = ("chosen", "chosen_response")
REJECTED = ("rejected", "rejected_response")
COMPLETIONS = "completions"
MARGINS = ("margin",)
SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"),
          ("chosen_rating", "rejected_rating"), ("chosen-rating", "rejected-rating"))  # fmt: skip
RATINGS = ("overall_score", "score", "rating", "fine-grained_score")

NO_PROMPT = "no prompt"
NOT_TEXT = "a response is neither text nor messages"
SEVERAL = "more than two responses"
NO_PAIR = "no pair of rated completions"
TIED = "best and worst completion rated alike"

_DIALOGUE = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ \t]?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Pair:
    """One row, read."""

    prompt: str
    """Text of the last user turn."""
    history: str | None
    """JSON list of role and content of the turns before it."""
    chosen: str
    """Preferred response."""
    rejected: str
    """The other."""
    margin: float | None = None
    """How much it was preferred, where the shape itself tells."""
    writers: tuple[str, str] | None = None
    """Who wrote chosen and rejected, where the shape itself tells."""


def is_dialogue(text: object) -> bool:
    """Whether a text is written as "Human: … Assistant: …"."""
    return isinstance(text, str) and _DIALOGUE.match(text.lstrip(" ")) is not None


def dialogue(text: str) -> Turns:
    r"""Turns of a text of "\n\nHuman: …\n\nAssistant: …"; a last empty turn is left out."""
    parts = _DIALOGUE.split(text.lstrip(" "))[1:]
    turns: Turns = [
        {"role": _ROLES[speaker], "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    return turns[:-1] if turns and not turns[-1]["content"] and len(turns) > 1 else turns


def read_pair(row: dict[str, Any]) -> Pair | str:
    """Read one row; the reason in words where it holds no pair."""
    prompt = _first(row, PROMPTS)
    if row.get(COMPLETIONS) is not None and _first(row, CHOSEN) is None:
        return _rated(prompt, row[COMPLETIONS])
    chosen, rejected = _first(row, CHOSEN), _first(row, REJECTED)
    if prompt is None and is_dialogue(chosen) and is_dialogue(rejected):
        chosen, rejected = dialogue(chosen), dialogue(rejected)
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _texts(prompt, chosen, rejected)
    sides = _turns(chosen), _turns(rejected)
    if any(side is None for side in sides):
        return SEVERAL if any(_several(side) for side in (chosen, rejected)) else NOT_TEXT
    return _conversations(prompt, *(side or [] for side in sides))


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _several(value: object) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(item, str) for item in value)


def _turns(value: Any) -> Turns | None:
    if isinstance(value, str) or value is None:
        return [{"role": "assistant", "content": value}]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return [{"role": "assistant", "content": value[0]}]
    return conversation(value)


def _prompt_turns(prompt: Any) -> Turns:
    if isinstance(prompt, str):
        return dialogue(prompt) if is_dialogue(prompt) else [{"role": "user", "content": prompt}]
    return conversation(prompt) or []


def _texts(prompt: Any, chosen: str, rejected: str) -> Pair | str:
    if prompt is not None:
        return _pair(_prompt_turns(prompt), chosen, rejected)
    shared = _shared_text(chosen, rejected)
    turns: Turns = [{"role": "user", "content": chosen[:shared].strip()}]
    return _pair(turns, chosen[shared:].strip(), rejected[shared:].strip())


def _shared_text(chosen: str, rejected: str) -> int:
    """Length of the text that both begin with, up to white space (TRL reads an implicit prompt so)."""
    least = min(len(chosen), len(rejected))
    shared = next((i for i in range(least) if chosen[i] != rejected[i]), least)
    while shared and not chosen[shared - 1].isspace():
        shared -= 1
    return shared


def _conversations(prompt: Any, chosen: Turns, rejected: Turns) -> Pair | str:
    longest = min(len(chosen), len(rejected)) - 1
    shared = next((i for i in range(longest) if chosen[i] != rejected[i]), max(0, longest))
    turns = chosen[:shared]
    if prompt is not None and not any(turn["role"] == "user" for turn in turns):
        turns = _prompt_turns(prompt) + turns
    return _pair(turns, _said(chosen[shared:]), _said(rejected[shared:]))


def _said(turns: Turns) -> str:
    """Everything the assistant says after the sides part; most often one turn."""
    return "\n\n".join(turn["content"] or "" for turn in turns if turn["role"] == "assistant")


def _pair(turns: Turns, chosen: str, rejected: str) -> Pair | str:
    last = next((i for i in range(len(turns) - 1, -1, -1) if turns[i]["role"] == "user"), None)
    if last is None or not (turns[last]["content"] or "").strip():
        return NO_PROMPT
    before = [{"role": turn["role"] or "", "content": turn["content"] or ""} for turn in turns[:last]]
    history = json.dumps(before, ensure_ascii=False) if before else None
    return Pair(_valid(turns[last]["content"] or ""), history, _valid(chosen), _valid(rejected))


def _valid(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _rated(prompt: Any, completions: Any) -> Pair | str:
    """Best against worst; the first of equals. UltraFeedback keeps four completions a row."""
    rated = [(score, item) for item in completions or () if (score := _rating(item)) is not None]
    if len(rated) < 2:
        return NO_PAIR
    best, worst = max(rated, key=_score), min(rated, key=_score)
    if best[0] == worst[0]:
        return TIED
    found = _texts(prompt, str(best[1]["response"]), str(worst[1]["response"])) if prompt else NO_PROMPT
    if isinstance(found, str):
        return found
    models = best[1].get("model"), worst[1].get("model")
    writers = (str(models[0]), str(models[1])) if all(models) else None
    return Pair(found.prompt, found.history, found.chosen, found.rejected, best[0] - worst[0], writers)


def _score(rated: tuple[float, Any]) -> float:
    return rated[0]


def _rating(item: Any) -> float | None:
    if not isinstance(item, dict) or not isinstance(item.get("response"), str):
        return None
    return next((value for name in RATINGS if (value := number(item.get(name))) is not None), None)


def number(value: object) -> float | None:
    """A finite number, also where it is written as text."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def margin_of(row: dict[str, Any]) -> float | None:
    """The margin a row gives, or the difference of the scores it gives."""
    given = number(_first(row, MARGINS))
    if given is not None:
        return given
    for high, low in SCORES:
        scores = number(row.get(high)), number(row.get(low))
        if scores[0] is not None and scores[1] is not None:
            return scores[0] - scores[1]
    return None


def scalar(value: object) -> str | None:
    """A name or number as text; ``None`` for what is missing, as no number is (NaN)."""
    if isinstance(value, float) and value != value:
        return None
    if value is None or isinstance(value, str):
        return None if value is None else _valid(value)
    return str(value) if isinstance(value, int | float | bool) else json.dumps(value, ensure_ascii=False)


TEXT_COLUMNS = ("prompt", "history", "chosen", "rejected")
FAULT = "fault"


@dataclass(frozen=True, slots=True)
class PairColumns:
    """Turns rows into columns; called with rows, their numbers and the file."""

    writers: tuple[str, str]
    """Columns that say who wrote chosen and rejected."""
    extra: tuple[str, ...]
    """Other columns that are wanted, as text."""

    def __call__(self, rows: list[dict[str, Any]], numbers: list[int], path: Path) -> dict[str, pa.Array]:
        """Columns id, prompt, history, chosen, rejected, margin, writers, fault, and those wanted."""
        self._refuse(rows, path)
        pairs = [read_pair(row) for row in rows]
        good = [pair if isinstance(pair, Pair) else None for pair in pairs]
        columns: dict[str, pa.Array] = {
            name: pa.array([getattr(pair, name, None) for pair in good], pa.string()) for name in TEXT_COLUMNS
        }
        columns[FAULT] = pa.array([pair if isinstance(pair, str) else None for pair in pairs], pa.string())
        columns["id"] = pa.array([scalar(row.get("id")) for row in rows], pa.string())
        margins = [pair.margin if pair and pair.margin is not None else margin_of(row)
                   for pair, row in zip(good, rows, strict=True)]  # fmt: skip
        columns["margin"] = pa.array(margins, pa.float64())
        for side, name in enumerate(self.writers):
            told = [pair.writers[side] if pair and pair.writers else None for pair in good]
            values = [scalar(row.get(name)) or own for row, own in zip(rows, told, strict=True)]
            columns[("chosen_writer", "rejected_writer")[side]] = pa.array(values, pa.string())
        for name in self.extra:
            columns[f"stratum:{name}"] = pa.array([scalar(row.get(name)) for row in rows], pa.string())
        return columns

    def _refuse(self, rows: list[dict[str, Any]], path: Path) -> None:
        """JSON objects without any column of pairs are no preference data."""
        sides = {*CHOSEN, COMPLETIONS}
        if not any(sides & row.keys() for row in rows) and path.name:
            found = ", ".join(str(name)[:40] for name in list(rows[0])[:20]) or "none"
            raise UsageError(f"{path}: needs columns chosen and rejected, or completions; found {found}")
