"""Inspect's models behind our strings: its mock, and its OpenAI-compatible client against a real server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from undertow.errors import UsageError
from undertow.models.base import Form, Settings
from undertow.models.open import open_model, preflight
from undertow.models.providers import Limits, ProviderModel
from undertow.models.pydantic_wire import PydanticWire
from undertow.records import Failure, FailureKind, Message, Reply

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))
import fault_server

FORM = Form("form", "Fill it in.", {"type": "object", "properties": {"echo": {"type": "string"}}})
ASK = [
    Message("system", "be short"),
    Message("user", "a"),
    Message("assistant", "b"),
    Message("user", "hi you"),
]
QUICK = Limits(timeout=5.0, backoff=0.01, attempts=2)


def test_without_the_extra_one_line_names_it():
    if "inspect_ai" in sys.modules or _installed():
        pytest.skip("the extra is installed")
    with pytest.raises(UsageError, match=r"undertow\[inspect\]"):
        open_model("inspect:mockllm/model")


def _installed() -> bool:
    from importlib.util import find_spec

    return find_spec("inspect_ai") is not None


inspected = pytest.mark.skipif(not _installed(), reason="needs the extra inspect")


@inspected
async def test_a_mock_answers_with_text_reason_and_usage():
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    from undertow.models.inspected import InspectModel

    def output(reason: str) -> ModelOutput:
        made = ModelOutput.from_content("mockllm/model", "yes", stop_reason=reason)
        made.usage = ModelUsage(input_tokens=7, output_tokens=3, total_tokens=10)
        return made

    reasons = ["stop", "max_tokens", "content_filter"]
    mock = get_model("mockllm/model", custom_outputs=[output(r) for r in reasons], memoize=False)
    async with ProviderModel(
        "inspect:mockllm/model", lambda: PydanticWire(InspectModel(mock)), QUICK
    ) as model:
        replies = [await model.reply(ASK) for _ in reasons]
    assert all(isinstance(reply, Reply) for reply in replies)
    assert [reply.finish_reason for reply in replies] == ["stop", "length", "filter"]
    assert (replies[0].text, replies[0].input_tokens, replies[0].output_tokens) == ("yes", 7, 3)
    assert replies[0].cost_usd is None


@inspected
async def test_a_server_behind_inspect_answers_and_fills_forms(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCAL_API_KEY", "k-1234567")
    with fault_server.running() as url:
        monkeypatch.setenv("LOCAL_BASE_URL", f"{url}/v1")
        async with open_model("inspect:openai-api/local/m", limits=QUICK) as model:
            await preflight(model)
            said = await model.reply(ASK, Settings(temperature=0.5, max_tokens=9, seed=3))
            filled = await model.fill(ASK, FORM)
        assert isinstance(said, Reply)
        assert (said.text, said.finish_reason, said.output_tokens) == ("echo hi you", "stop", 2)
        assert isinstance(filled, Reply)
        assert json.loads(filled.text) == {"echo": "hi you"}
        async with open_model("inspect:openai-api/local/missing", limits=QUICK) as model:
            with pytest.raises(UsageError, match="no such model"):
                await preflight(model)


@inspected
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429", FailureKind.RATE_LIMITED),
        ("503", FailureKind.SERVER_ERROR),
        ("reset", FailureKind.CONNECTION),
    ],
)
async def test_faults_behind_inspect_have_their_kind(monkeypatch: pytest.MonkeyPatch, fault, kind):
    monkeypatch.setenv("LOCAL_API_KEY", "k-1234567")
    with fault_server.running("--faults", fault, "--share", "1") as url:
        monkeypatch.setenv("LOCAL_BASE_URL", f"{url}/v1")
        async with open_model("inspect:openai-api/local/m", limits=QUICK) as model:
            failure = await model.reply(ASK)
    assert isinstance(failure, Failure)
    assert failure.kind is kind
    assert "k-1234567" not in failure.detail


@inspected
@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("inspect:nosuch/x", "not recognized"),
        ("inspect:mockllm", "format"),
        ("inspect:openai-api/nokey/x", "NOKEY_API_KEY"),
    ],
)
def test_what_inspect_lacks_is_one_plain_line(spec: str, told: str):
    with pytest.raises(UsageError, match=told) as caught:
        open_model(spec)
    assert "\n" not in str(caught.value)
    assert "[bold]" not in str(caught.value)
