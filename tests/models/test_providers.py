from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from pathlib import Path

import pytest

from undertow.errors import UsageError
from undertow.models.base import Form, Settings
from undertow.models.failures import redact
from undertow.models.open import open_model, preflight
from undertow.models.providers import Limits
from undertow.records import Failure, FailureKind, Message, Reply
from undertow.store.journal import Journal

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))
import fault_server

QUICK = Limits(timeout=5.0, backoff=0.01)


def ask(text: str) -> list[Message]:
    return [Message("system", "be short"), Message("user", text)]


def spec(url: str, model: str = "m") -> str:
    return f"openai-compatible:{url}/v1#{model}"


async def test_a_plain_server_gives_text_finish_reason_and_usage() -> None:
    with fault_server.running() as url:
        async with open_model(spec(url)) as model:
            await preflight(model)
            reply = await model.reply(ask("hello there"))
            cut = await model.reply(ask("hello"), Settings(max_tokens=1))
            filled = await model.fill(ask("x"), Form("echo", "Echo.", {"type": "object", "properties": {}}))
    assert reply == Reply("echo hello there", "stop", 2, 2, None)
    assert isinstance(cut, Reply)
    assert cut.finish_reason == "length"
    assert isinstance(filled, Reply)
    assert (filled.text, filled.finish_reason) == ('{"echo": "x"}', "tool")


async def test_with_a_third_of_all_tries_failing_every_call_is_answered_once(tmp_path: Path) -> None:
    faults = "429,503,reset,truncated,json,shape"
    journal = Journal(tmp_path / "j.sqlite")
    with fault_server.running("--faults", faults, "--share", "0.3") as url:
        async with open_model(spec(url), journal=journal, limits=QUICK) as model:
            replies = await asyncio.gather(*(model.reply(ask(f"q{i}")) for i in range(200)))
            again = await asyncio.gather(*(model.reply(ask(f"q{i}")) for i in range(200)))
        seen = await fault_server.stats(url)
    assert [r.text for r in replies if isinstance(r, Reply)] == [f"echo q{i}" for i in range(200)]
    assert again == replies
    assert seen["distinct"] == 200
    assert seen["twice"] == 0
    assert all(seen[fault] > 0 for fault in faults.split(","))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429", FailureKind.RATE_LIMITED),
        ("503", FailureKind.SERVER_ERROR),
        ("reset", FailureKind.CONNECTION),
        ("truncated", FailureKind.CONNECTION),
        ("json", FailureKind.BAD_RESPONSE),
        ("shape", FailureKind.BAD_RESPONSE),
        ("slow", FailureKind.TIMEOUT),
    ],
)
async def test_a_server_that_only_fails_gives_a_failure_of_its_kind(fault: str, kind: FailureKind) -> None:
    with fault_server.running("--faults", fault, "--share", "1") as url:
        limits = Limits(attempts=3, timeout=0.6, backoff=0.01)
        async with open_model(spec(url), limits=limits) as model:
            outcome = await model.reply(ask("q"))
        seen = await fault_server.stats(url)
    assert isinstance(outcome, Failure)
    assert outcome.kind is kind
    assert "\n" not in outcome.detail
    assert seen["calls"] == 3


async def test_concurrency_is_bounded_and_identical_calls_in_flight_are_made_once(tmp_path: Path) -> None:
    with fault_server.running("--latency", "0.05") as url:
        journal = Journal(tmp_path / "j.sqlite")
        async with open_model(spec(url), journal=journal, concurrency=4) as model:
            replies = await asyncio.gather(*(model.reply(ask(f"q{i % 20}")) for i in range(40)))
        seen = await fault_server.stats(url)
    assert len({reply.text for reply in replies if isinstance(reply, Reply)}) == 20
    assert seen["calls"] == 20
    assert seen["most"] <= 4


