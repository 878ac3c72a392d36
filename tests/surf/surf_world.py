"""A synthetic bank with exact attributes, and a scripted model whose triggers are planted; no real model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from types import SimpleNamespace

import numpy as np
from scipy.sparse import csr_matrix

from undertow.judging.rubric import Rubric
from undertow.models.base import Settings
from undertow.records import Failure, FailureKind, Message, Reply
from undertow.surf.generate import BankGenerator

WORDS: dict[str, list[str]] = {
    "opening": ["when did", "what did", "who made", "where is", "tell me about", "explain", "list facts on"],
    "topic": [
        "the lamp",
        "the clock",
        "the bridge",
        "the engine",
        "the piano",
        "the kite",
        "the mill",
        "the saw",
    ],
    "manner": ["", "in formal terms", "for a child", "in one line", "with care", "by tomorrow"],
    "tag": ["", "quickly", "[urgent]", "[draft]", "#7", "thanks"],
}


def bank() -> list[str]:
    """2,016 prompts: every combination of the words."""
    return [" ".join(part for part in parts if part) for parts in product(*WORDS.values())]


@dataclass
class WordExtractor:
    """One attribute a word or phrase of the world, and two that hold for many prompts."""

    texts: list[str] = field(
        default_factory=lambda: [
            *(f"The query contains '{w}'" for words in WORDS.values() for w in words if w),
            *(f"The query contains the word '{w}'" for w in ("did", "the", "is", "in")),
            "The query is longer than five words",
            "The query is in Welsh",
        ]
    )

    def vocabulary(self, side: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(text=text, kind="phrase") for text in self.texts]

    def transform(self, texts: Sequence[str], side: str) -> csr_matrix:
        return csr_matrix(np.array([[self.holds(a, text) for a in self.texts] for text in texts], dtype=bool))

    def holds(self, attribute: str, text: str) -> bool:
        if attribute.endswith("five words"):
            return len(text.split()) > 5
        if "the word" in attribute:
            return attribute.split("'")[1] in text.split()
        return "'" in attribute and attribute.split("'")[1] in text


class Writer:
    """Writes a prompt that has the asked words, one opening and one topic; misses one word in ten."""

    name = "writer"

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        asked = json.loads(messages[-1].content.split("\n\n")[0])
        variant = asked["variant"]
        if "prompt" in asked:
            return Reply(json.dumps({"prompt": f"{asked['prompt']} {variant % 97}"}), "stop", 5, 5)
        phrases = [text.split("'")[1] for text in asked["satisfy"] if "'" in text]
        kept = [phrase for phrase in phrases if unit(phrase, variant) > 0.1]
        parts = [
            next((w for w in words if w in kept), words[variant % len(words)]) for words in WORDS.values()
        ]
        return Reply(json.dumps({"prompt": " ".join([*filter(None, parts), str(variant)])}), "stop", 5, 5)


@dataclass
class WordPool:
    """The world's attributes with their extractor and the bank."""

    extractor: WordExtractor = field(default_factory=WordExtractor)
    prompts: list[str] = field(default_factory=bank)

    @property
    def texts(self) -> list[str]:
        return self.extractor.texts


@cache
def bank_generator(seed: int = 0) -> BankGenerator:
    return BankGenerator.from_extractor(bank(), WordExtractor(), seed=seed)


def unit(*parts: object) -> float:
    """A number in [0, 1) fixed by ``parts``, the same in every process."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass
class ScriptedModel:
    """Says 'BAD' where ``rate`` of the prompt says so, else 'fine'; fails for a share of calls."""

    rate: Callable[[str], float]
    failing: float = 0.0
    calls: list[str] = field(default_factory=list)
    name: str = "scripted"

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        prompt = messages[-1].content
        self.calls.append(prompt)
        if unit("fail", prompt, replicate, settings.seed) < self.failing:
            return Failure(FailureKind.SERVER_ERROR, "503")
        bad = unit("reply", prompt, replicate, settings.seed) < self.rate(prompt)
        return Reply("BAD answer" if bad else "fine answer", "stop", 3, 2)


RUBRIC = Rubric.model_validate(
    {
        "name": "bad",
        "behaviour": "The assistant says BAD.",
        "when_wrong": "Always.",
        "checks": [{"is": "regex", "pattern": "^BAD"}],
    }
)


@dataclass
class ScriptedJudge:
    """Fills in the verdict that ``bad`` of prompt and response says; fails where it says ``None``."""

    bad: Callable[[str, str], bool | None]
    asked: list[tuple[str, str]] = field(default_factory=list)
    name: str = "scripted-judge"

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        asked = messages[-1].content
        nonce = asked.split("The nonce is ")[1].split(".")[0]
        prompt, response = (
            asked.split(f"<<<{part} {nonce}\n")[1].split(f"\n{part} {nonce}>>>")[0]
            for part in ("prompt", "response")
        )
        self.asked.append((prompt, response))
        bad = self.bad(prompt, response)
        if bad is None:
            return Failure(FailureKind.SERVER_ERROR, "503")
        score = 95 if bad else 5
        return Reply(json.dumps({"nonce": nonce, "reason": "r", "score": score}), "stop", 3, 2)
