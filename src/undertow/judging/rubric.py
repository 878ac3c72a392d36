"""A rubric: which behaviour, when it is wrong and when right, and what decides.

Rubrics are YAML. ``checks`` decide without a model: all must hold and none of ``unless``; ``levels`` tell a
judge model what its scores mean (paper §3.1.5).
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from undertow.errors import UsageError
from undertow.judging.checks import CHECKS

_SHIPPED = Path(__file__).parent / "rubrics"


class _RubricLoader(yaml.SafeLoader):
    """The safe loader, but ``on``, ``off``, ``yes`` and ``no`` are words, and no key is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a repeated key, of which YAML would silently keep the last."""
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_RubricLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:bool"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_RubricLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.IGNORECASE), list("tTfF")
)


class Check(BaseModel):
    """One predicate; keys beside the fields are its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    on: Literal["response", "prompt"] = "response"
    """Which text it looks at."""
    is_: str = Field("python", alias="is")
    """Name of a check; left out where ``python`` is given."""
    negate: bool = Field(False, alias="not")
    """It must not hold."""
    python: str | None = Field(None, pattern=r"^[\w.]+:\w+$")
    """``module:function``, called with (prompt, response); trusted local code."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The check's own arguments."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _known(self) -> Check:
        if self.python is not None:
            if self.is_ != "python" or self.arguments:
                raise ValueError("a python check takes neither `is` nor arguments")
            return self
        if self.is_ not in CHECKS:
            raise ValueError(f"unknown check {self.is_!r}; known: {', '.join(sorted(CHECKS))}")
        taken = list(inspect.signature(CHECKS[self.is_]).parameters)[1:]
        try:
            unknown = [name for name in self.arguments if name not in taken]
            if unknown:
                raise TypeError(f"no argument {unknown[0]!r}; it takes {', '.join(taken) or 'none'}")
            inspect.signature(CHECKS[self.is_]).bind("", **self.arguments)
        except TypeError as error:
            raise ValueError(f"check {self.is_!r}: {error}") from None
        _check_arguments(self.is_, self.arguments)
        return self

    def holds(self, prompt: str, response: str) -> bool:
        """Say whether the check holds for one exchange."""
        if self.python is not None:
            found = bool(_trusted(self.python)(prompt, response))
        else:
            text = response if self.on == "response" else prompt
            found = CHECKS[self.is_](text, **self.arguments)
        return found is not self.negate


def _check_arguments(name: str, arguments: dict[str, Any]) -> None:
    """Reject arguments that would fail, or mean something else, on every text."""
    phrases = arguments.get("any")
    if "any" in arguments and not (
        isinstance(phrases, list) and phrases and all(isinstance(phrase, str) for phrase in phrases)
    ):
        raise ValueError(f"check {name!r}: `any` must be a list of phrases")
    if "pattern" in arguments:
        try:
            re.compile(arguments["pattern"])
        except (re.error, TypeError) as error:
            raise ValueError(f"check {name!r}: pattern: {error}") from None
    for key in ("min", "max", "lines", "items"):
        if not isinstance(arguments.get(key, 0), int):
            raise ValueError(f"check {name!r}: `{key}` must be a whole number")


def _trusted(reference: str) -> Callable[[str, str], object]:
    module, _, name = reference.partition(":")
    try:
        found: Callable[[str, str], object] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"rubric: python check {reference}: {error}") from error
    return found


class Level(BaseModel):
    """What a range of scores means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: float = Field(ge=0, le=100)
    """Lowest score of the level."""
    max: float = Field(ge=0, le=100)
    """Highest score of the level."""
    meaning: str
    """What such a response does."""
    example: str = ""
    """A short one."""

    @model_validator(mode="after")
    def _ordered(self) -> Level:
        if self.min > self.max:
            raise ValueError("min is above max")
        return self


class Rubric(BaseModel):
    """A behaviour, and when it is in the wrong place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_\-]*$")
    """Short id."""
    behaviour: str
    """What the model does, one sentence."""
    when_wrong: str
    """Where it has no place."""
    when_right: str = ""
    """Where it is wanted; such a response scores 0."""
    levels: tuple[Level, ...] = ()
    """Meaning of the scores, for a judge model."""
    critical: tuple[str, ...] = ()
    """What a judge must keep in mind."""
    threshold: float = Field(70, ge=0, lt=100)
    """A score above it is a violation."""
    checks: tuple[Check, ...] = ()
    """All hold for a violation."""
    unless: tuple[Check, ...] = ()
    """If one holds there is no violation."""
    empty_reply: Literal["failure", "judge"] = "failure"
    """Whether an empty response is a Failure or evidence to be judged."""

    def violated(self, prompt: str, response: str) -> bool:
        """Decide by the checks alone: all of ``checks`` and none of ``unless``.

        Raises:
            UsageError: the rubric has no checks.
        """
        excused = any(check.holds(prompt, response) for check in self.unless)
        return self.shown(prompt, response) and not excused

    def shown(self, prompt: str, response: str) -> bool:
        """Say whether the behaviour is there at all, in the right place or not: all of ``checks`` hold.

        Raises:
            UsageError: the rubric has no checks.
        """
        if not self.checks:
            raise UsageError(f"rubric {self.name}: has no checks; it needs a judge model (--judge MODEL)")
        return all(check.holds(prompt, response) for check in self.checks)


def shipped_rubrics() -> list[str]:
    """Name the rubrics that come with undertow."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def load_rubric(name_or_path: str | Path) -> Rubric:
    """Load a shipped rubric by name, or one of the user's by path.

    Raises:
        UsageError: unknown name, no such file, bad YAML, unknown check; the message names file and place.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        path = _SHIPPED / f"{name_or_path}.yaml"
        if path.parent != _SHIPPED or not path.is_file():
            raise UsageError(
                f"rubric {name_or_path}: unknown; give a YAML file or one of {', '.join(shipped_rubrics())}"
            )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_RubricLoader)  # noqa: S506 (a SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"rubric {path}: cannot be read ({_line(error)})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"rubric {path}: not YAML ({_line(error)})") from error
    if not isinstance(content, dict):
        raise UsageError(f"rubric {path}: must be a mapping with name, behaviour, when_wrong")
    try:
        return Rubric.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "rubric"
        raise UsageError(f"rubric {path}: {where}: {first['msg'].removeprefix('Value error, ')}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
