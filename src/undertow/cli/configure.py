"""From options to a validated config: a bad value becomes one line that names its option."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from undertow.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

C = TypeVar("C", bound="BaseModel")


def configure(kind: type[C], **values: object) -> C:
    """Build a config from options; ``None`` means the config's own default.

    Raises:
        UsageError: a value is out of range; the option is named.
    """
    from pydantic import ValidationError

    try:
        return kind(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = "-".join(str(part) for part in first["loc"]).replace("_", "-")
        raise UsageError(f"--{option} {first['input']}: {first['msg'].lower()}") from None
