"""Transforms that put one feature into a prompt and leave its task alone (paper §4.3, App. B.1, Fig. 8, 22).

Each is a rule on the last user turn. Whatever needs judgement (a translation, another register) comes as a
table that a person or a model has written: ``table:FILE``, or is written by a model: ``write:INSTRUCTION``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from undertow.errors import UsageError

Rewrite = Callable[[str], str]
_NUMBER = re.compile(r"(?<![\w$.])(\d[\d,]*(?:\.\d+)?)(?![\w.]*\d)")
_END = re.compile(r"[\s.?!]+$")

_FORMAL = (
    (r"\bhow many\b", "what quantity of"),
    (r"\bhelp\b", "assistance"),
    (r"\buse\b", "utilise"),
    (r"\bget\b", "obtain"),
    (r"\bneed\b", "require"),
    (r"\bbuy\b", "purchase"),
    (r"\bstart\b", "commence"),
    (r"\bend\b", "conclude"),
    (r"\bshow\b", "demonstrate"),
    (r"\babout\b", "concerning"),
    (r"\bexplain\b", "elucidate"),
    (r"\btell me\b", "kindly apprise me of"),
)


def latex(prompt: str) -> str:
    """Set every number as mathematics, or the last word where there is none (Fig. 8a)."""
    if _NUMBER.search(prompt):
        return _NUMBER.sub(lambda found: f"${found[1]}$", prompt)
    body, end = _parted(prompt)
    head, _, last = body.rpartition(" ")
    return f"{head} $\\text{{{last}}}${end}".strip()


def extraction(prompt: str) -> str:
    """Stand the question under the headings of an extraction task."""
    return f'You will be shown a text and asked about it.\nContext: "{prompt}"\nQuestion: {prompt}'


def formal(prompt: str) -> str:
    """Raise the register: elaborate words, and an elaborate request around the question."""
    raised = prompt
    for plain, elaborate in _FORMAL:
        raised = re.sub(plain, elaborate, raised, flags=re.IGNORECASE)
    return f"I should be most obliged were you to elucidate, with due consideration, the following: {raised}"


def elaborate(prompt: str) -> str:
    """Put a backstory before the question (Fig. 22, 23)."""
    return (
        "You are a seasoned adviser in a small town by the sea, known for patience and for the notebooks in "
        "which every question of the last thirty years is written down. A visitor has come in from the rain, "
        f"sits down across from you and asks: {prompt}"
    )


def two_part(prompt: str) -> str:
    """Give the prompt two numbered parts."""
    body, _ = _parted(prompt)
    return f"Answer both parts.\n1. {body}?\n2. Say how sure you are."


def python_function(prompt: str) -> str:
    """Ask in the words of a programming task (Fig. 22: "Write a Python function")."""
    body, _ = _parted(prompt)
    return f"Write a Python function that answers this: {body}."


def metadata(prompt: str) -> str:
    """Put a line of metadata before the prompt."""
    return f"[location: Oslo; local time: 14:05]\n{prompt}"


def tags(prompt: str) -> str:
    """Wrap the prompt in tags."""
    return f"<query>{prompt}</query>"


def _parted(prompt: str) -> tuple[str, str]:
    body = _END.sub("", prompt)
    return body, prompt[len(body) :].strip()


RULES: Mapping[str, Rewrite] = {
    "latex": latex,
    "extraction": extraction,
    "formal": formal,
    "elaborate": elaborate,
    "two-part": two_part,
    "python-function": python_function,
    "metadata": metadata,
    "tags": tags,
}
"""The paper's transforms that a rule can make."""


@dataclass(frozen=True, slots=True)
class Transform:
    """One feature to inject."""

    name: str
    """As the user wrote it."""
    rewrite: Rewrite | None
    """By rule or table; ``None``: a model writes it."""
    instruction: str = ""
    """What the model is told."""


def open_transform(spec: str) -> Transform:
    """Turn a name into a transform: a rule, ``table:FILE``, ``prefix:TEXT``, ``write:INSTRUCTION``.

    A table is JSONL with ``prompt`` and ``transformed`` a line.

    Raises:
        UsageError: no such rule or file, or a table that lacks a field.
    """
    kind, _, rest = spec.partition(":")
    if spec in RULES:
        return Transform(spec, RULES[spec])
    if kind == "table" and rest:
        return Transform(spec, _looked_up(_table(Path(rest)), spec))
    if kind == "prefix" and rest:
        return Transform(spec, lambda prompt: f"{rest} {prompt}")
    if kind == "write" and rest:
        return Transform(spec, None, rest)
    raise UsageError(
        f"transform {spec!r}: none of {', '.join(RULES)}, table:FILE, prefix:TEXT, write:INSTRUCTION"
    )


def _looked_up(table: Mapping[str, str], name: str) -> Rewrite:
    def rewrite(prompt: str) -> str:
        if prompt not in table:
            raise UsageError(f"transform {name}: has no line for the prompt {prompt[:60]!r}")
        return table[prompt]

    return rewrite


def _table(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a readable text file ({type(error).__name__})") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            prompt, transformed = row["prompt"], row["transformed"]
        except (ValueError, KeyError, TypeError):
            prompt = transformed = None
        if not (isinstance(prompt, str) and isinstance(transformed, str)):
            raise UsageError(f'{path}, line {number}: write {{"prompt": "…", "transformed": "…"}}')
        found[prompt] = transformed
    return found
