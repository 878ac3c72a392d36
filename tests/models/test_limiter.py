from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

import pytest

from undertow.models import health as module
from undertow.models.health import Health
from undertow.models.limiter import START, Limiter, Pause, limiter_of
from undertow.models.open import open_model
from undertow.models.providers import Limits
from undertow.records import Failure, FailureKind, Message, Reply

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))
import fault_server


class Provider:
    """Answers after 20 ms while at most ``bears`` calls are in flight; refuses the others, and a share."""

    def __init__(self, bears: int, share: float = 0.0) -> None:
        self.bears, self.in_flight, self.refused = bears, 0, 0
        self.share, self.random = share, random.Random(0)

    async def call(self, window: Limiter) -> None:
        async with window:
            started = time.monotonic()
            self.in_flight += 1
            await asyncio.sleep(0.02)
            over = self.in_flight > self.bears or self.random.random() < self.share
            self.in_flight -= 1
            if over:
                self.refused += 1
                window.limited(started, None)
            else:
                window.succeeded(started)


async def test_a_window_finds_what_the_provider_bears() -> None:
    window, provider = Limiter(Pause()), Provider(60)
    await asyncio.gather(*(provider.call(window) for _ in range(3000)))
    assert 25 <= window.window <= 70
    assert provider.refused < 300
    assert window.in_flight == 0


@pytest.mark.parametrize("share", [0.1, 0.3])
async def test_refusals_that_do_not_depend_on_the_window_leave_it_wide(share: float) -> None:
    window, provider = Limiter(Pause()), Provider(10_000, share)
    await asyncio.gather(*(provider.call(window) for _ in range(4000)))
    assert window.window >= 128
    assert window.background == pytest.approx(share, abs=0.15)


async def test_refusals_by_chance_do_not_hide_the_limit() -> None:
    window, provider = Limiter(Pause()), Provider(60, 0.15)
    await asyncio.gather(*(provider.call(window) for _ in range(4000)))
    assert 15 <= window.window <= 128
    assert provider.refused < 4000 * 0.7  # nearly all are where nothing limits


async def test_an_idle_window_does_not_grow_and_a_fixed_one_keeps_its_size() -> None:
    idle, fixed = Limiter(Pause()), Limiter(Pause(), 5)
    for _ in range(50):
        await Provider(9).call(idle)
    assert idle.window == START
    provider = Provider(3)
    await asyncio.gather(*(provider.call(fixed) for _ in range(50)))
    assert provider.refused > 0
    assert fixed.window == 5


async def test_calls_refused_together_halve_the_window_once() -> None:
    window, started = Limiter(Pause()), time.monotonic()
    for _ in range(8):
        window.limited(started, None)
    assert window.window == START / 2


async def test_a_retry_after_stops_everybody_behind_the_same_key() -> None:
    one, other, stranger = (limiter_of("a", None), limiter_of("a", 4), limiter_of("b", None))
    assert limiter_of("a", None) is one
    one.limited(time.monotonic(), 0.3)
    asked = time.monotonic()
    async with stranger:
        assert time.monotonic() - asked < 0.1
    async with other:
        assert time.monotonic() - asked >= 0.29


async def test_a_caller_that_gives_up_leaves_no_place_taken() -> None:
    window = Limiter(Pause(), 1)
    async with window:
        waiting = [asyncio.create_task(Provider(9).call(window)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert window.in_flight == 0
    await asyncio.wait_for(Provider(9).call(window), 1)


def test_a_stalled_try_is_cut_at_four_slow_answers_and_the_last_try_is_given_longer() -> None:
    health = Health("m")
    assert (health.timeout(), health.timeout(120)) == (20, 120)
    health.answered(0.5)  # a preflight's few words
    assert (health.timeout(), health.timeout(120)) == (20, 120)
    for seconds in (3.0,) * 4:
        health.answered(seconds)
    assert (health.timeout(), health.timeout(120), health.timeout(30)) == (60, 60, 30)
    for seconds in (3.0, 4.0) * 10:
        health.answered(seconds)
    assert health.timeout(120) == 16
    assert [health.timeout(120, stalled) for stalled in (1, 2)] == [16, 64]
    quick = Health("m")
    for seconds in (0.01,) * 30:
        quick.answered(seconds)
    assert quick.timeout(120) == 3


async def test_a_model_is_given_up_only_when_nothing_but_failures_came_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SECONDS_UNANSWERED", 0.2)
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    gone = Failure(FailureKind.CONNECTION, "refused")

    async def fail(health: Health, answers: bool = False) -> None:
        for _ in range(30):
            health.end(health.begin())
            health.failed(gone, time.monotonic())
            if answers:
                health.answered(0.01)
            await asyncio.sleep(0.01)

    dead, flaky, slow = Health("dead"), Health("flaky"), Health("slow")
    slow.begin()  # an answer that takes its time
    waiting = asyncio.create_task(dead.wait(60))
    await asyncio.gather(fail(dead), fail(flaky, True), fail(slow))
    assert dead.down is not None
    assert dead.down.kind is FailureKind.UNAVAILABLE
    assert "refused" in dead.down.detail
    await asyncio.wait_for(waiting, 1)
    assert flaky.down is slow.down is None


async def test_stalls_end_in_one_wave_and_refusals_are_given_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_UNANSWERED", 0.1)
    monkeypatch.setattr(module, "SECONDS_LIMITED", 0.3)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    stalled, limited = Health("stalled"), Health("limited")
    for health in (stalled, limited):
        health.begin()  # another try of the same wave, as old as the failures
    for _ in range(20):
        stalled.failed(Failure(FailureKind.TIMEOUT, "no answer"), time.monotonic())
        limited.failed(Failure(FailureKind.RATE_LIMITED, "429"), time.monotonic(), retry_after=0.2)
        await asyncio.sleep(0.01)
    assert stalled.down is not None
    assert limited.down is None


async def test_a_provider_that_refuses_a_third_is_asked_until_all_is_answered() -> None:
    with fault_server.running("--faults", "429", "--share", "0.3", "--latency", "0.01") as url:
        async with open_model(f"openai-compatible:{url}/v1#m", limits=Limits(backoff=0.05)) as model:
            replies = await asyncio.gather(*(model.reply([Message("user", f"q{i}")]) for i in range(300)))
        seen = await fault_server.stats(url)
    assert sum(isinstance(reply, Reply) for reply in replies) >= 299
    assert seen["429"] > 60
    assert seen["most"] <= 256
