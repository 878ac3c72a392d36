"""An OpenAI-compatible endpoint for small local models, on the loopback address alone; no tools, no streams.

    python examples/serve.py FOLDER [--port 8000]

Serves every model folder below FOLDER by its name; a folder that comes later is served too. The first line is
JSON with the port (``--port 0`` takes a free one). For tutorials: real models want vLLM or the like.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web

from undertow.models.base import Settings
from undertow.models.local import LocalModel
from undertow.records import Failure, Message

FINISH = {"stop": "stop", "length": "length", "filter": "content_filter"}


def completion(name: str, text: str, finish: str, read: int, written: int) -> dict[str, Any]:
    """Lay an answer out as OpenAI does."""
    return {
        "object": "chat.completion",
        "model": name,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }


def application(folder: Path) -> web.Application:
    """Return the server of the models below ``folder``."""
    opened = cache(lambda name: LocalModel(folder / name))

    def known() -> set[str]:
        return {path.parent.name for path in folder.glob("*/config.json")}

    for there in known():  # the first model takes seconds, in which a search would give the server up
        opened(there)

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        name = str(body["model"])
        if name not in known():
            return web.json_response({"error": {"message": f"no model {name}"}}, status=404)
        messages = [Message(turn["role"], turn["content"]) for turn in body["messages"]]
        settings = Settings(body.get("temperature", 1.0), body.get("max_tokens", 512), body.get("seed") or 0)
        reply = await opened(name).reply(messages, settings)
        if isinstance(reply, Failure):
            return web.json_response({"error": {"message": reply.detail}}, status=500)
        finish = FINISH.get(reply.finish_reason, "stop")
        return web.json_response(
            completion(name, reply.text, finish, reply.input_tokens, reply.output_tokens)
        )

    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", chat)])
    return app


async def serve(folder: Path, port: int) -> None:
    """Serve until the process is ended."""
    runner = web.AppRunner(application(folder))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    asyncio.run(serve(given.folder, given.port))


if __name__ == "__main__":
    main()
