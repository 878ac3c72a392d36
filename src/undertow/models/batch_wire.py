"""Providers' batch APIs: many calls handed over at once, answered within a day, at half the price.

OpenAI's files and batches, which other servers speak too, and Anthropic's message batches. Both by aiohttp,
without the providers' clients: five plain requests, and Anthropic's client is no part of the core install.
Answers carry the caller's id of each call and come in any order.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from undertow.errors import UsageError
from undertow.models.chat_wire import read_completion
from undertow.models.failures import Fault, redact
from undertow.models.wire import Call
from undertow.records import Failure, FailureKind, Reply
from undertow.text import one_line

if TYPE_CHECKING:
    from aiohttp import ClientSession

PRICE = 0.5
"""Share of the usual price (OpenAI, Anthropic)."""
CALLS, BYTES = 20_000, 90_000_000
"""Most of one batch; the providers take 50,000 and 200 MB, and 100,000 and 256 MB."""
_TRIES, _BACKOFF, _TIMEOUT = 6, 0.5, 300.0
_FINISH: dict[object, Literal["stop", "length", "filter", "tool", "unknown"]] = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool",
    "refusal": "filter",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BatchState:
    """How far a batch is."""

    ended: bool
    """Nothing more will be answered."""
    answered: int
    """Calls answered so far."""
    places: tuple[str, ...] = ()
    """Where the results are; empty where there are none."""
    said: str = ""
    """Why there are none."""


class BatchWire(Protocol):
    """A provider's batch API."""

    async def submit(self, calls: Mapping[str, Call], tag: str) -> str:
        """Hand calls over by id; return the batch's id."""
        ...

    async def find(self, tag: str, count: int, since: float) -> list[str]:
        """Return the ids of all batches that may be one handed over after ``since`` but not noted."""
        ...

    async def look(self, batch: str) -> BatchState:
        """Ask how far a batch is."""
        ...

    def results(self, state: BatchState) -> AsyncIterator[tuple[str, Reply | Failure]]:
        """Read the answers of an ended batch, in any order, each with the id of its call."""
        ...

    async def __aenter__(self) -> BatchWire: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_batches(spec: str) -> BatchWire:
    """Open the batch API of the provider that a model string names.

    Raises:
        UsageError: it has none, or there is no key.
    """
    kind, _, rest = spec.partition(":")
    if kind in ("openai", "openai-chat"):
        base = os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        return OpenAIBatches(
            base, rest, {"Authorization": f"Bearer {_key('OPENAI_API_KEY')}"}, "max_completion_tokens"
        )
    if kind == "openai-compatible" and "#" in rest:
        base, _, model = rest.partition("#")
        key = os.environ.get("UNDERTOW_API_KEY")
        return OpenAIBatches(base, model, {"Authorization": f"Bearer {key}"} if key else {})
    if kind == "anthropic":
        base = os.environ.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
        headers = {"x-api-key": _key("ANTHROPIC_API_KEY"), "anthropic-version": "2023-06-01"}
        return AnthropicBatches(base, rest, headers)
    raise UsageError(
        f"--batch: {redact(spec)!r} has no batch API; use openai:, anthropic: or openai-compatible:"
    )


def _key(variable: str) -> str:
    key = os.environ.get(variable)
    if not key:
        raise UsageError(f"--batch: no key; set the environment variable {variable}")
    return key


