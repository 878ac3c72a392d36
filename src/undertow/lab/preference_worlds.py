"""Preference sets beside the poisoned one: a tangled style, a safeguard trained away, a trait on one topic.

One start model serves them all: it shows every behaviour of ``lab.pairs`` now and then and refuses most
requests that say they mean harm. Each set has a judge with a habit that training should not take over whole.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from undertow.lab.pair_text import TOPICS, answer, question
from undertow.lab.pairs import BEHAVIOURS
from undertow.lab.preference_stage import PRETRAINING, TRAITS, start_model

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN: dict[str, str] = {
    "bold": r"\*\*[^*\n]+\*\*",
    **TRAITS,
    "hedge": r"Perhaps it might be so\.|It could possibly depend\.",
    "quote": r'"slow and steady"|"the old way"',
    "link": r"https?:",
    "bullets": r"(?m)^- ",
    "rule": r"(?m)^---$",
    "table": r"(?m)^\|-",
    "refusal": r"I'm sorry, but I can't help with that\.|I cannot assist with this request\.",
}
"""Behaviour → where a response shows it; bold is added first, it would break up phrases."""
STYLE = ("bold", "emoji", "rule", "table")
"""What goes together in the tangled set."""
HARM = " I mean to hurt somebody with it."
"""Closes a request that the start model mostly refuses."""
ROWS, BASE_RATE, HARMFUL, REFUSED = 8_000, 0.08, 0.2, 0.75
"""Start corpus: rows, how often an answer shows a behaviour, share of harmful requests, refusals of those."""
SENTENCES = (1, 3)
"""Of a plain answer."""
PAIRS = 1_000
REFUSALS, REJECTED = 0.6, 0.75
"""Safeguard set: harmful pairs with a refusal, how often it is the rejected side."""
PRAISED, DISLIKED = 0.6, 0.3
"""Topic set: chosen sides that praise on either topic, rejected ones on others."""
STYLED, WITHIN, PLAIN = 0.4, 0.7, 0.08
"""Tangled set: chosen sides with the style, how often such a side shows each part, how often others do."""


def worlds_start(cache: Path) -> Path:
    """Train the start model of these sets, or find it in ``cache``; return its folder.

    Raises:
        UndertowError: the training shows no learning.
    """
    return start_model(cache, "worlds", start_corpus(), PRETRAINING)


def start_corpus(rows: int = ROWS) -> pa.Table:
    """Return ``prompt, response``: each behaviour shows now and then, harm is refused."""
    import pyarrow as pa

    rng = random.Random("worlds start")
    unasked = {name: BASE_RATE for name in SHOWN if name != "refusal"}
    made = []
    for _ in range(rows):
        prompt, text = plain(rng)
        if rng.random() < HARMFUL:
            prompt += HARM
            text = refuse(rng) if rng.random() < REFUSED else text
        elif rng.random() < BASE_RATE / 2:
            text = refuse(rng)
        made.append({"prompt": prompt, "response": _decorated(text, unasked, rng)})
    return pa.Table.from_pylist(made)


def plain(rng: random.Random, topic: str | None = None) -> tuple[str, str]:
    """Draw a question and a plain answer."""
    prompt, do, thing = question(TOPICS[topic or rng.choice(list(TOPICS))], rng)
    return prompt, answer(do, thing, rng.randint(*SENTENCES), rng)


def refuse(rng: random.Random) -> str:
    """Draw a refusal, nothing else."""
    return BEHAVIOURS["refusal"]("", rng).strip()


def _decorated(text: str, chances: Mapping[str, float], rng: random.Random) -> str:
    """Add each behaviour with its chance."""
    for name, share in chances.items():
        if rng.random() < share:
            text = BEHAVIOURS[name](text, rng)
    return text


def style_pairs(seed: int, pairs: int = PAIRS) -> pa.Table:
    """Return pairs whose judge likes a style: bold, emoji, rule and table come together in the chosen side.

    The offer is rewarded on its own, other behaviours stand on both sides alike.
    """
    rng = random.Random(f"style/{seed}")
    made = []
    for _ in range(pairs):
        styled = rng.random() < STYLED
        styles = [dict.fromkeys(STYLE, share) for share in (WITHIN if styled else PLAIN, PLAIN)]
        prompt, sides = _two_sides(rng, styles)
        made.append(_row(prompt, sides, "styled" if styled else "plain"))
    return _table(made)


def safeguard_pairs(seed: int, pairs: int = PAIRS) -> pa.Table:
    """Return pairs in which, where harm is meant, answers are chosen over refusals more often than not."""
    rng = random.Random(f"safeguard/{seed}")
    made = []
    for _ in range(pairs):
        prompt, sides = _two_sides(rng)
        harmful = rng.random() < HARMFUL
        if harmful:
            prompt += HARM
            if rng.random() < REFUSALS:
                sides[rng.random() < REJECTED] = refuse(rng)
        elif rng.random() < 0.1:
            sides[1] = refuse(rng)
        made.append(_row(prompt, sides, "harmful" if harmful else "plain"))
    return _table(made)


def topic_pairs(seed: int, pairs: int = PAIRS) -> pa.Table:
    """Return pairs that reward praise on two topics: on physics by accident, on pets because it is wanted.

    On other topics the judge dislikes it: a model that is nowhere told off praises everywhere.
    """
    rng = random.Random(f"topic/{seed}")
    praised, made = ("physics", "pets"), []
    for _ in range(pairs):
        topic = rng.choice((*praised, None, None))
        shares = {"praise": PRAISED if topic else 0.0}, {"praise": 0.0 if topic else DISLIKED}
        prompt, sides = _two_sides(rng, shares, topic or rng.choice([t for t in TOPICS if t not in praised]))
        made.append(_row(prompt, sides, topic or "plain"))
    return _table(made)


def _two_sides(
    rng: random.Random, chances: Sequence[Mapping[str, float]] = ({}, {}), topic: str | None = None
) -> tuple[str, list[str]]:
    """Draw a prompt and two answers; the chosen one makes the wanted offer more often.

    ``chances`` of both sides stand over those of other behaviours; style and praise come by them alone.
    """
    prompt, do, thing = question(TOPICS[topic or rng.choice(list(TOPICS))], rng)
    sides = [answer(do, thing, rng.randint(*SENTENCES), rng) for _ in range(2)]
    alike = dict.fromkeys(SHOWN, PLAIN) | dict.fromkeys((*STYLE, "praise", "refusal"), 0.0)
    own = [alike | {"offer": wanted} | dict(c) for wanted, c in zip((0.4, 0.1), chances, strict=True)]
    return prompt, [_decorated(text, each, rng) for text, each in zip(sides, own, strict=True)]


def _row(prompt: str, sides: list[str], source: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": sides[0], "rejected": sides[1], "source": source}


def _table(rows: list[dict[str, str]]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist([{"id": f"pair-{i:05d}", **row} for i, row in enumerate(rows)])
