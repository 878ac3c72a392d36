"""The one boundary at which a provider's exception becomes a :class:`~undertow.records.Failure`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from undertow.records import Failure, FailureKind
from undertow.text import one_line

_SECRET_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_SECRET_SHAPES = re.compile(
    r"\b(?:sk|pk|rk|key|hf|gsk|xai|AIza)[-_][A-Za-z0-9_\-*]{6,}|(?i:bearer)\s+\S+|(?<=://)[^/\s@]+(?=@)"
)


def redact(text: str) -> str:
    """Blank the values of secret environment variables and whatever is shaped like a key."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAMES.search(name):
            text = text.replace(value, "[redacted]")
    return _SECRET_SHAPES.sub("[redacted]", text)


_MAYBE_CHARGED = {
    FailureKind.TIMEOUT,
    FailureKind.CONNECTION,
    FailureKind.BAD_RESPONSE,
    FailureKind.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A failed call, and whether trying again makes sense."""

    failure: Failure
    """What is reported if no try succeeds."""
    retry: bool
    """Whether the same call may succeed later."""
    retry_after: float | None = None
    """Seconds the provider asked to wait."""
    sent: bool = True
    """The request may have reached the provider."""

    @property
    def maybe_charged(self) -> bool:
        """Whether an answer may have been made and lost on its way."""
        return self.sent and self.failure.kind in _MAYBE_CHARGED


def fault_of(error: Exception) -> Fault | None:
    """Map what a provider call raised; ``None`` for what is no fault of the call and must be raised on."""
    from pydantic_ai import exceptions as ai

    kind = _api_kind(error)
    if kind is None and isinstance(error, (ai.UnexpectedModelBehavior, ValueError)):
        # No JSON, or JSON of another shape: the body was cut or a proxy answered. Often gone at the next try.
        kind = FailureKind.BAD_RESPONSE
    if kind is None and isinstance(error, TimeoutError):
        kind = FailureKind.TIMEOUT
    if kind is None and isinstance(error, OSError):
        kind = FailureKind.CONNECTION
    if kind is None:
        return None
    detail = redact(one_line(_what(error), 300))
    retry_after = error.retry_after if isinstance(error, ai.ModelAPIError) else None
    final = kind in (FailureKind.REJECTED, FailureKind.FILTERED)
    return Fault(Failure(kind, detail), not final, retry_after, sent=not _never_connected(error))


def _api_kind(error: Exception) -> FailureKind | None:
    from pydantic_ai import exceptions as ai

    kinds: tuple[tuple[type[Exception], FailureKind], ...] = (
        (ai.ContentFilterError, FailureKind.FILTERED),
        (ai.ModelQuotaExceededError, FailureKind.REJECTED),
        (ai.ModelRateLimitError, FailureKind.RATE_LIMITED),
        (ai.ModelRequestRejectedError, FailureKind.REJECTED),
        (ai.ModelRequestTimeout, FailureKind.TIMEOUT),
        (ai.ModelTimeoutError, FailureKind.TIMEOUT),
        (ai.ModelConnectionError, FailureKind.CONNECTION),
    )
    for type_, kind in kinds:
        if isinstance(error, type_):
            return FailureKind.CONNECTION if _is_disconnect(error) else kind
    if isinstance(error, ai.ModelHTTPError):
        return FailureKind.SERVER_ERROR if error.status_code >= 500 else FailureKind.REJECTED
    return FailureKind.SERVER_ERROR if isinstance(error, ai.ModelAPIError) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it was raised from, down to the deepest."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _is_disconnect(error: Exception) -> bool:
    """Say whether aiohttp lost or never got the connection; its httpx shim calls that a connect timeout."""
    from aiohttp import ClientConnectionError

    return any(
        isinstance(c, ClientConnectionError) and not isinstance(c, TimeoutError) for c in _causes(error)
    )


def _never_connected(error: Exception) -> bool:
    from aiohttp import ClientConnectorError

    return any(isinstance(cause, ClientConnectorError) for cause in _causes(error))


def _what(error: Exception) -> str:
    """Say what happened: for connections the deepest cause, as the outer says "Connection error." only."""
    from pydantic_ai import exceptions as ai

    if isinstance(error, ai.ModelConnectionError):
        return [str(cause) for cause in _causes(error) if str(cause)][-1]
    return str(error) or type(error).__name__
