from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undertow.errors import UsageError
from undertow.models.base import Settings
from undertow.models.budget import Budget, most_expensive
from undertow.models.open import open_model
from undertow.models.prices import Price, list_price, parse_price, parse_prices
from undertow.records import Failure, FailureKind, Message, Reply
from undertow.store.journal import Journal

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))
import fault_server


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), cap=st.floats(0, 40), calls=st.none() | st.integers(0, 300))
def test_64_in_flight_never_spend_more_than_the_cap_nor_stop_far_below(
    seed: int, cap: float, calls: int | None
) -> None:
    rng = random.Random(seed)
    budget = Budget(calls, cap)
    made = 0

    async def one(slots: asyncio.Semaphore) -> None:
        nonlocal made
        async with slots:
            most = rng.uniform(0.05, 1)
            if await budget.reserve(most):
                return
            made += 1
            budget.begin()
            for _ in range(rng.randrange(5)):
                await asyncio.sleep(0)
            budget.settle(most, None if rng.random() < 0.1 else most * rng.random())

    async def all_of_them() -> None:
        slots = asyncio.Semaphore(64)
        await asyncio.gather(*(one(slots) for _ in range(400)))

    asyncio.run(all_of_them())
    assert budget.cost_usd <= cap
    assert made == budget.calls
    assert calls is None or made <= calls
    if budget.closed is not None:
        assert budget.calls == calls or budget.cost_usd > cap - 1
    assert budget.closed is not None or made == 400


async def test_a_closed_budget_lets_nothing_through_and_wakes_who_waits() -> None:
    budget = Budget(max_cost=1.0)
    assert await budget.reserve(0.6) is None
    waiting = asyncio.create_task(budget.reserve(0.5))
    await asyncio.sleep(0)
    assert not waiting.done()
    gone = Failure(FailureKind.CONNECTION, "gone")
    budget.close(gone)
    assert await waiting == gone
    assert await budget.reserve(0.0) == gone
    assert budget.take([None] * 3) == [False] * 3


@pytest.mark.parametrize("cap", [{"max_calls": 40}, {"max_cost": 0.5}])
async def test_a_server_is_asked_for_no_more_than_the_cap_and_the_journal_is_free(
    tmp_path: Path, cap: dict[str, float]
) -> None:
    asks = [[Message("user", f"question number {i}")] for i in range(200)]
    budget = Budget(**cap)
    with fault_server.running("--latency", "0.01", "--faults", "503,429", "--share", "0.2") as url:
        async with open_model(
            f"openai-compatible:{url}/v1#m", journal=Journal(tmp_path / "j.sqlite"), concurrency=64,
            budget=budget, price=Price(1000, 1000),
        ) as model:  # fmt: skip
            replies = await asyncio.gather(*(model.reply(ask, Settings(max_tokens=2)) for ask in asks))
            spent = budget.cost_usd
            again = await asyncio.gather(*(model.reply(ask, Settings(max_tokens=2)) for ask in asks))
        seen = await fault_server.stats(url)
    answered = [reply for reply in replies if isinstance(reply, Reply)]
    assert [reply for reply in again if isinstance(reply, Reply)] == answered
    assert {reply.kind for reply in replies if isinstance(reply, Failure)} <= {
        FailureKind.BUDGET, FailureKind.SERVER_ERROR, FailureKind.RATE_LIMITED,
    }  # fmt: skip
    assert seen["calls"] == budget.calls
    assert spent == budget.cost_usd == pytest.approx(0.005 * len(answered))
    if "max_calls" in cap:
        assert seen["calls"] == 40
    else:
        # Near the cap a call waits for those in flight: what is left is less than one call at its dearest.
        dearest = most_expensive(asks[100], Settings(max_tokens=2), Price(1000, 1000))
        assert 0.5 - dearest < spent <= 0.5


def test_prices_come_from_the_user_or_the_list() -> None:
    assert list_price("local:anything") == Price(0, 0)
    assert list_price("openai-compatible:http://127.0.0.1:1/v1#m") is None
    known = list_price("openai:gpt-4o-mini")
    assert known is not None
    assert 0 < known.input < known.output
    assert parse_prices(["1,2", "judge=0.5,3"]) == {"": Price(1, 2), "judge": Price(0.5, 3)}


@pytest.mark.parametrize("bad", ["", "1", "1,2,3", "a,b", "-1,2", "1,inf", "nan,1", "cook=1,2"])
def test_a_bad_price_is_one_line(bad: str) -> None:
    with pytest.raises(UsageError):
        parse_prices([bad])
    if "=" not in bad:
        with pytest.raises(UsageError, match="IN,OUT"):
            parse_price(bad)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    cap=st.integers(0, 120),
    fails=st.sampled_from([0.0, 0.3]),
    kept=st.integers(0, 20),
)
def test_plans_are_paid_to_the_end_and_never_wait_for_each_other_for_ever(
    seed: int, cap: int, fails: float, kept: int
) -> None:
    rng = random.Random(seed)
    budget = Budget(cap)
    budget.keep(kept)
    whole = begun = tries = 0

    async def call() -> bool:
        nonlocal tries
        again = False
        while not await budget.reserve(again=again):
            budget.begin()
            tries += 1
            await asyncio.sleep(0)
            budget.settle(0.0, 0.0)
            if rng.random() >= fails:
                return True
            again = True
        return False

    async def candidate() -> None:
        nonlocal whole, begun
        with budget.whole(3):
            answered = [await call() for _ in range(3)]
            begun += answered[0]
            whole += all(answered)

    async def all_of_them() -> None:
        await asyncio.wait_for(asyncio.gather(*(candidate() for _ in range(64))), 10)

    asyncio.run(all_of_them())
    left = max(cap - kept, 0)
    assert tries == budget.calls <= left
    assert budget.in_flight == 0
    if not fails:
        assert whole == begun == min(left // 3, 64)
    elif left >= 30:
        assert whole >= left // 15  # of left × 0.7 / 3 that luck and abandoned beginnings leave


async def test_what_the_journal_answers_needs_no_place_in_a_plan() -> None:
    budget = Budget(10, calls=8)
    with budget.whole(3) as plan:
        plan.done()
        assert await budget.reserve() is None
        budget.begin()
        budget.settle(0.0, 0.0)
    with budget.whole(3):
        assert await budget.reserve() is not None
    assert budget.calls == 9
