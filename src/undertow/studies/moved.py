"""Whether a behaviour has moved: triggers that a fresh search of the fixed model alone confirms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.errors import UsageError
from undertow.store.run import file_hash
from undertow.surf.bank import pool_hash

if TYPE_CHECKING:
    from undertow.surf.generate import Pool


def same_pool(inputs: Mapping[str, str], attributes: Path | Pool, prompts: Path | None) -> None:
    """Refuse attributes or prompts that are not those of the search, so that both draw on the same.

    Raises:
        UsageError: they are not, or cannot be read.
    """
    if isinstance(attributes, Path) and not attributes.exists():
        raise UsageError(f"{attributes}: no such file or folder; give the --attributes of the search")
    if pool_hash(attributes) != inputs.get("attributes"):
        name = attributes if isinstance(attributes, Path) else "the attribute pool"
        raise UsageError(f"{name}: not what the search drew on; give its own --attributes")
    if (file_hash(prompts) if prompts else None) != inputs.get("prompts"):
        wanted = "give its own --prompts" if inputs.get("prompts") else "leave --prompts out"
        raise UsageError(f"{prompts or '--prompts'}: not the prompt bank of the search; {wanted}")


def fresh_search(summary: Mapping[str, Any], known: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Tell what a search of the model after found: confirmed findings under a trigger that is another one.

    Confirmed means: above the base rate and, with the model before as reference, above its rate on the same
    prompts. A trigger is another one when it neither holds a known one nor is part of it.

    Args:
        summary: Of ``run_surf``.
        known: Attributes of the findings that were verified.

    Returns:
        ``status``, ``counts``, ``confirmed``, ``elsewhere`` (``id, attributes, rate, control_rate``) and
        ``out``.
    """
    confirmed = [finding for finding in summary["findings"] if finding["status"] == "confirmed"]
    keys = ("id", "attributes", "rate", "control_rate")
    return {
        "status": summary["status"],
        "counts": summary["counts"],
        "confirmed": len(confirmed),
        "elsewhere": [
            {key: finding[key] for key in keys}
            for finding in confirmed
            if not any(_nested(finding["attributes"], trigger) for trigger in known)
        ],
        "out": summary["out"],
    }


def _nested(one: Sequence[str], other: Sequence[str]) -> bool:
    return set(one) <= set(other) or set(other) <= set(one)
