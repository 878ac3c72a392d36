"""How long `undertow train dpo` takes from its start to its end, imports and saving included.

    python benchmarks/dpo_time.py [--rounds 3] [--layers 4] [--width 160] [--pairs 1500] [--epochs 3]

A GPT-2 of about 1.4 M parameters on the lab's poisoned pairs, with the threads that torch takes by itself, or
as many as ``OMP_NUM_THREADS`` says. Prints wall and processor seconds of every round.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from undertow.lab.preference_stage import poisoned_pairs
from undertow.lab.start import write_untrained
from undertow.store.tables import write_table


def timed(command: list[str]) -> tuple[float, float]:
    """Run a command; seconds by the wall and by the processors."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Make pairs and model, time the rounds, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--pairs", type=int, default=1500)
    parser.add_argument("--epochs", type=float, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        table = poisoned_pairs("goblin", 0.05, 0, args.pairs)
        write_table(table, folder / "pairs.parquet")
        texts = [text for name in ("prompt", "chosen", "rejected") for text in table[name].to_pylist()]
        shape = {"n_layer": args.layers, "n_embd": args.width, "n_head": 4, "n_positions": 128}
        write_untrained(texts, folder / "start", shape)
        rounds = []
        for number in range(args.rounds):
            out = folder / f"out-{number}"
            rounds.append(timed([
                sys.executable, "-m", "undertow", "train", "dpo", "--data", str(folder / "pairs.parquet"),
                "--model", str(folder / "start"), "--out", str(out), "--lr", "3e-4", "--beta", "0.3",
                "--epochs", str(args.epochs), "--max-length", "128",
            ]))  # fmt: skip
        bytes_ = (out / "model.safetensors").stat().st_size
    print(json.dumps({
        "parameters": bytes_ // 4,
        "threads": os.environ.get("OMP_NUM_THREADS", "torch's own"),
        "wall_s": [round(wall, 1) for wall, _ in rounds],
        "processor_s": [round(used, 1) for _, used in rounds],
        "median_wall_s": round(statistics.median(wall for wall, _ in rounds), 1),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
