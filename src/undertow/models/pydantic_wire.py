"""Named providers by pydantic-ai."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

from undertow.errors import UsageError
from undertow.models.failures import Fault, fault_of
from undertow.models.wire import Call
from undertow.records import Failure, FailureKind, Message, Reply
from undertow.text import one_line, whole_text

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

_FINISH: dict[str | None, Literal["stop", "length", "filter", "tool", "unknown"]] = {
    "stop": "stop", "length": "length", "content_filter": "filter", "tool_call": "tool",
}  # fmt: skip


class PydanticWire:
    """Sends calls through a pydantic-ai model."""

    def __init__(self, model: Model) -> None:
        """Wrap ``model``, whose connections belong to the running event loop."""
        self._model = model
        self._priced = True

    async def send(self, call: Call, timeout: float) -> Reply | Fault:  # noqa: ASYNC109 - part of the request
        """Try once."""
        from pydantic_ai.direct import model_request
        from pydantic_ai.exceptions import UserError

        try:
            response = await model_request(
                self._model,
                _request(call.messages),
                model_settings=_options(call, timeout),
                model_request_parameters=_parameters(call),
            )
        except UserError as error:  # a setting that this model does not take
            raise UsageError(f"model {self._model.model_name}: {one_line(str(error), 300)}") from error
        except Exception as error:  # the boundary: what fault_of does not know is raised on
            fault = fault_of(error)
            if fault is None:
                raise
            return fault
        return self._read(response)

    def _read(self, response: ModelResponse) -> Reply | Fault:
        # Arguments as they came: written anew, a repeated key or a NaN would be lost to the reader.
        calls = [
            call.args if isinstance(call.args, str) else call.args_as_json_str()
            for call in response.tool_calls
        ]
        texts = calls or [response.text or ""]
        reason = _FINISH.get(response.finish_reason, "unknown")
        if response.finish_reason == "error":
            return Fault(
                Failure(FailureKind.SERVER_ERROR, "the provider ended the reply with an error"), True
            )
        return Reply(
            whole_text("\n".join(texts)),
            reason,
            response.usage.input_tokens,
            response.usage.output_tokens,
            self._price(response),
        )

    def _price(self, response: ModelResponse) -> float | None:
        """Price a reply by genai-prices' offline list; a model that it does not know is asked for once."""
        if not self._priced:
            return None
        try:
            return float(response.cost().total_price)
        except (LookupError, ValueError, AssertionError):
            self._priced = False
            return None

    async def close(self) -> None:
        """Close the client's connections."""
        client = getattr(self._model, "client", None)
        close = getattr(client, "close", None) or getattr(client, "aclose", None)
        if close is not None:
            closing = close()
            if asyncio.iscoroutine(closing):
                await closing


def _parameters(call: Call) -> ModelRequestParameters:
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    if call.form is None:
        return ModelRequestParameters()
    tool = ToolDefinition(
        name=call.form.name,
        parameters_json_schema=dict(call.form.schema),
        description=call.form.description,
        kind="output",
    )
    return ModelRequestParameters(output_mode="tool", output_tools=[tool], allow_text_output=False)


def _request(messages: Sequence[Message]) -> list[ModelMessage]:
    from pydantic_ai import messages as ai

    history: list[ModelMessage] = []
    for message in messages:
        if message.role == "assistant":
            history.append(ai.ModelResponse(parts=[ai.TextPart(message.content)]))
        elif message.role == "system":
            history.append(ai.ModelRequest(parts=[ai.SystemPromptPart(message.content)]))
        else:
            history.append(ai.ModelRequest(parts=[ai.UserPromptPart(message.content)]))
    return history


def _options(call: Call, timeout: float) -> ModelSettings:
    """Sampling settings of one try; retries are ours, so the client makes none.

    A thinking budget counts as output, and excludes a temperature.
    """
    options: dict[str, object] = {
        "temperature": call.settings.temperature,
        "max_tokens": call.settings.max_tokens,
        "seed": call.seed,
        "timeout": timeout,
        "request_timeout": timeout,
        "max_retries": 0,
    }
    if call.thinking is not None:
        tokens, settings = call.thinking
        del options["temperature"]
        options |= {"max_tokens": call.settings.max_tokens + tokens, **settings}
    return cast("ModelSettings", options)