class _Http:
    """Requests that are tried again while the server or the line is at fault."""

    def __init__(self, base: str, model: str, headers: dict[str, str]) -> None:
        self._base, self._model, self._headers = base.rstrip("/"), model, headers
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Any:
        from aiohttp import ClientSession, ClientTimeout

        self._session = ClientSession(
            timeout=ClientTimeout(total=_TIMEOUT), headers=self._headers, trust_env=True
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, method: str, path: str, once: bool = False, **content: Any) -> bytes:
        """Return the body of an answer; ``once``: a call that must not be made twice.

        Raises:
            UsageError: refused, or not answered after some tries.
        """
        from aiohttp import ClientError

        assert self._session is not None  # noqa: S101 - entered
        url = path if path.startswith("http") else f"{self._base}{path}"
        why = ""
        for attempt in range(1 if once else _TRIES):
            await asyncio.sleep(_BACKOFF * (2**attempt - 1))
            try:
                async with self._session.request(method, url, **content) as response:
                    body = await response.read()
            except (ClientError, OSError, TimeoutError) as error:
                why = str(error) or type(error).__name__
                continue
            if response.status < 300:
                return body
            why = f"status {response.status}: {body[:300].decode('utf-8', 'replace')}"
            if response.status < 500 and response.status not in (408, 429):
                break
        raise UsageError(f"batch API of {self._base}: {redact(one_line(why, 300))}; the same command goes on")

    async def json(self, method: str, path: str, once: bool = False, **content: Any) -> Any:
        """Return the JSON of an answer."""
        body = await self.ask(method, path, once, **content)
        try:
            return json.loads(body)
        except ValueError:
            raise UsageError(
                f"batch API of {self._base}: no JSON from {path}; the same command goes on"
            ) from None

    async def lines(self, places: Sequence[str]) -> AsyncIterator[dict[str, Any]]:
        """Read JSON lines; one that is none is left out, and its call stays unanswered."""
        for place in places:
            for line in (await self.ask("GET", place)).splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict) and isinstance(row.get("custom_id"), str):
                    yield row


class OpenAIBatches(_Http):
    """``/files`` and ``/batches``."""

    def __init__(self, base: str, model: str, headers: dict[str, str], longest: str = "max_tokens") -> None:
        super().__init__(base, model, headers)
        self._longest = longest

    async def submit(self, calls: Mapping[str, Call], tag: str) -> str:
        """Upload the calls as a file and start a batch on it, marked with ``tag``."""
        from aiohttp import FormData

        lines = [json.dumps(self._line(name, call)) for name, call in calls.items()]
        form = FormData()
        form.add_field("purpose", "batch")
        form.add_field(
            "file", "\n".join(lines).encode(), filename=f"{tag}.jsonl", content_type="application/jsonl"
        )
        file = await self.json("POST", "/files", once=True, data=form)
        asked = {
            "input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h",
            "metadata": {"undertow": tag},
        }  # fmt: skip
        return str((await self.json("POST", "/batches", once=True, json=asked))["id"])

    def _line(self, name: str, call: Call) -> dict[str, object]:
        body: dict[str, object] = {
            "model": self._model,
            "messages": [{"role": m.role, "content": m.content} for m in call.messages],
            "temperature": call.settings.temperature,
            self._longest: call.settings.max_tokens,
            "seed": call.seed,
        }
        if call.form is not None:
            function = {
                "name": call.form.name, "description": call.form.description, "parameters": call.form.schema,
            }  # fmt: skip
            body |= {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
        return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}

    async def find(self, tag: str, count: int, since: float) -> list[str]:
        """Look for the tag among the latest batches."""
        listed = await self.json("GET", "/batches?limit=100")
        marked = (b for b in listed["data"] if (b.get("metadata") or {}).get("undertow") == tag)
        return [str(batch["id"]) for batch in marked]

    async def look(self, batch: str) -> BatchState:
        """Ask for the status; an expired or cancelled batch may hold answers."""
        told = await self.json("GET", f"/batches/{batch}")
        ended = told["status"] in ("completed", "failed", "expired", "cancelled")
        files = [told[name] for name in ("output_file_id", "error_file_id") if told.get(name)]
        errors = [error.get("message", "") for error in (told.get("errors") or {}).get("data") or []]
        answered = int((told.get("request_counts") or {}).get("completed") or 0)
        places = tuple(f"/files/{file}/content" for file in files) if ended else ()
        return BatchState(ended, answered, places, f"{told['status']} {' '.join(errors)}".strip())

    async def results(self, state: BatchState) -> AsyncIterator[tuple[str, Reply | Failure]]:
        """Read the output and the error file."""
        async for row in self.lines(state.places):
            response = row.get("response") or {}
            if response.get("status_code") == 200:
                read = read_completion(json.dumps(response.get("body")).encode())
                yield row["custom_id"], read.failure if isinstance(read, Fault) else read
            else:
                yield row["custom_id"], _failure(row.get("error") or response.get("body"))


