"""How fast the search keeps its slowest role busy, against the bound that this role sets.

Three OpenAI-compatible servers in processes of their own answer after log-normal latencies (median 1.0 s,
sigma 0.6); the client is ``run_surf`` in this process: 5 runs × 5 iterations × 120 candidates, limits over
all runs 250 generator, 250 target, 100 judge, journal on. The bound of a role is the sum of its latencies
over its limit; the wall time cannot go below the largest. Printed are the ratio to it, measured in the same
run, client CPU a call and peak memory.

    python benchmarks/search_engine.py [--algorithm surf] [--scale 1.0] [--json FILE]
    python benchmarks/search_engine.py --calls 100000 --latency 0.01 [--confirm]

``--calls N`` asks for N calls in all and prints the memory held after 10, 50 and 100 % of them, and the most
held while the results are written.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIMITS = {"generator": 250, "target": 250, "judge": 100}
SIGMA = 0.6
FILLER = "of the old bridge and the long river beyond it, as they told us in the evening, "


# ---- the servers: one process a role -------------------------------------------------------------------


class Role:
    """Answers after a log-normal latency, and adds up what it slept."""

    def __init__(self, median: float, seed: int) -> None:
        self.median, self.random = median, random.Random(seed)
        self.calls = self.in_flight = self.most = 0
        self.latency = 0.0

    async def chat(self, request: Any) -> Any:
        from aiohttp import web

        body = await request.json()
        latency = self.median * math.exp(self.random.gauss(0, SIGMA))
        self.calls, self.latency = self.calls + 1, self.latency + latency
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(latency)
        self.in_flight -= 1
        return web.json_response(answer(body))

    async def stats(self, _: Any) -> Any:
        from aiohttp import web

        return web.json_response({"calls": self.calls, "latency": self.latency, "most": self.most})


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """Write a prompt, an answer or a verdict of about the usual length."""
    asked = body["messages"][-1]["content"]
    message: dict[str, Any] = {"role": "assistant", "content": FILLER * 8}
    if body.get("tools"):
        name = body["tools"][0]["function"]["name"]
        filled: dict[str, Any] = {"prompt": f"Tell me {FILLER * 2} {asked[-40:]}"}
        if name == "verdict":
            nonce = asked.split("The nonce is ")[1].split(".")[0]
            filled = {"nonce": nonce, "reason": FILLER, "score": hash(asked[-400:]) % 101}
        call = {"name": name, "arguments": json.dumps(filled)}
        message = {
            "role": "assistant", "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        }  # fmt: skip
    return {
        "id": "x", "object": "chat.completion", "created": 1, "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": len(asked) // 4, "completion_tokens": 150, "total_tokens": 900},
    }  # fmt: skip


async def serve(median: float, seed: int) -> None:
    from aiohttp import web

    role = Role(median, seed)
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", role.chat), web.get("/stats", role.stats)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.Event().wait()


@contextmanager
def servers(median: float) -> Iterator[dict[str, str]]:
    """Run one server a role; yields role → URL."""
    with contextlib.ExitStack() as stack:
        urls = {}
        for seed, role in enumerate(LIMITS):
            command = [sys.executable, __file__, "--serve", str(median), "--seed", str(seed)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            urls[role] = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        yield urls


def stats(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/stats") as response:
        found: dict[str, float] = json.load(response)
    return found


# ---- the measurement -----------------------------------------------------------------------------------


def peak_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def now_mb() -> float | None:
    """Resident memory of this process now, MB; ``None`` where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * resource.getpagesize() / 1e6


class Memory:
    """Progress that notes the memory held after 10, 50 and 100 % of a search."""

    def __init__(self) -> None:
        self.held: dict[str, float | None] = {}
        self._done = self._total = 0

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Memory]:
        self._done, self._total = 0, total or 0
        yield self
        if name == "search":
            self.held["mb_at_100"] = now_mb()

    def advance(self, n: int = 1, note: str = "") -> None:
        self._done += n
        for share in (10, 50):
            if self._done == self._total * share // 100:
                self.held[f"mb_at_{share}"] = now_mb()

    def tell(self, status: object) -> None:
        """Nothing to note."""

    def say(self, line: str) -> None:
        """Nothing to note."""


def measure(
    urls: dict[str, str], out: Path, algorithm: str, candidates: int, iterations: int, confirm: bool
) -> dict[str, Any]:
    """Search once and set what it took against the bound of the slowest role."""
    from undertow.judging.rubric import Rubric
    from undertow.surf.config import SurfConfig
    from undertow.surf.run import run_surf

    attributes = out.with_suffix(".jsonl")
    attributes.write_text(
        "".join(json.dumps({"text": f"The query mentions thing number {n}"}) + "\n" for n in range(500))
    )
    rubric = Rubric(name="bench", behaviour="The assistant drifts.", when_wrong="Always.")
    config = SurfConfig(
        algorithm=algorithm, iterations=iterations, candidates=candidates, confirm=confirm,
        **{f"{role}_concurrency": limit for role, limit in LIMITS.items()},
    )  # fmt: skip
    models = {role: f"openai-compatible:{url}/v1#{role}" for role, url in urls.items()}
    memory = Memory()
    wall, cpu = time.perf_counter(), time.process_time()
    summary = run_surf(
        models["target"], rubric, attributes, out, config,
        generator=models["generator"], judge=models["judge"], progress=memory,
    )  # fmt: skip
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    seen = {role: stats(url) for role, url in urls.items()}
    bounds = {role: found["latency"] / LIMITS[role] for role, found in seen.items()}
    slowest = max(bounds, key=lambda role: bounds[role])
    calls = int(sum(found["calls"] for found in seen.values()))
    return {
        "algorithm": algorithm,
        "candidates": summary["counts"],
        "calls": calls,
        "most_in_flight": {role: int(found["most"]) for role, found in seen.items()},
        "wall_s": round(wall, 2),
        "slowest_role": slowest,
        "bound_s": round(bounds[slowest], 2),
        "ratio_to_bound": round(wall / bounds[slowest], 3),
        "utilisation": round(bounds[slowest] / wall, 3),
        "client_cpu_s": round(cpu, 2),
        "client_cpu_ms_per_call": round(cpu / calls * 1e3, 3),
        **{name: mb and round(mb, 1) for name, mb in memory.held.items()},
        "peak_mb": round(peak_mb(), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithm", nargs="*", default=["surf"])
    parser.add_argument("--latency", type=float, default=1.0, help="median seconds")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the 120 candidates")
    parser.add_argument("--calls", type=int, default=0, help="about so many calls, for memory")
    parser.add_argument("--confirm", action="store_true", help="confirm findings after the search")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        asyncio.run(serve(given.serve, given.seed))
        return
    results = []
    for algorithm in given.algorithm:
        with tempfile.TemporaryDirectory() as folder, servers(given.latency) as urls:
            iterations = max(given.calls // (3 * 5 * 120), 1) if given.calls else 5
            candidates = max(int(120 * given.scale), 1)
            run = Path(folder) / "run"
            found = measure(urls, run, algorithm, candidates, iterations, given.confirm)
        results.append(found)
        for name, value in found.items():
            print(f"{name:>24}  {value}")
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
