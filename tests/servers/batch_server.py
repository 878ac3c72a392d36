"""OpenAI's files and batches and Anthropic's message batches, for tests in another process.

Texts are described as by ``attribute_server``. A batch ends ``--delay`` seconds after it came. Results are
shuffled; ``--malformed`` is the share of answers of a wrong shape, ``--expired`` that of calls that are not
answered the first time they are asked. ``--hide`` answers the n-th hand-over and then drops the line, so that
its id is never seen. ``GET /stats`` counts. Loopback only; prints its port as one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from attribute_server import malformed, sentences

Calls = list[tuple[str, dict[str, Any]]]


class BatchServer:
    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.told: Counter[tuple[str, str]] = Counter()

    def begin(self, calls: Calls, **rest: Any) -> str:
        """Take a batch and work out all its answers at once."""
        name = f"batch_{len(self.batches)}"
        rng = random.Random(f"{self.given.seed}/{name}")
        results: dict[str, tuple[list[str] | object, bool]] = {}
        for key, body in calls:
            self.asked[key] += 1
            first = self.asked[key] == 1
            expired = first and random.Random(f"{self.given.seed}/{key}").random() < self.given.expired
            results[key] = (None if expired else self.describe(body), expired)
        order = list(results)
        rng.shuffle(order)
        self.batches[name] = {
            "at": time.time(), "results": [(key, *results[key]) for key in order], "n": len(calls), **rest
        }  # fmt: skip
        self.counts["batches"] += 1
        self.counts["calls"] += len(calls)
        return name

    def describe(self, body: dict[str, Any]) -> object:
        asked = body["messages"][-1]["content"]
        side, nonce = re.findall(r"<<<(query|response) (\w+)\n", asked)[-1]
        text = asked.split(f"<<<{side} {nonce}\n")[1].rsplit(f"\n{side} {nonce}>>>")[0]
        good = sentences(side, text)
        self.told[side, text] += 1
        draw = random.Random(f"{self.given.seed}/{side}/{text}/{self.told[side, text]}")
        if draw.random() < self.given.malformed or "POISON" in text:
            self.counts["malformed"] += 1
            return malformed(good, draw.randrange(7))
        return {"attributes": good}

    def hidden(self, request: web.Request) -> None:
        if self.counts["batches"] == self.given.hide and request.transport is not None:
            request.transport.abort()

    def ended(self, name: str) -> bool:
        return time.time() - self.batches[name]["at"] >= self.given.delay

    # OpenAI
    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        name = f"file_{len(self.files)}"
        self.files[name] = form["file"].file.read().decode()  # type: ignore[union-attr]
        return web.json_response({"id": name, "object": "file"})

    async def create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert (asked["endpoint"], asked["completion_window"]) == ("/v1/chat/completions", "24h")
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        name = self.begin([(line["custom_id"], line["body"]) for line in lines], tag=asked["metadata"])
        self.hidden(request)
        return web.json_response(self.openai(name))

    def openai(self, name: str) -> dict[str, Any]:
        batch, ended = self.batches[name], self.ended(name)
        files = {"output_file_id": f"out_{name}", "error_file_id": f"err_{name}"} if ended else {}
        counts = {"total": batch["n"], "completed": batch["n"] if ended else 0, "failed": 0}
        status = "completed" if ended else "in_progress"
        return {"id": name, "status": status, "metadata": batch["tag"], "request_counts": counts, **files}

    async def batch(self, request: web.Request) -> web.Response:
        return web.json_response(self.openai(request.match_info["name"]))

    async def listed(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [self.openai(name) for name in self.batches], "has_more": False})

    async def content(self, request: web.Request) -> web.Response:
        kind, name = request.match_info["name"].split("_", 1)
        rows = []
        for key, filled, expired in self.batches[name]["results"]:
            if expired != (kind == "err"):
                continue
            row: dict[str, Any] = {"custom_id": key, "response": None, "error": {"code": "batch_expired"}}
            if not expired:
                row |= {"response": {"status_code": 200, "body": completion(filled)}, "error": None}
            rows.append(json.dumps(row))
        return web.Response(text="\n".join(rows))

    # Anthropic
    async def create_messages(self, request: web.Request) -> web.Response:
        assert request.headers["anthropic-version"]
        asked = (await request.json())["requests"]
        assert all(r["params"]["tool_choice"]["name"] == "attributes" for r in asked)
        name = self.begin([(r["custom_id"], r["params"]) for r in asked], url=str(request.url))
        self.hidden(request)
        return web.json_response(self.anthropic(name))

    def anthropic(self, name: str) -> dict[str, Any]:
        batch, ended = self.batches[name], self.ended(name)
        counts = {"processing": 0 if ended else batch["n"], "succeeded": batch["n"] if ended else 0}
        counts |= {"errored": 0, "canceled": 0, "expired": 0}
        made = datetime.fromtimestamp(batch["at"], UTC).isoformat()
        url = f"{batch['url']}/{name}/results" if ended else None
        status = "ended" if ended else "in_progress"
        return {
            "id": name, "processing_status": status, "request_counts": counts, "created_at": made,
            "results_url": url,
        }  # fmt: skip

    async def message_batch(self, request: web.Request) -> web.Response:
        return web.json_response(self.anthropic(request.match_info["name"]))

    async def listed_messages(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [self.anthropic(n) for n in self.batches], "has_more": False})

    async def results(self, request: web.Request) -> web.Response:
        rows = []
        for key, filled, expired in self.batches[request.match_info["name"]]["results"]:
            result = {"type": "expired"} if expired else {"type": "succeeded", "message": message(filled)}
            rows.append(json.dumps({"custom_id": key, "result": result}))
        return web.Response(text="\n".join(rows))

    async def stats(self, _: web.Request) -> web.Response:
        most = max(self.asked.values(), default=0)
        return web.json_response({**self.counts, "distinct": len(self.asked), "most": most})


USAGE = {"prompt_tokens": 500, "completion_tokens": 100}


def completion(filled: object) -> dict[str, Any]:
    if isinstance(filled, str):
        return {"choices": [{"message": {"content": filled}, "finish_reason": "stop"}], "usage": USAGE}
    call = {
        "id": "c",
        "type": "function",
        "function": {"name": "attributes", "arguments": json.dumps(filled)},
    }
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"choices": [{"message": said, "finish_reason": "tool_calls"}], "usage": USAGE}


def message(filled: object) -> dict[str, Any]:
    usage = {"input_tokens": 500, "output_tokens": 100}
    if isinstance(filled, str):
        return {"content": [{"type": "text", "text": filled}], "stop_reason": "end_turn", "usage": usage}
    block = {"type": "tool_use", "id": "t", "name": "attributes", "input": filled}
    return {"content": [block], "stop_reason": "tool_use", "usage": usage}


async def serve(given: argparse.Namespace) -> None:
    server, app = BatchServer(given), web.Application(client_max_size=2**28)
    app.add_routes(
        [
            web.post("/v1/files", server.upload),
            web.get("/v1/files/{name}/content", server.content),
            web.post("/v1/batches", server.create),
            web.get("/v1/batches", server.listed),
            web.get("/v1/batches/{name}", server.batch),
            web.post("/v1/messages/batches", server.create_messages),
            web.get("/v1/messages/batches", server.listed_messages),
            web.get("/v1/messages/batches/{name}", server.message_batch),
            web.get("/v1/messages/batches/{name}/results", server.results),
            web.get("/stats", server.stats),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", given.port).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, prog=Path(__file__).name)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hide", type=int, default=0)
    for option in ("--malformed", "--expired", "--delay"):
        parser.add_argument(option, type=float, default=0.0)
    asyncio.run(serve(parser.parse_args()))