class AnthropicBatches(_Http):
    """``/v1/messages/batches``."""

    async def submit(self, calls: Mapping[str, Call], tag: str) -> str:
        """Hand all calls over in one request."""
        requests = [{"custom_id": name, "params": self._params(call)} for name, call in calls.items()]
        told = await self.json("POST", "/v1/messages/batches", once=True, json={"requests": requests})
        return str(told["id"])

    def _params(self, call: Call) -> dict[str, object]:
        system = "\n\n".join(m.content for m in call.messages if m.role == "system")
        params: dict[str, object] = {
            "model": self._model,
            "max_tokens": call.settings.max_tokens,
            "temperature": call.settings.temperature,
            "messages": [{"role": m.role, "content": m.content} for m in call.messages if m.role != "system"],
        }
        if system:
            params["system"] = system
        if call.form is not None:
            form = call.form
            tool = {"name": form.name, "description": form.description, "input_schema": form.schema}
            params |= {"tools": [tool], "tool_choice": {"type": "tool", "name": form.name}}
        return params

    async def find(self, tag: str, count: int, since: float) -> list[str]:
        """Look for batches of as many calls made since then: these batches carry no mark, and many are full.

        One that is another's does no harm: its answers have other ids.
        """
        listed = await self.json("GET", "/v1/messages/batches?limit=100")
        made = {str(b["id"]): datetime.fromisoformat(b["created_at"]).timestamp() for b in listed["data"]}
        sizes = {str(b["id"]): sum(b["request_counts"].values()) for b in listed["data"]}
        return [id for id, at in made.items() if at >= since - 1.0 and sizes[id] == count]

    async def look(self, batch: str) -> BatchState:
        """Ask for the status."""
        told = await self.json("GET", f"/v1/messages/batches/{batch}")
        ended = told["processing_status"] == "ended"
        places = (told["results_url"],) if ended and told.get("results_url") else ()
        return BatchState(ended, int(told["request_counts"]["succeeded"]), places, told["processing_status"])

    async def results(self, state: BatchState) -> AsyncIterator[tuple[str, Reply | Failure]]:
        """Read the results file."""
        async for row in self.lines(state.places):
            result = row.get("result") or {}
            if result.get("type") == "succeeded":
                yield row["custom_id"], _message(result.get("message"))
            else:
                yield (
                    row["custom_id"],
                    _failure(result.get("error") or {"code": f"batch_{result.get('type')}"}),
                )


def _message(message: Any) -> Reply | Failure:
    """Read a message: the inputs of its tool calls, else its text."""
    try:
        blocks, usage = message["content"], message["usage"]
        calls = [json.dumps(block["input"]) for block in blocks if block["type"] == "tool_use"]
        texts = [block["text"] for block in blocks if block["type"] == "text"]
        read, written = int(usage["input_tokens"]), int(usage["output_tokens"])
        finish = _FINISH.get(message.get("stop_reason"), "unknown")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return Failure(FailureKind.BAD_RESPONSE, f"no message ({error!r})")
    return Reply("\n".join(calls or texts), finish, read, written)


def _failure(error: Any) -> Failure:
    """Name what a provider says of a call that it did not answer."""
    said = redact(one_line(json.dumps(error), 300))
    if "expired" in said:
        return Failure(FailureKind.TIMEOUT, f"expired in the batch: {said}")
    return Failure(FailureKind.SERVER_ERROR, f"not answered in the batch: {said}")
