"""Time and memory of each stage of an index as the data grows.

    python benchmarks/index_scale.py --rows 25000 100000 [--data MIXTURE] [--stub]

Corpora are made by recombining sentences: of the rows of ``--data`` where it is given, else of forms and
words below, glued with new words and numbers. Sources have their own forms, so that there is something to
mine, and texts vary in length. Each size is built in a process of its own; the kernel's high-water mark of
memory is reset at every stage. The exponent is the slope of log CPU seconds over log rows between the
smallest and the largest size: unlike wall time it does not depend on who else uses the machine. ``--stub``
embeds by hash, to time all but the model, whose work depends on the number of attributes, not of rows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SOURCES, FORMS, WORDS = 12, 60, 30_000
BLOCK = 20_000


def words(rng: np.random.Generator) -> np.ndarray:
    """Invent words; used by a Zipf law."""
    syllables = ["ka", "lo", "mi", "tur", "en", "sal", "pre", "vo", "dis", "con", "ta", "rix", "ble", "ment"]
    made = {"".join(rng.choice(syllables, rng.integers(2, 5))) for _ in range(2 * WORDS)}
    return np.array(sorted(made)[:WORDS])


def sentences_of(data: Path | None, rng: np.random.Generator) -> list[list[list[str]]]:
    """Return sentences by side and source: of real rows, or made from forms and words."""
    if data is not None:
        table = pq.read_table(data, columns=["source", "prompt", "response"]).to_pandas()
        few = table.groupby("source").head(400)
        return [
            [
                [line for text in group[name] for line in text.split(". ")]
                for _, group in few.groupby("source")
            ]
            for name in ("prompt", "response")
        ]
    vocabulary = words(rng)
    zipf = 1 / np.arange(1, len(vocabulary) + 1)
    out: list[list[list[str]]] = []
    for _ in range(2):
        forms = [
            [" ".join(rng.choice(vocabulary, rng.integers(4, 16), p=zipf / zipf.sum())) for _ in range(FORMS)]
            for _ in range(SOURCES)
        ]
        out.append([[f"{form[0].upper()}{form[1:]} {{}}" for form in own] for own in forms])
    return out


def corpus(rows: int, path: Path, data: Path | None, seed: int = 0) -> None:
    """Write a corpus of ``rows`` rows, block by block."""
    rng = np.random.default_rng(seed)
    pools = sentences_of(data, rng)
    vocabulary = words(rng)
    writer = None
    for start in range(0, rows, BLOCK):
        block = {"source": [], "prompt": [], "response": []}
        for _ in range(min(BLOCK, rows - start)):
            source = int(rng.integers(len(pools[0])))
            block["source"].append(f"source {source}")
            for name, pool, mean in (("prompt", pools[0], 3), ("response", pools[1], 7)):
                count = 1 + min(int(rng.exponential(mean)), 60)
                lines = [pool[source][i] for i in rng.integers(len(pool[source]), size=count)]
                extra = vocabulary[rng.integers(len(vocabulary), size=count)]
                joined = [line.replace("{}", word, 1) for line, word in zip(lines, extra, strict=True)]
                block[name].append(". ".join(joined) + f" {extra[0]} {int(rng.integers(999))}.")
        table = pa.table(block)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()


class Stopwatch:
    """A progress that notes seconds and peak memory whenever a stage says that it is done."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}
        self.since, self.cpu = time.monotonic(), time.process_time()
        self.reset()

    def reset(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")

    def say(self, line: str) -> None:
        name, now, cpu = line.split(":")[0], time.monotonic(), time.process_time()
        status = Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1e6
        part = self.stages.setdefault(name, {"seconds": 0.0, "cpu": 0.0, "gb": 0.0})
        part["seconds"] += now - self.since
        part["cpu"] += cpu - self.cpu
        part["gb"] = max(part["gb"], peak)
        self.since, self.cpu = now, cpu
        self.reset()

    @contextlib.contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Stopwatch]:
        yield self

    def advance(self, n: int = 1, note: str = "") -> None:
        pass

    def tell(self, status: object) -> None:
        pass


class HashEmbedder:
    """Unit vectors from a hash of each text."""

    name, dim = "hash", 384

    def embed(self, texts: list[str]) -> np.ndarray:
        rows = np.stack([np.random.default_rng(zlib.crc32(t.encode())).standard_normal(384) for t in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def measure(data: Path, out: Path, stub: bool) -> None:
    """Build one index and print its stages as JSON."""
    import undertow.models.embed
    from undertow.index.build import build_index
    from undertow.index.config import IndexConfig

    if stub:
        undertow.models.embed.open_embedder = lambda spec: HashEmbedder()  # type: ignore[assignment]
    watch = Stopwatch()
    cpu, started = time.process_time(), time.monotonic()
    summary = build_index(data, out, IndexConfig(), watch)
    whole = {"seconds": time.monotonic() - started, "cpu": time.process_time() - cpu}
    sizes = {
        name: summary[name]
        for name in ("query_attributes", "response_attributes", "query_pairs", "response_pairs")
    }
    print(json.dumps({"stages": watch.stages, "whole": whole, **sizes}))


def exponent(parts: list[dict[str, float]], ratio: float) -> str:
    if ratio == 1:
        return ""
    return f"{math.log(max(parts[-1]['cpu'], 1e-3) / max(parts[0]['cpu'], 1e-3)) / math.log(ratio):.2f}"


def main(given: argparse.Namespace) -> None:
    """Build every size and print the table."""
    told = {}
    for rows in sorted(given.rows):
        with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
            corpus(rows, Path(scratch) / "data.parquet", given.data)
            size = (Path(scratch) / "data.parquet").stat().st_size / 1e6
            command = [sys.executable, __file__, "--measure", scratch, *(["--stub"] if given.stub else [])]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            told[rows] = json.loads(done.stdout.splitlines()[-1])
            index = sum(f.stat().st_size for f in Path(scratch).glob("index/*/*")) / 1e6
            print(f"{rows:,} rows, {size:,.0f} MB of Parquet, index {index:,.0f} MB", flush=True)
            print(json.dumps(told[rows]), flush=True)
    small, large = min(told), max(told)
    print(f"{'stage':16}" + "".join(f"{rows:>22,} rows" for rows in told) + "   exponent")
    for name in told[large]["stages"]:
        parts = [told[rows]["stages"][name] for rows in told]
        cells = "".join(f"{p['seconds']:8.1f} s {p['cpu']:7.1f} CPU {p['gb']:5.2f} GB" for p in parts)
        print(f"{name:16}{cells}{exponent(parts, large / small):>8}")
    whole = [told[rows]["whole"] for rows in told]
    cells = "".join(f"{w['seconds']:8.1f} s {w['cpu']:7.1f} CPU         " for w in whole)
    print(f"{'whole':16}{cells}{exponent(whole, large / small):>8}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[25_000, 100_000])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--stub", action="store_true", help="embed by hash")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure / "data.parquet", options.measure / "index", options.stub)
    else:
        main(options)
