from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from undertow.models.base import Form, Settings
from undertow.models.journaled import JournaledModel, call_key
from undertow.records import Failure, FailureKind, Message, Reply
from undertow.store.journal import Journal

ASK = [Message("user", "q \ud800 é")]


class Counting:
    """Counts its calls; the first ``failing`` of them fail."""

    name = "counting"

    def __init__(self, failing: int = 0) -> None:
        self.calls = 0
        self.failing = failing

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        self.calls += 1
        number = self.calls
        await asyncio.sleep(0.01)
        if number <= self.failing:
            return Failure(FailureKind.SERVER_ERROR, "503")
        return Reply(f"answer {number}", "stop", 1, 2, 0.5)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "j.sqlite")


async def test_a_rerun_pays_nothing_and_reads_the_same(journal: Journal) -> None:
    first = await JournaledModel(Counting(), journal).reply(ASK)
    fresh = Counting()
    assert await JournaledModel(fresh, journal).reply(ASK) == first
    assert fresh.calls == 0


async def test_identical_calls_in_flight_are_made_once_and_replicates_apart(journal: Journal) -> None:
    inner = Counting()
    model = JournaledModel(inner, journal)
    replies = await asyncio.gather(*(model.reply(ASK, Settings(), i % 3) for i in range(30)))
    assert inner.calls == 3
    assert len({reply.text for reply in replies if isinstance(reply, Reply)}) == 3
    assert journal.counts() == {"target": 3}


async def test_a_failure_is_not_kept(journal: Journal) -> None:
    model = JournaledModel(Counting(failing=1), journal)
    assert isinstance(await model.reply(ASK), Failure)
    assert isinstance(await model.reply(ASK), Reply)
    assert journal.counts() == {"target": 1}


async def test_a_caller_that_gives_up_does_not_lose_the_answer(journal: Journal) -> None:
    model = JournaledModel(Counting(), journal)
    impatient = asyncio.create_task(model.reply(ASK))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0.05)
    assert journal.counts() == {"target": 1}


def test_every_part_of_a_call_is_in_its_key() -> None:
    form = Form("f", "d", {"type": "object"})
    keys = {
        call_key("m", ASK, Settings(), 0),
        call_key("n", ASK, Settings(), 0),
        call_key("m", [Message("system", "q \ud800 é")], Settings(), 0),
        call_key("m", [*ASK, *ASK], Settings(), 0),
        call_key("m", ASK, Settings(temperature=0.5), 0),
        call_key("m", ASK, Settings(seed=1), 0),
        call_key("m", ASK, Settings(max_tokens=5), 0),
        call_key("m", ASK, Settings(), 1),
        call_key("m", ASK, Settings(), 0, form),
    }
    assert len(keys) == 9
    assert call_key("m", ASK, Settings(), 0) in keys