async def test_preflight_names_a_bad_key_a_missing_model_and_a_dead_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(UsageError, match="connection: "):
        await preflight(open_model(spec(dead)))
    with fault_server.running() as url:
        with pytest.raises(UsageError, match="no such model"):
            await preflight(open_model(spec(url, "missing")))
        monkeypatch.setenv("UNDERTOW_API_KEY", "bad-key-canary")
        with pytest.raises(UsageError, match="rejected") as caught:
            await preflight(open_model(spec(url)))
    assert "bad-key-canary" not in str(caught.value)
    monkeypatch.delenv("UNDERTOW_API_KEY")
    with (
        fault_server.running("--faults", "slow", "--share", "1") as url,
        pytest.raises(UsageError, match="timeout"),
    ):
        await preflight(open_model(spec(url)), seconds=0.5)
    with fault_server.running("--faults", "429,503", "--share", "1") as url:
        await preflight(open_model(spec(url)))
    assert time.monotonic() - started < 30


def test_one_model_serves_two_event_loops() -> None:
    with fault_server.running() as url:
        model = open_model(spec(url))
        for _ in range(2):
            reply = asyncio.run(_one(model))
            assert isinstance(reply, Reply)


async def _one(model: object) -> object:
    async with model as opened:  # type: ignore[attr-defined]
        return await opened.reply(ask("q"))


@pytest.mark.parametrize(
    "bad",
    ["gpt", "", "nothing:m", "openai-compatible:host#m", "openai-compatible:http://h/v1", "openai:gpt-5",
     "openai-compatible:http://user:pw@h/v1#m"],
)  # fmt: skip
def test_a_bad_model_string_is_one_line(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError) as caught:
        open_model(bad)
    assert "\n" not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_secrets_are_blanked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "canary-value-17")
    said = redact("key canary-value-17, sk-abcdef123456, Bearer xyz, http://me:secret@host/")
    assert "canary" not in said
    assert "abcdef" not in said
    assert "xyz" not in said
    assert "secret@" not in said


@pytest.mark.parametrize(
    ("spec", "package", "key"),
    [
        ("anthropic:m", "anthropic", "ANTHROPIC_API_KEY"),
        ("openai:m", "openai", "OPENAI_API_KEY"),
        ("google:m", "google-genai", "GOOGLE_API_KEY"),
        ("openrouter:a/m", "openai", "OPENROUTER_API_KEY"),
        ("xai:m", "xai-sdk", "XAI_API_KEY"),
        ("groq:m", "groq", "GROQ_API_KEY"),
        ("bedrock:m", "boto3", "AWS_DEFAULT_REGION"),
    ],
)
def test_without_package_or_key_one_line_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, spec: str, package: str, key: str
):
    for name in [name for name in os.environ if name.endswith("_KEY") or name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with pytest.raises(UsageError) as caught:
        open_model(spec)
    told = str(caught.value)
    assert spec in told
    assert "\n" not in told
    assert f"`{package}`" in told or key in told
    assert len(told) < 260


@pytest.mark.parametrize(
    ("spec", "key"), [("openai:m", "OPENAI_API_KEY"), ("openrouter:a/m", "OPENROUTER_API_KEY")]
)
def test_with_its_key_a_provider_opens(monkeypatch: pytest.MonkeyPatch, spec: str, key: str):
    monkeypatch.setenv(key, "k-1234567")
    assert open_model(spec).name == spec


async def test_a_preflight_survives_a_dropped_connection_and_tells_of_a_dead_host_soon():
    with fault_server.running("--faults", "reset", "--share", "0.3", "--seed", "3") as url:
        for _ in range(8):
            async with open_model(spec(url)) as model:
                await preflight(model)
        assert (await fault_server.stats(url))["reset"] > 0
    start = time.monotonic()
    async with open_model(spec(url)) as model:
        with pytest.raises(UsageError, match="connection"):
            await preflight(model)
    assert time.monotonic() - start < 10
