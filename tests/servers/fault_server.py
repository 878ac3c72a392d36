"""An OpenAI-compatible server that fails on purpose, for tests in another process.

Run it: ``python tests/servers/fault_server.py --port 0 --faults 429,503,reset --share 0.3 --seed 1``. It
prints one JSON line with its port and then serves until it is killed. Loopback only.

Faults: ``429`` (with ``--retry-after``), ``503``, ``reset`` (connection dropped), ``truncated`` (body cut),
``json`` (HTML with status 200), ``shape`` (JSON of another shape), ``slow`` (stalls ``--stall`` seconds).
Whether a try fails is drawn from the seed, so retries can succeed; ``--only MODEL`` spares the other models,
``--after N`` the first N calls. The model ``dead/FAULT/N`` fails for good after N calls, ``dead/429/N/WAIT``
with a Retry-After. The answer is a function of the last message: ``echo`` it; the model
``biased`` says BAD to "when did"; a form ``prompt`` is filled with the attributes' quoted words, a form
``verdict`` scores BAD 90. ``GET /stats`` counts calls and faults; the model ``missing`` is 404, the key
``bad-key-canary`` 401.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web

PREFLIGHT = [{"role": "user", "content": "Say yes."}]
FAULTS = ("429", "503", "reset", "truncated", "json", "shape", "slow")


@dataclass
class FaultServer:
    """State of the server."""

    faults: list[str]
    share: float
    seed: int
    stall: float
    latency: float = 0.0
    sigma: float = 0.0
    only: str = ""
    after: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    most: int = 0
    retry_after: str = "0"
    open: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)
    """Seconds spent on a model's calls, and on stalled ones of them as ``MODEL stalled``."""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.counts["calls"] += 1
        self.counts[body["model"]] += 1
        self.under_way += 1
        self.open[body["model"]] += 1
        self.most = max(self.most, self.under_way)
        began = time.monotonic()
        try:
            return await self._answer(request, body)
        finally:
            self.under_way -= 1
            self.open[body["model"]] -= 1
            self.busy[body["model"]] += time.monotonic() - began

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
        if body["model"].startswith("dead/"):
            _, fault, good, *asked = body["model"].split("/")
            if self.counts[body["model"]] > int(good):
                return await self._fail(request, body, fault, asked[0] if asked else "")
            return web.json_response(completion(body))
        rng = random.Random(f"{self.seed}/{self.counts['calls']}")
        spared = (self.only and body["model"] != self.only) or self.counts[body["model"]] <= self.after
        fault = rng.choice(self.faults) if self.faults and not spared and rng.random() < self.share else ""
        if fault:
            self.counts[fault] += 1
            return await self._fail(request, body, fault, self.retry_after)
        await asyncio.sleep(self.latency * math.exp(rng.gauss(0, self.sigma)))
        if body["messages"] != PREFLIGHT:
            asked = [body["model"], body["messages"], body.get("seed"), body.get("temperature")]
            self.answered[json.dumps(asked)] += 1
        return web.json_response(completion(body))

    async def _fail(
        self, request: web.Request, body: dict[str, Any], fault: str, retry_after: str
    ) -> web.StreamResponse:
        if fault == "429":
            asked = {"Retry-After": retry_after} if retry_after else {}
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers=asked)
        if fault == "503":
            return web.json_response({"error": {"message": "busy"}}, status=503)
        if fault == "json":
            return web.Response(text="<html>proxy error</html>", content_type="text/html")
        if fault == "shape":
            return web.json_response({"object": "chat.completion", "choices": []})
        if fault == "slow":
            began = time.monotonic()
            try:
                await asyncio.sleep(self.stall)
            finally:
                self.busy[f"{body['model']} stalled"] += time.monotonic() - began
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
            {
                **self.counts,
                "distinct": len(self.answered),
                "twice": twice,
                "most": self.most,
                "open": dict(self.open),
                "busy": dict(self.busy),
            }
        )


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """Answer ``echo PROMPT``; a forced tool is called with it."""
    prompt = body["messages"][-1]["content"]
    read = len(prompt.split())
    bad = body["model"] == "biased" and "when did" in prompt
    message: dict[str, Any] = {"role": "assistant", "content": f"{'BAD' if bad else 'echo'} {prompt}"}
    reason = "length" if body.get("max_tokens") == 1 else "stop"
    if body.get("tools"):
        name = body["tools"][0]["function"]["name"]
        arguments = json.dumps(FORMS.get(name, lambda text: {"echo": text})(prompt))
        call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
        message, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    return {
        "id": "x", "object": "chat.completion", "created": int(time.time()), "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": read, "completion_tokens": 2, "total_tokens": read + 2},
    }  # fmt: skip


def written(text: str) -> dict[str, Any]:
    """Write the prompt that a generator is asked for, or reword one."""
    asked = json.loads(text)
    if "prompt" in asked:
        return {"prompt": f"{asked['prompt']} {asked['variant'] % 97}"}
    words = [attribute.split("'")[1] for attribute in asked["satisfy"] if "'" in attribute]
    return {"prompt": " ".join([*words, str(asked["variant"])])}


def verdict(text: str) -> dict[str, Any]:
    """Judge what stands between the delimiters."""
    nonce = re.findall(r"The nonce is (\w+)\.", text)[0]
    response = re.findall(rf"<<<response {nonce}\n(.*?)\nresponse {nonce}>>>", text, re.DOTALL)[0]
    return {"nonce": nonce, "reason": "by rule", "score": 90 if response.startswith("BAD") else 5}


FORMS = {"prompt": written, "verdict": verdict}


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
    parser.add_argument("--retry-after", default="0", help="header of a 429; empty for none")
    parser.add_argument("--latency", type=float, default=0.0, help="median seconds of an answer")
    parser.add_argument("--sigma", type=float, default=0.0, help="of the log-normal latency")
    parser.add_argument("--only", default="", help="the only model that fails")
    parser.add_argument("--after", type=int, default=0, help="answered calls of a model before it fails")
    given = parser.parse_args()
    faults = [fault for fault in given.faults.split(",") if fault]
    if unknown := set(faults) - set(FAULTS):
        parser.error(f"unknown faults: {sorted(unknown)}")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            serve(
                FaultServer(
                    faults,
                    given.share,
                    given.seed,
                    given.stall,
                    given.latency,
                    given.sigma,
                    given.only,
                    given.after,
                    retry_after=given.retry_after,
                ),
                given.port,
            )
        )


if __name__ == "__main__":
    main()
