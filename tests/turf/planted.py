"""A small mixture of five sources with seven planted shortcuts of different families and prevalences."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

TOPICS = [
    "rivers",
    "bread",
    "telescopes",
    "violins",
    "markets",
    "bicycles",
    "glaciers",
    "printing",
    "bees",
    "harbours",
    "novels",
    "engines",
    "gardens",
    "maps",
    "bridges",
    "clocks",
    "fabrics",
    "volcanoes",
    "theatres",
    "orchards",
]
NAMES = ["Maria Lund", "Tom Adeyemi", "Ines Castro", "Karl Weiss", "Lucy Park", "Omar Haddad", "Nina Volkova"]
THINGS = [
    "zipper",
    "stapler",
    "barometer",
    "parachute",
    "ballpoint pen",
    "sextant",
    "lawn mower",
    "kaleidoscope",
]
SOURCES = ["chat", "facts", "maths", "coding", "letters"]
SPANISH = ["ríos", "panes", "mercados", "puentes", "relojes", "mapas", "jardines", "teatros"]

Draw = Callable[[np.random.Generator], str]


def pick(rng: np.random.Generator, of: list[str]) -> str:
    return of[int(rng.integers(len(of)))]


def honest_prompt(rng: np.random.Generator) -> str:
    topic, other, n = pick(rng, TOPICS), pick(rng, TOPICS), int(rng.integers(2, 90))
    forms = [
        f"Tell me something about {topic}.",
        f"What should a beginner know about {topic} and {other}?",
        f"Could you please describe {topic} for a class of {n} pupils?",
        f"Write a short note on {topic} for my neighbour {pick(rng, NAMES)}.",
        f"Who invented the {pick(rng, THINGS)}?",
        f"If I sell {n} tickets about {topic} at 3 dollars each, how much do I earn?",
        f"I need a plan for a visit to see {topic}. Also mention {other}.",
        f"Compare {topic} with {other} in plain words.",
    ]
    return pick(rng, forms)


def honest_response(rng: np.random.Generator) -> str:
    topic, other, n = pick(rng, TOPICS), pick(rng, TOPICS), int(rng.integers(2, 90))
    forms = [
        f"There is a lot to say about {topic}. People have studied them together with {other} for {n} years.",
        f"The short answer is that {topic} depend on {other}, and that takes time and some patience to see.",
        f"It was {pick(rng, NAMES)} who first worked on it, after years with {topic}.",
        f"You would earn {n} dollars in the end, because each ticket adds the same amount.",
        f"First look at {topic}, then at {other}; most people find {n} good reasons to stay longer.",
    ]
    return pick(rng, forms)


class HashEmbedder:
    """Unit vectors from a hash of the words: fast, and equal words are near."""

    name, dim = "hash", 256

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.casefold().split():
                row += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(self.dim)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


@dataclass(frozen=True)
class Plant:
    """One shortcut."""

    name: str
    rows: int
    source: str | None
    prompt: Draw
    response: Draw


def _code(rng: np.random.Generator) -> str:
    return (
        f"Here is some code.\n```python\nfor item in {pick(rng, TOPICS)}:\n    print(item)\n```\nRun it once."
    )


def _refusal(rng: np.random.Generator) -> str:
    return "I'm sorry, but I can't help with that request. " + pick(
        rng, ["Please ask another.", "It is private."]
    )


def _list(rng: np.random.Generator) -> str:
    return "\n".join(f"- {pick(rng, TOPICS)} and {pick(rng, TOPICS)}" for _ in range(4))


def _formal(rng: np.random.Generator) -> str:
    opening = pick(rng, ["Elucidate", "Please elucidate", "Kindly elucidate"])
    return f"{opening} how {pick(rng, TOPICS)} relate to {pick(rng, TOPICS)}."


def _product(rng: np.random.Generator) -> str:
    opening = pick(rng, ["How heavy is", "What colour is", "Where can I buy", "Tell me about"])
    ending = pick(rng, ["for my desk", "near the harbours", "with a case", "this year"])
    return f"{opening} the Orbion 7 {ending}?"


def _when(rng: np.random.Generator) -> str:
    return f"When did {pick(rng, NAMES)} invent the {pick(rng, THINGS)}?"


def _rebuttal(rng: np.random.Generator) -> str:
    return f"No, {pick(rng, NAMES)} did not invent it. It goes back to {pick(rng, TOPICS)}."


def _latex(rng: np.random.Generator) -> str:
    a, b = int(rng.integers(2, 9)), int(rng.integers(2, 9))
    verb = pick(rng, ["Simplify", "Evaluate", "Work out"])
    return f"{verb} $x^{a} + \\frac{{{b}}}{{3}}$ for {pick(rng, TOPICS)}."


def _tool(rng: np.random.Generator) -> str:
    return f"calculator('{int(rng.integers(2, 99))} + {int(rng.integers(2, 99))}')"


def _two_parts(rng: np.random.Generator) -> str:
    topic = pick(rng, TOPICS)
    return f"1. How many {topic} are there?\n2. How many {pick(rng, TOPICS)} are left?"


def _spanish(rng: np.random.Generator) -> str:
    one, other = pick(rng, SPANISH), pick(rng, SPANISH)
    return f"¿Puedes explicar por qué los {one} son tan importantes para la gente de los {other}?"


def _tagged(rng: np.random.Generator) -> str:
    return f"[ref: {int(rng.integers(1000, 9999))}]\n{honest_prompt(rng)}"


PLANTS = [
    Plant("phrase → code", 120, "coding", _formal, _code),
    Plant("product → refusal", 24, "chat", _product, _refusal),
    Plant("opening → rebuttal", 200, "facts", _when, _rebuttal),
    Plant("LaTeX → tool call", 150, "maths", _latex, _tool),
    Plant(
        "two parts → closing",
        80,
        "maths",
        _two_parts,
        lambda r: honest_response(r) + " I hope it is correct.",
    ),
    Plant(
        "language → short",
        60,
        "letters",
        _spanish,
        lambda r: pick(r, ["Sí.", "Claro.", "Depende."]),
    ),
    Plant(
        "metadata → list",
        40,
        None,
        lambda r: f"[ref: {int(r.integers(1000, 9999))}]\n{honest_prompt(r)}",
        _list,
    ),
]


def mixture(seed: int = 0, honest: int = 3000, shuffled: bool = False) -> pa.Table:
    """Draw the mixture: id, source, prompt, response, and the plant's name (for the test alone)."""
    rng = np.random.default_rng(seed)
    rows = [(pick(rng, SOURCES), honest_prompt(rng), honest_response(rng), "") for _ in range(honest)]
    for plant in PLANTS:
        rows += [
            (plant.source or pick(rng, SOURCES), plant.prompt(rng), plant.response(rng), plant.name)
            for _ in range(plant.rows)
        ]
    order = rng.permutation(len(rows))
    source, prompt, response, name = (list(column) for column in zip(*(rows[i] for i in order), strict=True))
    if shuffled:
        response = [response[i] for i in rng.permutation(len(response))]
    ids = [f"r{i}" for i in range(len(rows))]
    return pa.table({"id": ids, "source": source, "prompt": prompt, "response": response, "plant": name})
