from __future__ import annotations

import json

import pytest

from undertow.errors import UsageError
from undertow.models.base import Form, Settings
from undertow.models.providers import ProviderModel
from undertow.models.pydantic_wire import PydanticWire
from undertow.models.thinking import thinking_settings
from undertow.records import Message, Reply


async def test_a_thinking_budget_reaches_the_provider_beside_the_answer(judges: str) -> None:
    from openai import AsyncOpenAI
    from pydantic_ai.models.openrouter import OpenRouterModel
    from pydantic_ai.providers.openrouter import OpenRouterProvider

    url = judges.removeprefix("openai-compatible:").removesuffix("#")

    def build() -> PydanticWire:
        client = AsyncOpenAI(base_url=url, api_key="none")
        provider = OpenRouterProvider(openai_client=client)
        return PydanticWire(OpenRouterModel("anthropic/settings", provider=provider))

    plain = ProviderModel("openrouter:settings", build)
    thinking = plain.with_thinking(2048, thinking_settings("openrouter:settings", 2048))
    assert plain.name != thinking.name
    form = Form("f", "fill it", {"type": "object", "properties": {}})
    async with thinking as model:
        for answer in (
            await model.reply([Message("user", "hi")], Settings(max_tokens=100)),
            await model.fill([Message("user", "hi")], form, Settings(max_tokens=100)),
        ):
            assert isinstance(answer, Reply)
            sent = json.loads(answer.text)
            assert sent["reasoning"] == {"max_tokens": 2048}
            assert sent.get("max_tokens", sent.get("max_completion_tokens")) == 2148
            assert "temperature" not in sent
            assert "tools" not in sent


@pytest.mark.parametrize("spec", ["anthropic:x", "google:x", "bedrock:x"])
def test_each_provider_has_its_own_name_for_the_budget(spec: str) -> None:
    assert "4096" in json.dumps(thinking_settings(spec, 4096))


@pytest.mark.parametrize("spec", ["openai:gpt-5", "openai-compatible:http://h/v1#m", "local:x", "groq:x"])
def test_a_provider_without_budgets_says_so(spec: str) -> None:
    with pytest.raises(UsageError, match="anthropic, bedrock, google, openrouter"):
        thinking_settings(spec, 4096)
