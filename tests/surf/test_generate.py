from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from surf_world import WordExtractor, bank_generator

from undertow.models.base import Settings
from undertow.records import Candidate, Failure, FailureKind, Message, Reply
from undertow.surf.generate import BankGenerator, Draft
from undertow.surf.perturb import perturbations
from undertow.surf.write import ATTEMPTS, LLMGenerator, parse_prompt

DID, FORMAL, KITE, DRAFT, LONG = (
    "The query contains 'when did'",
    "The query contains 'in formal terms'",
    "The query contains 'the kite'",
    "The query contains '[draft]'",
    "The query is longer than five words",
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


async def test_the_prompt_satisfies_most_of_what_was_sampled():
    draft = await bank_generator().generate((DID, FORMAL, "The query contains 'explain'"), rng(), set())
    assert isinstance(draft, Draft)
    assert "when did" in draft.prompt
    assert "formal" in draft.prompt
    assert draft.realised == (DID, FORMAL)


async def test_no_prompt_comes_twice_while_another_is_left():
    seen: set[str] = set()
    for seed in range(300):
        draft = await bank_generator().generate((KITE, DRAFT), rng(seed), seen)
        assert draft.prompt not in seen
        seen.add(draft.prompt)


async def test_a_rare_attribute_is_not_drowned_by_a_common_one():
    texts = ["rare", "common"]
    incidence = np.array([[1, 0]] * 5 + [[0, 1]] * 995)
    prompts = [f"p{i}" for i in range(1000)]
    few = BankGenerator(prompts, texts, incidence, probe_share=0.001, confirm_share=0.001)
    realised = [(await few.generate(texts, rng(seed), set())).realised for seed in range(100)]
    assert 30 < sum(pair == ("rare",) for pair in realised) < 70


def test_attributes_no_prompt_satisfies_leave_the_pool():
    assert "The query is in Welsh" not in bank_generator().texts
    assert DID in bank_generator().texts


async def test_search_probe_and_confirmation_prompts_are_disjoint():
    searched: set[str] = set()
    for seed in range(400):
        searched.add((await bank_generator().generate((DID, LONG), rng(seed), searched)).prompt)
    probed = {d.prompt for d in await bank_generator().fresh((DID,), 30, rng(), "probe", searched)}
    seen = searched | probed
    confirmed = {d.prompt for d in await bank_generator().fresh((DID,), 1000, rng(), "confirm", seen)}
    assert probed
    assert confirmed
    assert not searched & probed
    assert not searched & confirmed
    assert not probed & confirmed


async def test_a_rare_pattern_is_filled_up_with_prompts_nobody_asked():
    kept = await bank_generator().fresh((DID, FORMAL), 5, rng(), "confirm", set())
    every = await bank_generator().fresh((DID, FORMAL), 1000, rng(), "confirm", set())
    assert every[:5] == kept
    asked = {draft.prompt for draft in every[-10:]}
    left = await bank_generator().fresh((DID, FORMAL), 1000, rng(), "confirm", asked)
    assert {draft.prompt for draft in left} == {draft.prompt for draft in every} - asked
    assert len(every) > 25


async def test_fresh_prompts_carry_the_pattern_and_none_of_the_excluded():
    drafts = await bank_generator().fresh(
        (DID, FORMAL), 50, rng(), "confirm", set(), [(KITE,), (DRAFT, LONG)]
    )
    assert drafts
    for draft in drafts:
        assert draft.realised == (DID, FORMAL)
        assert "the kite" not in draft.prompt
        assert "[draft]" not in draft.prompt


async def test_uniform_fresh_prompts_are_like_the_bank():
    drafts = await bank_generator().fresh((), 300, rng(), "confirm", set())
    share = np.mean(["when did" in draft.prompt for draft in drafts])
    assert share == pytest.approx(1 / 7, abs=0.06)


def test_perturbations_are_distinct_and_keep_the_words():
    versions = perturbations("When did Ada write it?", 20, rng())
    assert len(versions) == len(set(versions)) == 20
    assert "When did Ada write it?" not in versions
    assert all("ada write it" in " ".join(version.lower().split()) for version in versions)


class Writer:
    """Answers with the prompts of a list, over and over."""

    name = "writer"

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.asked: list[Sequence[Message]] = []

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        self.asked.append(messages)
        return Reply(self.texts[(len(self.asked) - 1) % len(self.texts)], "stop")


def written(prompt: str) -> str:
    return json.dumps({"prompt": prompt})


async def test_a_model_writes_and_the_extractor_checks():
    model = Writer(written("when did the kite fly"))
    draft = await LLMGenerator(model, WordExtractor().texts, WordExtractor()).generate(
        (DID, FORMAL), rng(), set()
    )
    assert draft.realised == (DID,)
    assert "in formal terms" in model.asked[0][-1].content


async def test_a_writer_without_json_is_a_failure_after_some_attempts():
    model = Writer("I would rather not.")
    draft = await LLMGenerator(model, ["The query is short"]).generate(("The query is short",), rng(), set())
    assert isinstance(draft, Failure)
    assert draft.kind is FailureKind.BAD_RESPONSE
    assert len(model.asked) == ATTEMPTS


async def test_written_fresh_prompts_that_miss_the_pattern_or_are_known_are_dropped():
    texts = (
        "when did the kite fly",
        "where is the kite",
        "when did the lamp break",
        "when did the mill burn",
    )
    model = Writer(*map(written, texts))
    drafts = await LLMGenerator(model, WordExtractor().texts, WordExtractor()).fresh(
        (DID,), 4, rng(), "confirm", {"when did the lamp break"}, [(KITE,)]
    )
    assert [draft.prompt for draft in drafts] == ["when did the mill burn"]


def test_incidence_of_written_prompts_without_an_extractor_is_what_was_realised():
    candidate = Candidate("c", (Message("user", "x"),), ("a", "b"), ("b",), 0, 0)
    assert LLMGenerator(Writer(), ["a", "b"]).incidence([candidate]).toarray().tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ('{"prompt": " hi "}', "hi"),
        ('```json\n{"prompt": "hi"}\n```', "hi"),
        ('{"prompt": ""}', None),
        ('{"prompt": 3}', None),
        ('["hi"]', None),
        ("hi", None),
    ],
)
def test_only_the_asked_form_is_a_prompt(text: str, prompt: str | None):
    assert parse_prompt(text) == prompt
