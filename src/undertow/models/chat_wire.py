"""OpenAI-compatible servers without a client library between: one POST, one JSON object.

Departure from the other providers, which go by pydantic-ai: measured in one process against one loopback
server, a forced tool call takes 3.95 ms of client CPU by pydantic-ai and the OpenAI client and 0.34 ms by
aiohttp. Of the former a quarter re-types the request and a tenth asks a thread for the platform's name; what
is left would still not let a search with its journal stay under 2.5 ms a call.
"""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.request import getproxies

from undertow.models.failures import Fault, redact
from undertow.models.wire import Call
from undertow.records import Failure, FailureKind, Reply
from undertow.text import one_line, whole_text

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

_FINISH: dict[object, Literal["stop", "length", "filter", "tool", "unknown"]] = {
    "stop": "stop", "length": "length", "content_filter": "filter", "tool_calls": "tool",
    "function_call": "tool",
}  # fmt: skip
_THOUGHTS = re.compile(r"\A\s*<think>.*?(?:</think>\s*|\Z)", re.DOTALL)
_CONNECT_SECONDS = 10.0


class ChatWire:
    """Sends calls to ``BASE/chat/completions``."""

    def __init__(self, base: str, model: str, key: str | None) -> None:
        """Open connections to ``base``, with ``key`` as bearer token where there is one."""
        self._url = f"{base.rstrip('/')}/chat/completions"
        self._model = model
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._session: ClientSession | None = None

    def __repr__(self) -> str:
        return f"ChatWire({self._url!r}, {self._model!r})"

    async def send(self, call: Call, timeout: float) -> Reply | Fault:  # noqa: ASYNC109 - part of the request
        """Try once."""
        from aiohttp import ClientConnectorError, ClientError

        body = json.dumps(self._body(call), ensure_ascii=True).encode()
        try:
            async with (
                asyncio.timeout(timeout),
                self._open().post(
                    self._url, data=body, headers=self._headers, allow_redirects=False
                ) as response,
            ):
                text = await response.read()
        except TimeoutError:
            return _fault(FailureKind.TIMEOUT, f"no answer in {timeout:.3g} s", retry=True)
        except (ClientError, OSError) as error:
            sent = not isinstance(error, ClientConnectorError)
            return _fault(FailureKind.CONNECTION, str(error) or type(error).__name__, retry=True, sent=sent)
        return read_completion(text) if response.status == 200 else _refused(response, text)

    def _open(self) -> ClientSession:
        if self._session is None:
            from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

            self._session = ClientSession(
                connector=TCPConnector(limit=0),
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                # With it aiohttp reads proxies and netrc anew for every call, in threads: 0.4 ms each.
                trust_env=bool(getproxies()),
            )
        return self._session

    def _body(self, call: Call) -> dict[str, object]:
        body: dict[str, object] = {
            "model": self._model,
            "messages": [{"role": m.role, "content": m.content} for m in call.messages],
            "temperature": call.settings.temperature,
            # Most servers know `max_tokens` only; none that knows the new name has dropped the old one.
            "max_tokens": call.settings.max_tokens,
            "seed": call.seed,
        }
        if call.form is not None:
            function = {
                "name": call.form.name, "description": call.form.description, "parameters": call.form.schema,
            }  # fmt: skip
            body["tools"] = [{"type": "function", "function": function}]
            body["tool_choice"] = "required"
        return body

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _fault(
    kind: FailureKind, detail: str, retry: bool, after: float | None = None, sent: bool = True
) -> Fault:
    return Fault(Failure(kind, redact(one_line(detail, 300))), retry, after, sent)


def read_completion(text: bytes) -> Reply | Fault:
    """Read a completion; anything of another shape is a fault, often gone at the next try."""
    try:
        answer = json.loads(text)
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        words = _words(choice["message"])
        read, written = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        finish = choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        shown = text[:80].decode("utf-8", "replace")
        return _fault(FailureKind.BAD_RESPONSE, f"no chat completion ({error!r}) in {shown!r}", retry=True)
    if finish == "error":
        return _fault(FailureKind.SERVER_ERROR, "the provider ended the reply with an error", retry=True)
    return Reply(whole_text(words), _FINISH.get(finish, "unknown"), read, written)


def _words(message: dict[str, Any]) -> str:
    """Return the arguments of the tool calls as they came, one a line, else the text without thoughts."""
    calls = message.get("tool_calls")
    if calls:
        return "\n".join(_text(call["function"]["arguments"]) for call in calls)
    content = message.get("content") or message.get("refusal") or ""
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content)
    return _THOUGHTS.sub("", _text(content))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a text belongs")
    return value


def _refused(response: ClientResponse, text: bytes) -> Fault:
    """Turn a status other than 200 into a fault."""
    status, said = response.status, _said(text)
    detail = f"status {status}: {said}"
    if status == 429 and "insufficient_quota" not in said:
        return _fault(FailureKind.RATE_LIMITED, detail, retry=True, after=_retry_after(response))
    if status == 408:
        return _fault(FailureKind.TIMEOUT, detail, retry=True)
    if status >= 500:
        return _fault(FailureKind.SERVER_ERROR, detail, retry=True, after=_retry_after(response))
    filtered = "content_filter" in said or "content_policy" in said
    return _fault(FailureKind.FILTERED if filtered else FailureKind.REJECTED, detail, retry=False)


def _said(text: bytes) -> str:
    """Return the message and code of an error body, or its beginning."""
    try:
        error = json.loads(text)["error"]
        return f"{error['message']} {error.get('code') or ''}".strip()
    except (ValueError, LookupError, TypeError, AttributeError):
        return text[:200].decode("utf-8", "replace")


def _retry_after(response: ClientResponse) -> float | None:
    """Read Retry-After: seconds, or a date (RFC 9110 §10.2.3)."""
    value = response.headers.get("Retry-After", "")
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None
