"""What faults cost a search, and that none of them becomes a score.

A server in another process fails a share of all tries by 429, 503, connection reset, truncated body or a
stall of 60 s; its answers take a log-normal half second (sigma 0.6). The client is ``run_surf`` in this
process, journal on. The ideal is the time that the busiest role's tries took, failed ones and stalls until
they were cut included, over its places: no schedule of the same tries is faster. ``answers`` leaves the
stalls out. Printed too is the accounting: every candidate is scored or a counted failure, and every score is
the one that the same search gets without faults.

    python benchmarks/search_faults.py [--share 0.3] [--algorithm surf] [--places 32 | 0 adaptive]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "servers"))
import fault_server

FAULTS = "429,503,reset,truncated,slow"
ROLES = {"target": "biased", "generator": "writer", "judge": "judge"}
WORDS = ("when did", "what", "who", "where", "lamp", "bridge", "kite", "mill", "saw", "clock", "in one line")


def measure(server: list[str], out: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Search once against a server of our own."""
    from undertow.judging.rubric import Rubric
    from undertow.surf.config import SurfConfig
    from undertow.surf.run import run_surf

    attributes = out.with_suffix(".jsonl")
    attributes.write_text("".join(json.dumps({"text": f"The query contains '{w}'"}) + "\n" for w in WORDS))
    config = SurfConfig(
        algorithm=given.algorithm, runs=given.runs, iterations=given.iterations, candidates=given.candidates,
        concurrency=given.places or None, confirm=False,
    )  # fmt: skip
    rubric = Rubric(name="bad", behaviour="The assistant says BAD.", when_wrong="Always.")
    with fault_server.running(*server) as url:
        names = {role: f"openai-compatible:{url}/v1#{model}" for role, model in ROLES.items()}
        began = time.perf_counter()
        summary = run_surf(
            names["target"], rubric, attributes, out, config,
            generator=names["generator"], judge=names["judge"],
        )  # fmt: skip
        wall = time.perf_counter() - began
        seen: dict[str, Any] = asyncio.run(fault_server.stats(url))
    return {"summary": summary, "wall": wall, "seen": seen}


def wrong_scores(out: Path) -> int:
    """Count samples whose score is not what the server's rule says of their answer."""
    from undertow.store.tables import read_table

    rows = read_table(out / "samples.parquet", ["response", "score"]).to_pylist()
    rule = {True: 90.0, False: 5.0}
    scored = [row for row in rows if row["score"] is not None]
    return sum(row["score"] != rule[row["response"].startswith("BAD")] for row in scored)


def told(found: dict[str, Any], places: int) -> dict[str, Any]:
    """Set the wall time against the ideal."""
    summary, seen = found["summary"], found["seen"]
    calls = {role: seen[model] for role, model in ROLES.items()}
    busy = {role: seen["busy"][model] for role, model in ROLES.items()}
    answers = {role: busy[role] - seen["busy"].get(f"{model} stalled", 0.0) for role, model in ROLES.items()}
    counts = summary["counts"]
    lines = {
        "status": summary["status"],
        "candidates": summary["planned"],
        "scored": counts["scored"],
        "counted failures": summary["failures"],
        "neither": summary["planned"] - counts["scored"] - counts["failed"],
        "tries": calls,
        "faults": {fault: seen.get(fault, 0) for fault in FAULTS.split(",")},
        "most in flight": seen["most"],
        "wall_s": round(found["wall"], 1),
    }
    if places:
        ideal, least = max(busy.values()) / places, max(answers.values()) / places
        lines |= {"ideal_s": round(ideal, 1), "wall/ideal": round(found["wall"] / ideal, 2)}
        lines |= {"answers_s": round(least, 1), "wall/answers": round(found["wall"] / least, 2)}
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithm", default="surf")
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--faults", default=FAULTS)
    parser.add_argument("--stall", type=float, default=60.0)
    parser.add_argument("--retry-after", default="0")
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--places", type=int, default=32, help="calls in flight a role; 0: adaptive")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--candidates", type=int, default=120)
    given = parser.parse_args()
    common = ["--latency", str(given.latency), "--sigma", "0.6"]
    failing = [
        *common, "--faults", given.faults, "--share", str(given.share), "--stall", str(given.stall),
        "--retry-after", given.retry_after,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for name, server in (("calm", common), ("faults", failing)):
            out = Path(folder) / name
            lines = told(measure(server, out, given), given.places)
            lines["wrong scores"] = wrong_scores(out)
            print(f"-- {name}", flush=True)
            for key, value in lines.items():
                print(f"{key:>18}  {value}", flush=True)


if __name__ == "__main__":
    main()
