"""``inspect:PROVIDER/MODEL``: what Inspect (the extra ``inspect``) can call, as a model of pydantic-ai.

So retries, limits, budget and failures are the same as for every other provider. Inspect is told not to try
again; some of its clients do so on their own, and such hidden tries are not counted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic_ai import exceptions as ai
from pydantic_ai import messages as parts
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.usage import RequestUsage

from undertow.errors import UsageError
from undertow.text import one_line

if TYPE_CHECKING:
    from pydantic_ai.messages import FinishReason, ModelMessage, ModelResponse
    from pydantic_ai.settings import ModelSettings

_MARKUP = re.compile(r"\[/?[a-z ]+\]|^ERROR: |^\[bold\]ERROR\[/bold\]: ")
_FINISH: dict[str, FinishReason] = {
    "stop": "stop", "max_tokens": "length", "model_length": "length", "tool_calls": "tool_call",
    "content_filter": "content_filter",
}  # fmt: skip


def open_inspect(name: str) -> InspectModel:
    """Open Inspect's model ``name``, such as ``openai-api/local/my-model``.

    Raises:
        UsageError: the extra is missing, or Inspect's own line about what the model lacks.
    """
    try:
        from inspect_ai.model import get_model
    except ImportError as error:
        lacks = one_line(str(error), 80)
        raise UsageError(f'model inspect:{name}: {lacks}; pip install "undertow[inspect]"') from error
    try:
        return InspectModel(get_model(name, memoize=False))
    except Exception as error:  # Inspect's own classes for a missing key or package are private
        told = _MARKUP.sub("", one_line(str(error), 400))
        raise UsageError(f"model inspect:{name}: {told.removeprefix('ERROR: ')}") from error


class InspectModel(Model):
    """An Inspect model behind pydantic-ai's interface."""

    def __init__(self, model: Any) -> None:
        """Wrap what ``inspect_ai.model.get_model`` returned."""
        super().__init__()
        self._model = model

    @property
    def model_name(self) -> str:
        """Inspect's name of the model."""
        return str(self._model.name)

    @property
    def system(self) -> str:
        """``inspect``: no provider whose prices are known."""
        return "inspect"

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask once.

        Raises:
            pydantic_ai.exceptions.ModelAPIError: whatever Inspect raised, by status code where it has one.
        """
        tools, choice = _tools(model_request_parameters)
        try:
            output = await self._model.generate(
                _turns(messages), tools=tools, tool_choice=choice, config=_config(model_settings or {})
            )
        except (TimeoutError, OSError):
            raise
        except Exception as error:  # the boundary: its providers raise what their own clients raise
            raise _as_api_error(self.model_name, error) from error
        return _response(output)

    @property
    def client(self) -> InspectModel:
        """What has connections to close."""
        return self

    async def aclose(self) -> None:
        """Close the connections."""
        await self._model.api.aclose()


def _turns(messages: list[ModelMessage]) -> list[Any]:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    kinds: dict[type[object], Any] = {
        parts.SystemPromptPart: ChatMessageSystem, parts.UserPromptPart: ChatMessageUser,
        parts.TextPart: ChatMessageAssistant,
    }  # fmt: skip
    said: list[Any] = [part for message in messages for part in message.parts]
    return [kinds[type(part)](content=part.content) for part in said if type(part) in kinds]


def _config(settings: ModelSettings) -> Any:
    from inspect_ai.model import GenerateConfig

    kept = {key: settings.get(key) for key in ("temperature", "max_tokens", "seed")}
    seconds = settings.get("timeout")
    waits = int(seconds) if isinstance(seconds, int | float) and seconds >= 1 else None
    return GenerateConfig(**kept, max_retries=0, timeout=waits, attempt_timeout=waits)


def _tools(parameters: ModelRequestParameters) -> tuple[list[Any], Any]:
    from inspect_ai.tool import ToolFunction, ToolInfo, ToolParams

    tools = [
        ToolInfo(
            name=tool.name,
            description=tool.description or tool.name,
            parameters=ToolParams.model_validate(tool.parameters_json_schema),
        )
        for tool in parameters.output_tools
    ]
    return tools, ToolFunction(name=tools[0].name) if tools else None


def _response(output: Any) -> ModelResponse:
    calls = output.choices[0].message.tool_calls or [] if output.choices else []
    said: list[Any] = [parts.ToolCallPart(call.function, call.arguments, call.id) for call in calls]
    if not said:
        said = [parts.TextPart(output.completion)]
    usage = output.usage
    return parts.ModelResponse(
        parts=said,
        usage=RequestUsage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
        if usage
        else RequestUsage(),
        model_name=output.model,
        finish_reason=_FINISH.get(str(output.stop_reason)),
    )


def _as_api_error(name: str, error: Exception) -> ai.ModelAPIError:
    """Give an error of some provider's client the class that pydantic-ai has for it."""
    inner = error.__cause__ if type(error).__name__ == "RetryError" and error.__cause__ else error
    status, kind, told = getattr(inner, "status_code", None), type(inner).__name__, str(inner)
    if status == 429:
        return ai.ModelRateLimitError(name, told)
    if isinstance(status, int) and status >= 400:
        return ai.ModelHTTPError(status, name, told)
    if "Timeout" in kind:
        return ai.ModelTimeoutError(name, told)
    if "Connect" in kind:
        return ai.ModelConnectionError(name, told)
    return ai.ModelAPIError(name, f"{kind}: {told}")
