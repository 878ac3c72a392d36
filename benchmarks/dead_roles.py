"""How long ``undertow surf`` takes to say that its judge is gone for good.

The judge of a server in another process fails always: by 503, by dropped connections, by stalls of ten
minutes, by 429 with and without Retry-After; from its first call on, after the preflight, or after fifteen
verdicts. Told are exit code, status and seconds of the whole command, start-up included; what start-up alone
takes is the first line.

    python benchmarks/dead_roles.py [--at-once 3] [judge …]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "servers"))
import fault_server

HOW = ("503/{}", "reset/{}", "slow/{}", "429/{}", "429/{}/5", "429/{}/3600")
JUDGES = tuple(f"dead/{how.format(good)}" for good in (0, 1, 16) for how in HOW)
WORDS = ("when did", "what", "who", "where", "lamp", "bridge", "kite", "mill")


def command(folder: Path, url: str, judge: str) -> list[str]:
    """Write the search's inputs and return its command."""
    (folder / "bad.yaml").write_text("name: bad\nbehaviour: It says BAD.\nwhen_wrong: Always.\n")
    pool = [json.dumps({"text": f"The query contains '{word}'"}) for word in WORDS]
    (folder / "pool.jsonl").write_text("\n".join(pool))
    models = {"target": "biased", "generator": "writer", "judge": judge}
    options = {role: f"openai-compatible:{url}/v1#{model}" for role, model in models.items()}
    options |= {"rubric": f"{folder}/bad.yaml", "attributes": f"{folder}/pool.jsonl", "out": f"{folder}/run"}
    options |= {"runs": "2", "iterations": "4", "candidates": "40"}
    words = [word for option, value in options.items() for word in (f"--{option}", value)]
    return [sys.executable, "-m", "undertow", "surf", *words]


def measure(judge: str) -> str:
    """Run the command against one dead judge, on a server of its own."""
    with tempfile.TemporaryDirectory() as name, fault_server.running("--stall", "600") as url:
        folder = Path(name)
        began = time.monotonic()
        asked = command(folder, url, judge)
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=300)
        wall = time.monotonic() - began
        summary = folder / "run" / "summary.json"
        status = json.loads(summary.read_text())["status"] if summary.exists() else "–"
    last = done.stderr.strip().splitlines()[-1].replace(url, "URL")
    return f"{judge:18} exit {done.returncode}  {status:12} {wall:5.1f} s  {last}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judges", nargs="*", default=JUDGES)
    parser.add_argument("--at-once", type=int, default=1)
    given = parser.parse_args()
    print(f"start-up {measure('missing')}", flush=True)
    with ThreadPoolExecutor(given.at_once) as pool:
        for line in pool.map(measure, given.judges):
            print(line, flush=True)


if __name__ == "__main__":
    main()
