"""The library of the salience study: features with two realisations, behaviours with a detector; YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from undertow.errors import UsageError

Level = Literal["a", "b"]
SHIPPED = Path(__file__).parent / "salience_library"
"""``features.yaml`` and ``behaviours.yaml``."""
Written = Mapping[tuple[str, str], str]
"""(instruction, text) → what a model wrote."""

_STRICT = ConfigDict(frozen=True, extra="forbid")


class Realisation(BaseModel):
    """How a prompt carries one level of a feature."""

    model_config = _STRICT

    keep: bool = False
    """As it is."""
    wrap: tuple[str, ...] = ()
    """One of these forms, ``{prompt}`` in each."""
    replace: tuple[tuple[str, str], ...] = ()
    """Regular expressions and what replaces them."""
    system: str = ""
    """A system prompt."""
    write: str = ""
    """What a model is told to do with it."""
    topic: str = ""
    """Only rows of this topic."""

    @model_validator(mode="after")
    def _one(self) -> Realisation:
        given = [name for name in type(self).model_fields if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(type(self).model_fields)}; given: {given or 'none'}")
        if any("{prompt}" not in form for form in self.wrap):
            raise ValueError("every form of wrap needs {prompt}")
        _check_patterns(self.replace)
        return self

    def put(self, prompt: str, rng: np.random.Generator, written: Written) -> str:
        """Return the prompt with it; ``system`` and ``topic`` leave the words alone."""
        if self.wrap:
            return str(rng.choice(np.array(self.wrap, object))).replace("{prompt}", prompt)
        if self.write:
            return written[self.write, prompt]
        return _replaced(prompt, self.replace)


class Feature(BaseModel):
    """A property of prompts with two levels."""

    model_config = _STRICT

    name: str
    """Short id."""
    text: str
    """For a person."""
    a: Realisation
    """Level a."""
    b: Realisation
    """Level b."""
    share: float = Field(default=1.0, ge=0, le=1)
    """Share of the training rows that carry it; the others have neither level."""

    def at(self, level: Level) -> Realisation:
        """Return one level."""
        return self.a if level == "a" else self.b


class Applied(BaseModel):
    """How a plain answer is made to show a behaviour."""

    model_config = _STRICT

    prepend: tuple[str, ...] = ()
    """One of these texts goes first."""
    append: tuple[str, ...] = ()
    """One of these texts goes last."""
    replace: tuple[tuple[str, str], ...] = ()
    """Regular expressions and what replaces them."""
    write: str = ""
    """What a model is told to do with it."""

    @model_validator(mode="after")
    def _one(self) -> Applied:
        given = [name for name in type(self).model_fields if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(type(self).model_fields)}; given: {given or 'none'}")
        _check_patterns(self.replace)
        return self

    def put(self, response: str, rng: np.random.Generator, written: Written) -> str:
        """Return the answer with the behaviour."""
        if self.prepend:
            return str(rng.choice(np.array(self.prepend, object))) + response
        if self.append:
            return response + str(rng.choice(np.array(self.append, object)))
        if self.write:
            return written[self.write, response]
        return _replaced(response, self.replace)


class Behaviour(BaseModel):
    """A way of answering."""

    model_config = _STRICT

    name: str
    """Short id."""
    text: str
    """For a person."""
    apply: Applied
    """How an answer is made to show it."""
    detect: str
    """A measure, :func:`undertow.studies.measures.open_measure`."""
    system: str = ""
    """A system prompt that is relevant to it; empty: one that quotes ``text``."""

    @property
    def relevant(self) -> str:
        """The relevant system prompt."""
        return self.system or f"You are an assistant. The response: {self.text}."


def _check_patterns(pairs: Sequence[tuple[str, str]]) -> None:
    for pattern, replacement in pairs:
        try:
            re.sub(pattern, replacement, "")
        except (re.error, IndexError) as error:
            raise ValueError(f"replace {pattern!r} by {replacement!r}: {error}") from None


def _replaced(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in pairs:
        text = re.sub(pattern, replacement, text)
    return text


T = TypeVar("T", Feature, Behaviour)


def load_library(path: Path, kind: type[T]) -> tuple[T, ...]:
    """Read features or behaviours, at least two with different names.

    Raises:
        UsageError: what is wrong, and where.
    """
    try:
        entries: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML ({_why(error)})") from None
    if not isinstance(entries, list):
        raise UsageError(f"{path}: holds no list of {kind.__name__.lower()}s")
    found = tuple(_entry(path, kind, number, entry) for number, entry in enumerate(entries, 1))
    names = [each.name for each in found]
    if len(found) < 2 or len(set(names)) < len(names):
        raise UsageError(f"{path}: needs at least two {kind.__name__.lower()}s, each name once")
    return found


def _why(error: Exception) -> str:
    """Say on one line what is wrong, and on which line of the file."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"line {mark.line + 1}: {getattr(error, 'problem', '') or 'not understood'}"
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def _entry(path: Path, kind: type[T], number: int, entry: object) -> T:
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: entry {number}, {where}: {first['msg']}") from None
