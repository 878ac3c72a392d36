"""An OpenAI-compatible server that fails on purpose, for tests in another process.

Run it: ``python tests/servers/fault_server.py --port 0 --faults 429,503,reset --share 0.3 --seed 1``. It
prints one JSON line with its port and then serves until it is killed. Loopback only.

Faults: ``429`` (with Retry-After), ``503``, ``reset`` (connection dropped), ``truncated`` (body cut),
``json`` (HTML with status 200), ``shape`` (JSON of another shape), ``slow`` (stalls ``--stall`` seconds).
Whether a try fails is drawn from the seed, so retries can succeed. The answer is a function of the last
message. ``GET /stats`` counts calls and faults; the model ``missing`` is 404, the key ``bad-key-canary`` 401.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web

FAULTS = ("429", "503", "reset", "truncated", "json", "shape", "slow")


@dataclass
class FaultServer:
    """State of the server."""

    faults: list[str]
    share: float
    seed: int
    stall: float
    latency: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    most: int = 0

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.counts["calls"] += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await self._answer(request, body)
        finally:
            self.under_way -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if request.headers.get("Authorization", "").endswith("bad-key-canary"):
            return web.json_response(
                {"error": {"message": "Incorrect API key: bad-key-canary", "code": "invalid_api_key"}},
                status=401,
            )
        if body["model"] == "missing":
            return web.json_response(
                {"error": {"message": "no such model", "code": "model_not_found"}}, status=404
            )
        rng = random.Random(f"{self.seed}/{self.counts['calls']}")
        fault = rng.choice(self.faults) if self.faults and rng.random() < self.share else ""
        if fault:
            self.counts[fault] += 1
            return await self._fail(request, body, fault)
        await asyncio.sleep(self.latency)
        prompt = body["messages"][-1]["content"]
        self.answered[prompt] += 1
        return web.json_response(completion(body))

    async def _fail(self, request: web.Request, body: dict[str, Any], fault: str) -> web.StreamResponse:
        if fault == "429":
            return web.json_response(
                {"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0"}
            )
        if fault == "503":
            return web.json_response({"error": {"message": "busy"}}, status=503)
        if fault == "json":
            return web.Response(text="<html>proxy error</html>", content_type="text/html")
        if fault == "shape":
            return web.json_response({"object": "chat.completion", "choices": []})
        if fault == "slow":
            await asyncio.sleep(self.stall)
            return web.json_response(completion(body))
        if fault == "truncated":
            full = json.dumps(completion(body)).encode()
            response = web.StreamResponse(
                headers={"Content-Type": "application/json", "Content-Length": str(len(full))}
            )
            await response.prepare(request)
            await response.write(full[: len(full) // 2])
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def stats(self, _: web.Request) -> web.Response:
        twice = sum(1 for n in self.answered.values() if n > 1)
        return web.json_response(
            {**self.counts, "distinct": len(self.answered), "twice": twice, "most": self.most}
        )


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """Answer ``echo PROMPT``; a forced tool is called with it."""
    prompt = body["messages"][-1]["content"]
    read = len(prompt.split())
    message: dict[str, Any] = {"role": "assistant", "content": f"echo {prompt}"}
    reason = "length" if body.get("max_tokens") == 1 else "stop"
    if body.get("tools"):
        name = body["tools"][0]["function"]["name"]
        arguments = json.dumps({"echo": prompt})
        call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
        message, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    return {
        "id": "x", "object": "chat.completion", "created": int(time.time()), "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": read, "completion_tokens": 2, "total_tokens": read + 2},
    }  # fmt: skip


async def serve(server: FaultServer, port: int) -> None:
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", server.chat), web.get("/stats", server.stats)])
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


@contextlib.contextmanager
def running(*arguments: str, script: str = __file__) -> Iterator[str]:
    """Run the server, or another that prints its port, in another process.

    Yields ``http://127.0.0.1:PORT`` and kills that process after.
    """
    process = subprocess.Popen(
        [sys.executable, script, "--port", "0", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
    finally:
        process.kill()
        process.wait()


async def stats(url: str) -> dict[str, int]:
    async with ClientSession() as session, session.get(f"{url}/stats") as response:
        found: dict[str, int] = await response.json()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", default="", help=f"comma-separated of {FAULTS}")
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stall", type=float, default=60.0)
    parser.add_argument("--latency", type=float, default=0.0)
    given = parser.parse_args()
    faults = [fault for fault in given.faults.split(",") if fault]
    if unknown := set(faults) - set(FAULTS):
        parser.error(f"unknown faults: {sorted(unknown)}")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            serve(FaultServer(faults, given.share, given.seed, given.stall, given.latency), given.port)
        )


if __name__ == "__main__":
    main()
