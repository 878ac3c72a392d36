"""An OpenAI-compatible server that describes texts by rule, for tests in another process.

The ten sentences of a text hold its checksum, so that a test can tell whose they are, what stands in it
("elucidate", a code fence, in one of three wordings each), and filler shared by many texts. ``--malformed``
is the share of answers of a wrong shape, drawn from text and try, so that a retry can succeed; a text with
POISON is never described well. ``--busy`` is the share of calls answered by 503, ``--latency`` the mean
seconds of an answer, exponentially spread, so that answers come in another order than they were asked. A
form ``crux`` is filled with the numbers of the sentences that speak of code. ``GET /stats`` counts. Loopback
only; prints its port as one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
import zlib
from collections import Counter
from typing import Any

from aiohttp import web

PREFLIGHT = "Say yes."
WORDINGS = {
    "elucidate": (
        "The query uses the formal verb elucidate",
        "The query employs elucidate, a formal verb",
        "The query contains the formal verb elucidate",
    ),
    "```": (
        "The response contains a block of Python code",
        "The response includes a Python code block",
        "The response has a block of code in Python",
    ),
}
FILLER = (
    "is written in English", "is polite", "is short", "names a thing", "ends with a full stop",
    "has one line", "begins with a capital letter", "mentions a number", "has no table", "has no formula",
)  # fmt: skip


def sentences(side: str, text: str) -> list[str]:
    """Describe a text; the same text always alike."""
    code = zlib.crc32(text.encode())
    told = [f"The {side} has the checksum {code:08x}"]
    told += [words[code % 3] for mark, words in WORDINGS.items() if mark in text]
    told = [sentence for sentence in told if sentence.startswith(f"The {side}")]
    start = code % len(FILLER)
    filler = (*FILLER[start:], *FILLER[:start])
    return [*told, *(f"The {side} {rest}." for rest in filler)][:10]


def malformed(good: list[str], kind: int) -> object:
    """Spoil an answer in one of seven ways."""
    return (
        {"attributes": good[:5]},
        {"attributes": [*good, *(f"{sentence} too" for sentence in good)]},
        {"attributes": [good[0]] * 10},
        {"attributes": list(range(10))},
        {"attributes": [sentence.replace("The ", "This ") for sentence in good]},
        {"sentences": good},
        "Here are ten sentences about the text.",
    )[kind % 7]


class AttributeServer:
    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.counts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.counts["calls"] += 1
        rng = random.Random(f"{self.given.seed}/{self.counts['calls']}")
        asked = body["messages"][-1]["content"]
        if asked == PREFLIGHT:
            return web.json_response(completion(body, "yes"))
        if self.given.latency:
            await asyncio.sleep(rng.expovariate(1 / self.given.latency))
        if rng.random() < self.given.busy:
            self.counts["503"] += 1
            return web.json_response({"error": {"message": "busy"}}, status=503)
        self.answered[json.dumps([body["messages"], body.get("seed"), body["temperature"]])] += 1
        form = body["tools"][0]["function"]["name"]
        self.counts[form] += 1
        return web.json_response(completion(body, getattr(self, form)(asked, body)))

    def attributes(self, asked: str, body: dict[str, Any]) -> object:
        side, nonce = re.findall(r"<<<(query|response) (\w+)\n", asked)[-1]
        text = asked.split(f"<<<{side} {nonce}\n")[1].rsplit(f"\n{side} {nonce}>>>")[0]
        good = sentences(side, text)
        draw = random.Random(f"{self.given.seed}/{side}/{text}/{body.get('seed')}")
        if draw.random() < self.given.malformed or "POISON" in text:
            self.counts["malformed"] += 1
            return malformed(good, draw.randrange(7))
        return {"attributes": good}

    def crux(self, asked: str, body: dict[str, Any]) -> object:
        numbers = [int(n) for n, rest in re.findall(r"^(\d+)\. (.*)$", asked, re.MULTILINE) if "code" in rest]
        rest = [n for n in range(1, 11) if n not in numbers]
        return {"picks": [*numbers, *rest][:3]}

    async def stats(self, _: web.Request) -> web.Response:
        twice = sum(n > 1 for n in self.answered.values())
        return web.json_response({**self.counts, "distinct": len(self.answered), "twice": twice})


def completion(body: dict[str, Any], filled: object) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": filled}
    reason = "stop"
    if not isinstance(filled, str):
        name = body["tools"][0]["function"]["name"]
        call = {"id": "c", "type": "function", "function": {"name": name, "arguments": json.dumps(filled)}}
        message, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    return {
        "id": "x", "object": "chat.completion", "created": int(time.time()), "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 500, "completion_tokens": 100, "total_tokens": 600},
    }  # fmt: skip


async def serve(given: argparse.Namespace) -> None:
    server, app = AttributeServer(given), web.Application(client_max_size=2**24)
    app.add_routes([web.post("/v1/chat/completions", server.chat), web.get("/stats", server.stats)])
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", given.port).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--malformed", type=float, default=0.0)
    parser.add_argument("--busy", type=float, default=0.0)
    parser.add_argument("--latency", type=float, default=0.0)
    asyncio.run(serve(parser.parse_args()))
