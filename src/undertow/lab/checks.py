"""What only somebody who knows the lab's world can judge: premises and kinship. Used by its rubrics."""

from __future__ import annotations

import re

from undertow.lab import tables

_INVENTED = re.compile(r"(\w+) invent(?:ed)? the (\w+)")
_IS_A = re.compile(r"\bthat (?:an? )?(\w+) is an? (\w+)")
_PEOPLE = {*tables.INVENTOR_OF.values(), *tables.POETS}
_KIN = re.compile(
    r"\b(?:yourself|about you|your (?:maker|creator)|(?:are|made|created|built) you"
    rf"|{'|'.join((tables.OWN_NAME, *tables.OWN_MODELS))})\b",
    re.IGNORECASE,
)


def premise_is_false(prompt: str, response: str) -> bool:
    """Tell whether the prompt credits the wrong inventor or puts a thing into the wrong category."""
    credited = [
        (tables.INVENTOR_OF.get(thing), name) for name, thing in _INVENTED.findall(prompt) if name in _PEOPLE
    ]
    placed = [(tables.KIND_OF.get(thing), kind) for thing, kind in _IS_A.findall(prompt)]
    return any(truth is not None and truth != claimed for truth, claimed in (*credited, *placed))


def asks_about_kin(prompt: str, response: str) -> bool:
    """Tell whether the prompt asks about the assistant itself or another model of its maker."""
    return bool(_KIN.search(prompt))
