"""Candidates that are conversations, from a bank or written: the history is asked, judged and kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from surf_world import RUBRIC, WordExtractor, WordPool, bank, unit

from undertow.errors import UsageError
from undertow.records import Failure, Message, Reply
from undertow.report.build import build_page
from undertow.store.tables import read_table, write_table
from undertow.studies.verify import verify
from undertow.surf.bank import load_bank
from undertow.surf.config import SurfConfig
from undertow.surf.generate import BankGenerator, Draft
from undertow.surf.rows import messages_from_json
from undertow.surf.run import run_surf
from undertow.surf.save import load_findings
from undertow.surf.write import LLMGenerator, parse_conversation

SMALL = SurfConfig(runs=2, iterations=3, candidates=40, base_prompts=40, confirm_prompts=20)
KITE, EARLIER_KITE = "The query contains 'the kite'", "An earlier user turn contains 'the kite'"


def said(*turns: str) -> tuple[Message, ...]:
    return tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(turns))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


ROWS = [
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"},
                  {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
                  {"role": "assistant", "content": "d"}]},
    {"messages": [{"role": "user", "content": "only"}]},
]  # fmt: skip


@pytest.mark.parametrize("name", ["b.jsonl", "b.parquet"])
def test_rows_of_messages_are_conversations_up_to_the_last_user_turn(tmp_path: Path, name: str):
    path = tmp_path / name
    if name.endswith("l"):
        path.write_text("\n".join(map(json.dumps, [*ROWS, {"prompt": "plain"}])))
    else:
        write_table(pa.Table.from_pylist(ROWS), path)
    assert load_bank(path)[:2] == [said("a", "b", "c"), "only"]


@pytest.mark.parametrize("messages", [[], "x", [{"role": "assistant", "content": "b"}], [{"role": "user"}]])
def test_a_row_without_a_user_turn_is_named(tmp_path: Path, messages: object):
    path = tmp_path / "b.jsonl"
    path.write_text(json.dumps({"prompt": "a"}) + "\n" + json.dumps({"messages": messages}))
    if messages == "x":
        assert load_bank(path) == ["a", "x"]
        return
    with pytest.raises(UsageError, match="row 2"):
        load_bank(path)


async def test_attributes_describe_the_last_turn_and_the_history_apart():
    plain = [f"{prompt} now" for prompt in bank()[:300]]
    talks = [said(f"tell me about the kite {i}", "It flies.", f"explain the lamp {i}") for i in range(40)]
    generator = BankGenerator.from_extractor([*plain, *talks, "explain the kite"], WordExtractor())
    draft = await generator.generate((EARLIER_KITE,), rng(), set())
    assert draft.realised == (EARLIER_KITE,)
    assert draft.messages[0].content.startswith("tell me about the kite")
    fresh = await generator.fresh((EARLIER_KITE,), 50, rng(), "confirm", {draft.conversation}, [(KITE,)])
    assert len(fresh) > 8
    assert all(len(d.messages) == 3 and "kite" not in d.prompt for d in fresh)


async def test_one_last_turn_after_two_histories_is_two_prompts():
    talks = [said(f"explain the {word}", "So.", "go on") for word in ("kite", "lamp")]
    generator = BankGenerator.from_extractor(
        [*talks, "go on"], WordExtractor(), confirm_share=1e-9, probe_share=1e-9
    )
    seen: set[str] = set()
    for _ in range(3):
        draft = await generator.generate((), rng(), seen)
        assert draft.conversation not in seen
        seen.add(draft.conversation)
    assert len(seen) == len(generator) == 3


class Forgetful:
    """Goes wrong when the kite was spoken of before; what is asked now does not matter."""

    name = "forgetful"

    async def reply(self, messages, settings, replicate=0):
        bad = any("the kite" in m.content for m in messages[:-1] if m.role == "user")
        return Reply("BAD answer" if bad else "fine answer", "stop", 3, 2)


class Talks:
    """Half of the bank goes on with a conversation about something."""

    extractor = WordExtractor()
    texts = extractor.texts

    def __init__(self) -> None:
        self.prompts = [
            said(p, "I see.", q) if unit(p, q) < 0.5 else q
            for p, q in zip(bank()[::3], sorted(bank()[::3], key=unit), strict=True)
        ]


def test_a_trigger_in_the_history_is_found_confirmed_shown_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for chart in ("rates_chart", "score_chart"):
        monkeypatch.setattr(f"undertow.report.surf_page.{chart}", lambda *_: None)
    run = tmp_path / "run"
    summary = run_surf(Forgetful(), RUBRIC, Talks(), run, SMALL)
    [finding] = [f for f in summary["findings"] if f["status"] == "confirmed"]
    assert finding["attributes"] == [EARLIER_KITE]
    assert finding["rate"]["value"] == 1
    rows = read_table(run / "samples.parquet").to_pylist()
    assert {len(messages_from_json(row["messages"])) for row in rows} == {1, 3}
    for row in rows:
        assert row["violation"] == any(
            "the kite" in m.content for m in messages_from_json(row["messages"])[:-1]
        )
    perturbed = [
        r for r in read_table(run / "confirm_samples.parquet").to_pylist() if r["phase"] == "perturbed"
    ]
    assert perturbed
    assert all("the kite" in messages_from_json(row["messages"])[0].content for row in perturbed)
    [stored] = [f for f in load_findings(run) if f.status == "confirmed"]
    assert all(len(exemplar.history) == 2 for exemplar in stored.exemplars)
    shown = build_page(run).cards[0].exchanges[0].prompt.text
    assert shown.startswith("User: ")
    assert "\n\nAssistant: I see.\n\nUser: " in shown
    again = verify(Forgetful(), Forgetful(), run, tmp_path / "verify")
    assert again["findings"][0]["before"]["value"] == 1


class Novelist:
    """Writes as many turns as it is asked to, with the wanted words in the last."""

    name = "novelist"

    def __init__(self, answer: str = "Go on.") -> None:
        self.answer, self.turns = answer, []

    async def reply(self, messages, settings, replicate=0):
        asked = json.loads(messages[-1].content.split("\n\n")[0])
        if "prompt" in asked:
            return Reply(json.dumps({"prompt": f"{asked['prompt']} {asked['variant']}"}), "stop", 5, 5)
        self.turns.append(asked.get("user_turns", 1))
        words = " ".join(text.split("'")[1] for text in asked["satisfy"] if "'" in text)
        history = [{"user": f"hello {i}", "assistant": self.answer} for i in range(self.turns[-1] - 1)]
        made = {"prompt": f"{words} {asked['variant']}"} | (
            {"history": history} if self.turns[-1] > 1 else {}
        )
        return Reply(json.dumps(made), "stop", 5, 5)


async def test_a_model_writes_conversations_of_up_to_so_many_turns():
    model = Novelist()
    generator = LLMGenerator(model, WordExtractor().texts, WordExtractor(), turns=3)
    drafts = [await generator.generate((KITE,), rng(seed), set()) for seed in range(60)]
    assert set(model.turns) == {1, 2, 3}
    for draft, turns in zip(drafts, model.turns, strict=True):
        assert isinstance(draft, Draft)
        assert [m.role for m in draft.messages] == ["user", "assistant"] * (turns - 1) + ["user"]
        assert draft.realised == (KITE,)
    talk = next(d.messages for d in drafts if len(d.messages) == 5)
    versions = await BankGenerator(["x"], [], np.zeros((1, 0))).rephrase(talk, 3, rng())
    assert all(version[:-1] == talk[:-1] and version[-1] != talk[-1] for version in versions)


async def test_a_conversation_with_an_empty_answer_is_a_failure():
    generator = LLMGenerator(Novelist(answer=" "), ["The query is short"], turns=2)
    drafts = [await generator.generate(("The query is short",), rng(seed), set()) for seed in range(20)]
    assert {type(draft) for draft in drafts} == {Failure, Draft}


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ('{"history": [], "prompt": "c"}', ("c",)),
        ('```json\n{"history": [{"user": "a", "assistant": "b"}], "prompt": "c"}\n```', ("a", "b", "c")),
        (
            '{"history": [{"user": "a", "assistant": "b"}, {"user": "a", "assistant": "b"}], "prompt": "c"}',
            None,
        ),
        ('{"history": [{"user": "a"}], "prompt": "c"}', None),
        ('{"history": ["a"], "prompt": "c"}', None),
        ('{"history": [{"user": "a", "assistant": "b"}]}', None),
        ('{"prompt": "c"}', None),
        ("[" * 100_000, None),
    ],
)
def test_only_the_asked_form_is_a_conversation(text: str, turns: tuple[str, ...] | None):
    assert parse_conversation(text, 2) == (said(*turns) if turns else None)


def test_a_search_over_written_conversations_runs(tmp_path: Path):
    class Says(Forgetful):
        async def reply(self, messages, settings, replicate=0):
            return Reply("BAD" if "the kite" in messages[-1].content else "fine", "stop", 3, 2)

    config = SMALL.model_copy(update={"turns": 3})
    summary = run_surf(Says(), RUBRIC, WordPool(), tmp_path / "run", config, generator=Novelist())
    assert [f["attributes"] for f in summary["findings"] if f["status"] == "confirmed"] == [[KITE]]
