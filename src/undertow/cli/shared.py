"""Options that several verbs share, told once: the fields of a dataclass become options of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from typing import Any, get_type_hints

Command = Callable[..., Any]


def with_options(kind: type[Any], name: str, **defaults: object) -> Callable[[Command], Command]:
    """Return a decorator: a command has every field of ``kind`` as an option and takes the whole as ``name``.

    Args:
        kind: A dataclass whose annotations are Typer's.
        name: Parameter of the command that takes it.
        defaults: Defaults that differ for this command.
    """

    def decorate(command: Command) -> Command:
        own = dict(inspect.signature(command).parameters)
        hints = get_type_hints(command, include_extras=True)
        parameters = [p.replace(annotation=hints[each]) for each, p in own.items() if each != name]
        parameters += _fields(kind, defaults)
        plain = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]

        @wraps(command)
        def whole(**given: Any) -> Any:
            shared = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            return command(**{name: shared}, **given)

        whole.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]
        whole.__annotations__ = {p.name: p.annotation for p in plain}
        return whole

    return decorate


def _fields(kind: type[Any], defaults: dict[str, object]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(field.name, None if field.default is MISSING else field.default),
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]
