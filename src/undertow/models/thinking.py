"""Thinking budgets in tokens: each provider that takes one has its own name for it.

pydantic-ai's common ``thinking`` setting knows efforts only, so budgets go by the providers' own settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from undertow.errors import UsageError


def _anthropic(tokens: int) -> Mapping[str, object]:
    return {"anthropic_thinking": {"type": "enabled", "budget_tokens": tokens}}


def _google(tokens: int) -> Mapping[str, object]:
    return {"google_thinking_config": {"thinking_budget": tokens}}


def _openrouter(tokens: int) -> Mapping[str, object]:
    return {"openrouter_reasoning": {"max_tokens": tokens}}


def _bedrock(tokens: int) -> Mapping[str, object]:
    fields = {"thinking": {"type": "enabled", "budget_tokens": tokens}}
    return {"bedrock_additional_model_requests_fields": fields}


_BUDGETS: dict[str, Callable[[int], Mapping[str, object]]] = {
    "anthropic": _anthropic,
    "bedrock": _bedrock,
    "google": _google,
    "google-cloud": _google,
    "openrouter": _openrouter,
}


def thinking_settings(spec: str, tokens: int) -> Mapping[str, object]:
    """Return the request settings that give the model ``spec`` a thinking budget of ``tokens``.

    Raises:
        UsageError: the provider takes no budget in tokens.
    """
    provider = spec.partition(":")[0]
    if provider not in _BUDGETS:
        known = ", ".join(sorted({name.partition("-")[0] for name in _BUDGETS}))
        raise UsageError(
            f"model {spec!r}: takes no thinking budget in tokens; the providers that do: {known}"
        )
    return _BUDGETS[provider](tokens)
