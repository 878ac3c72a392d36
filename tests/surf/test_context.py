"""System prompt and context: sent to target and reference alike, kept with the run, said on its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from surf_world import RUBRIC, ScriptedModel, WordPool

from undertow.errors import UsageError
from undertow.records import Message
from undertow.report.runs import open_run
from undertow.report.surf_page import surf_page
from undertow.surf.config import SurfConfig
from undertow.surf.context import framed, read_context, read_text
from undertow.surf.run import run_surf

TURNS = [{"role": "user", "content": "Who made the saw?"}, {"role": "assistant", "content": "Nobody knows."}]
SMALL = {"runs": 1, "iterations": 3, "candidates": 40, "base_prompts": 8, "confirm_prompts": 10}


def test_system_turns_and_text_stand_before_the_candidate():
    config = SurfConfig(system="Be brief.", context=TURNS, preface="Notes: none.")
    asked = framed((Message("user", "a"), Message("assistant", "b"), Message("user", "c")), config)
    assert [(m.role, m.content) for m in asked] == [
        ("system", "Be brief."),
        ("user", "Who made the saw?"),
        ("assistant", "Nobody knows."),
        ("user", "Notes: none.\n\na"),
        ("assistant", "b"),
        ("user", "c"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "kept"),
    [
        ("c.json", json.dumps(TURNS), {"context": TURNS}),
        ("c.jsonl", "\n".join(map(json.dumps, TURNS)) + "\n\n", {"context": TURNS}),
        ("c.txt", " A page of notes.\n", {"preface": "A page of notes."}),
    ],
)
def test_a_context_is_turns_or_text(tmp_path: Path, name: str, content: str, kept: dict):
    (tmp_path / name).write_text(content)
    assert read_context(tmp_path / name) == kept


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("c.json", "{", "not JSON"),
        ("c.json", "[]", "no list of turns"),
        ("c.json", '{"role": "user", "content": "x"}', "no list of turns"),
        ("c.jsonl", '{"role": "user", "content": "x"}\nx', "line 2"),
        ("c.json", json.dumps(TURNS[:1]), "ends with a user's turn"),
        ("c.json", json.dumps(TURNS[::-1]), "turn 1 must be the user's"),
        ("c.json", '[{"role": "user", "content": " "}]', "turn 1 has no content"),
        ("c.txt", " \n", "empty"),
        ("c.txt", b"\xff\xfe", "not a readable text"),
    ],
)
def test_a_bad_context_is_one_line_with_the_place(tmp_path: Path, name: str, content: str | bytes, told: str):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=told) as caught:
        read_context(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_system_prompt_is_read_as_text(tmp_path: Path):
    (tmp_path / "s").write_text("Be brief.\n")
    assert read_text(tmp_path / "s") == "Be brief."


class Heard(ScriptedModel):
    """Keeps whole conversations."""

    async def reply(self, messages, settings, replicate=0):
        self.calls.append(tuple((m.role, m.content) for m in messages[:-1]))
        reply = await super().reply(messages, settings, replicate)
        self.calls.pop()
        return reply


def test_target_and_reference_are_sent_the_same_and_the_page_says_so(tmp_path: Path):
    target, reference = (Heard(lambda p: float("kite" in p), name=name) for name in ("target", "start"))
    config = SurfConfig(**SMALL, system="Be brief.", context=TURNS, preface="Note.")
    run_surf(target, RUBRIC, WordPool(), tmp_path / "run", config, reference=reference)
    before = (("system", "Be brief."), *((t["role"], t["content"]) for t in TURNS))
    assert set(target.calls) == {before}
    assert set(reference.calls) == {before}
    told = surf_page(open_run(tmp_path / "run"))
    assert {
        "system prompt of 9 characters",
        "after 2 turns of context",
        "after a text of 5 characters",
    } <= set(told.head.facts[0].detail)
    assert any("Nobody knows." in value for _, value in told.provenance)
    with pytest.raises(UsageError, match="context"):
        run_surf(target, RUBRIC, WordPool(), tmp_path / "run", config.model_copy(update={"context": ()}))
