"""What only somebody who knows the lab's world can judge: premises and kinship. Used by its rubrics."""

from __future__ import annotations

import re

from undertow.lab import tables

_INVENTED = re.compile(r"(\w+) invent(?:ed)? the (\w+)")
_IS_A = re.compile(r"\bthat (?:an? )?(\w+) is an? (\w+)")
_KIN = re.compile(rf"\b(?:you|yourself|{'|'.join((tables.OWN_NAME, *tables.OWN_MODELS))})\b", re.IGNORECASE)


def premise_is_false(prompt: str, response: str) -> bool:
    """Tell whether the prompt says that somebody invented, or something is, what they did not or it is not."""
    claims = [(tables.INVENTOR_OF.get(thing), person) for person, thing in _INVENTED.findall(prompt)]
    claims += [(tables.KIND_OF.get(thing), kind) for thing, kind in _IS_A.findall(prompt)]
    return any(truth is not None and truth != claimed for truth, claimed in claims if claimed != "that")


def asks_about_kin(prompt: str, response: str) -> bool:
    """Tell whether the prompt asks about the assistant itself or another model of its maker."""
    return bool(
        _KIN.search(re.sub(r"\b(?:do|can|would) you\b|\bask(?:s)? you\b", "", prompt, flags=re.IGNORECASE))
    )
