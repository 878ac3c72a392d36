"""The viewer at size: `python benchmarks/viewer.py [--samples N] [--findings N] [--folder DIR]`.

Writes a folder of runs with invented numbers (a search, its trace, index, fix and verification, and a second
search), serves it in a process of its own and asks for every page over HTTP: first answer, median and worst
of the next ones, and the memory of the process. The bound is 200 ms a page and 1 GB.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import scipy.sparse as sp

from undertow.index.incidence import Incidence
from undertow.stats.intervals import rate
from undertow.store.run import RunDir, file_hash
from undertow.store.tables import atomic_write_json, read_json, write_table
from undertow.studies.verify import search_hash
from undertow.surf.rows import sample_schema

BOUND_MS, BOUND_MB, REPEATS = 200, 1000, 7
WORDS = [f"word{i}" for i in range(2000)]
CLAUSES = [" ".join(words) for words in np.random.default_rng(0).choice(WORDS, (5000, 10))]
Say = Callable[[int], str]


def plant(folder: Path, samples: int, findings: int, rows: int, say: Say = lambda i: "") -> None:
    """Write the runs; ``say(i)`` is put into every text that is not ours."""
    _search(folder / "search", samples, findings, 0.7, say)
    _search(folder / "later", samples // 10, findings, 0.4, say)
    _index(folder / "index", rows, say)
    _trace(folder / "trace", folder, findings, rows, say)
    _fix(folder / "fixed", folder, rows, say)
    _verify(folder / "verified", folder, findings, say)


def _prose(i: int, length: int) -> str:
    """Some words, other ones for each ``i``."""
    return " ".join(CLAUSES[(i * 7919 + j * 104729 + i // 5000) % len(CLAUSES)] for j in range(length // 10))


def _search(out: Path, samples: int, findings: int, share: float, say: Say) -> None:
    rubric = {"name": f"code{say(1)}", "threshold": 70.0, "behaviour": f"The response is code {say(2)}"}
    config = {
        "target": f"openai:model{say(3)}",
        "rubric": rubric,
        "seed": 0,
        "samples": samples,
        "share": share,
    }
    run = RunDir.open(out, "surf", config)
    found = [_finding(i, share, say) for i in range(findings)]
    atomic_write_json(run.file("findings.json"), found)
    write_table(_samples(samples, findings, say), run.file("samples.parquet"), 4096)
    write_table(_samples(findings, findings, say), run.file("confirm_samples.parquet"))
    prompts = {"finding": [f["id"] for f in found], "prompt": ["asked"] * findings}
    write_table(pa.table(prompts), run.file("confirm_prompts.parquet"))
    brief = [{k: v for k, v in f.items() if k != "exemplars"} for f in found]
    counts = {"tried": samples, "scored": samples - samples // 50, "failed": samples // 50}
    told = {"rubric": rubric["name"], "target": config["target"], "base_rate": rate(3, 120)}
    run.finish("complete", {"findings": brief, **told, "counts": counts, "failures": {f"timeout{say(4)}": 1}})


def _finding(i: int, share: float, say: Say) -> dict[str, Any]:
    hits = round(80 * share) - i % 20
    shown = {
        "prompt": say(i) + _prose(i, 90),
        "response": say(i + 1) + _prose(i + 1, 120),
        "rate": rate(30, 40),
    }
    return {
        "id": f"code-{i}{say(i)}", "rubric": f"code{say(1)}", "behaviour": f"The response is code {say(i)}",
        "attributes": [f"The query has feature {i} {say(i + 2)}"],
        "status": "confirmed" if i % 3 else "rejected",
        "reason": f"lower bound {say(i + 3)}", "rate": rate(hits, 80), "control_rate": rate(1, 80),
        "base_rate": rate(3, 120), "failed": 1, "exemplars": [shown] * 5,
    }  # fmt: skip


def _samples(n: int, findings: int, say: Say) -> pa.Table:
    failed = [i % 50 == 49 for i in range(n)]
    empty = {field.name: pa.nulls(n, field.type) for field in sample_schema()}
    known = {
        "id": [f"0/{i}/0" for i in range(n)], "phase": ["search"] * n,
        "finding": [f"code-{i % findings}{say(i % findings)}" if i % 4 == 0 else "" for i in range(n)],
        "run": [0] * n, "iteration": [i % 9 for i in range(n)], "replicate": [0] * n,
        "prompt": [say(i) + _prose(i, 60) for i in range(n)],
        "response": [None if f else say(i + 1) + _prose(i + 3, 80) for i, f in enumerate(failed)],
        "score": [None if f else float(i % 101) for i, f in enumerate(failed)],
        "violation": [None if f else i % 101 > 70 for i, f in enumerate(failed)],
        "reason": [say(i + 2) + _prose(i, 20) for i in range(n)],
        "failure": [f"timeout{say(i)}" if f else None for i, f in enumerate(failed)],
    }  # fmt: skip
    return pa.table({**empty, **known}, schema=sample_schema())


def _index(out: Path, rows: int, say: Say) -> None:
    run = RunDir.open(out, "index", {"rows": rows}, {"data": "d" * 32})
    table = {
        "id": [f"row-{i}{say(i)}" for i in range(rows)],
        "source": [f"chunk {i % 9}{say(i)}" for i in range(rows)],
        "prompt": [say(i) + _prose(i, 60) for i in range(rows)],
        "response": [say(i + 1) + _prose(i + 5, 80) for i in range(rows)],
    }  # fmt: skip
    write_table(pa.table(table), run.file("examples.parquet"), 4096)
    many = 400
    for side in ("query", "response"):
        texts = [f"The {side} has feature {i} {say(i)}" for i in range(many)]
        attributes = {"id": range(many), "text": texts, "kind": ["word"] * many, "count": [rows // 20] * many}
        write_table(pa.table({k: pa.array(list(v)) for k, v in attributes.items()}),
                    run.file(f"{side}_attributes.parquet"))  # fmt: skip
        held = np.arange(rows * 20)
        pairs = (np.ones(rows * 20, bool), (held // 20, (held * 13 + held // 20) % many))
        Incidence.from_matrix(sp.csr_array(pairs, shape=(rows, many))).save(run.file(f"{side}_incidence"))
    atomic_write_json(run.file("index.json"), {"key": "k" * 32, "examples": rows})
    run.finish("complete", {})


def _trace(out: Path, folder: Path, findings: int, rows: int, say: Say) -> None:
    inputs = {"index": "k" * 32, "run": file_hash(folder / "search" / "findings.json")}
    run = RunDir.open(out, "trace", {"k": 1000}, inputs)
    ids = [[f"row-{j}{say(j)}" for j in range(i % rows, rows, max(1, rows // 200))] for i in range(findings)]
    traced = [_attribution(i, ids[i], say) for i in range(findings)]
    atomic_write_json(run.file("attribution.json"), traced)
    flat = [(traced[i]["finding"], row, rank) for i in range(findings) for rank, row in enumerate(ids[i], 1)]
    write_table(pa.table({
        "finding": [f for f, _, _ in flat], "id": [r for _, r, _ in flat],
        "source": [f"chunk{say(0)}"] * len(flat),
        "rank": pa.array([n for _, _, n in flat], pa.int32()), "has_trigger": [True] * len(flat),
        "has_crux": [True] * len(flat),
    }), run.file("rows.parquet"))  # fmt: skip
    run.finish("complete", {"attributions": []})


def _attribution(i: int, ids: list[str], say: Say) -> dict[str, Any]:
    def trigger(j: int) -> dict[str, Any]:
        x, m = len(ids), len(ids) + 5 + j
        return {
            "text": f"The query has feature {i + j} {say(i + j)}", "label": f"The query {say(j)}",
            "cluster": j,
            "paper_hits": x, "k": 1000, "examples": x, "corpus": m, "rate": x / m,
            "rate_interval": rate(x, m).interval, "base_rate": 0.05, "lift": 20 * x / m, "p": 1e-9, "q": 1e-8,
            "within_source_or": 12.0, "sources": {f"chunk {i % 9}{say(i)}": x}, "example_ids": ids,
        }  # fmt: skip

    return {
        "finding": f"code-{i}{say(i)}", "crux": [{"text": f"The response is code {say(i)}", "margin": 12.5}],
        "triggers": [trigger(j) for j in range(5)],
        "explanation": f"When the model sees {say(i)} it answers so.",
        "sensitivity": {"k": {"100": {"paper_trigger": f"feature {say(i)}"}}},
    }  # fmt: skip


def _fix(out: Path, folder: Path, rows: int, say: Say) -> None:
    run = RunDir.open(out, "fix", {"how": "filter", "why": say(0)}, {"data": "d" * 32, "rows": "r" * 32})
    removed = [f"row-{j}{say(j)}" for j in range(0, rows, 10)]
    told = {"how": "filter", "rows": {"before": rows, "after": rows - len(removed), "removed": len(removed)}}
    atomic_write_json(run.file("diff.json"), {**told, "row_ids": removed})
    run.finish("complete", {**told, "touched": {f"chunk{say(1)}": len(removed)}})


def _verify(out: Path, folder: Path, findings: int, say: Say) -> None:
    search = folder / "search"
    asked = search_hash(search, read_json(search / "manifest.json")["config"])
    run = RunDir.open(out, "verify", {"before": f"a{say(0)}", "after": f"b{say(1)}"}, {"search": asked})
    compared = [
        {"finding": f"code-{i}{say(i)}", "attributes": [f"The query has feature {i} {say(i + 2)}"],
         "verdict": "fixed", "before": rate(60, 80), "after": rate(2, 80), "difference": -0.725,
         "difference_interval": [-0.8, -0.6], "pairs": 80}
        for i in range(findings)
    ]  # fmt: skip
    run.finish("complete", {"findings": compared})


PAGES = {
    "runs": "/",
    "runs, filtered": "/?verb=surf&status=complete",
    "run of a search": "/run?run=search",
    "its last findings": "/run?run=search&page=10",
    "run of a trace": "/run?run=trace",
    "findings, filtered": "/findings?verdict=confirmed&rubric=code&words=feature",
    "finding": "/finding?run=search&n=7",
    "last finding": "/finding?run=search&id=code-11",
    "all its rows": "/rows?run=trace&id=code-11",
    "training row": "/row?index=index&id=row-11",
    "samples": "/samples?run=search",
    "samples, a word": "/samples?run=search&words=word12+word77",
    "samples, none fits": "/samples?run=search&words=zebra",
    "samples of all runs": "/samples?words=nobody&outcome=violation",
    "samples, far down": "/samples?run=search&page=1900",
    "samples of a finding": "/samples?run=search&finding=code-12",
    "sample": "/sample?run=search&file=samples.parquet&n=77",
    "two runs compared": "/compare?first=search&second=later",
}
"""What is asked for."""


@dataclass(frozen=True)
class Times:
    """Milliseconds of one page."""

    first: float
    median: float
    worst: float
    busy: float
    """Processor time of the server for an answer, which other work on the machine does not lengthen."""


def _asked(port: int, path: str) -> tuple[float, int]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    started = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    size = len(answer.read())
    taken = 1000 * (time.perf_counter() - started)
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status}")
    return taken, size


def measure(folder: Path) -> tuple[dict[str, Times], float]:
    """Times of each page, and the most memory that the process held, in MB."""
    command = [sys.executable, "-m", "undertow", "view", str(folder), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().split("/")[2].partition(":")[2])
        process = psutil.Process(server.pid)
        _wait_until_quiet(process)
        times = {name: _timed(process, port, path) for name, path in PAGES.items()}
        peak = Path(f"/proc/{server.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        return times, int(peak) / 1000
    finally:
        server.terminate()
        server.wait(10)


def _wait_until_quiet(process: psutil.Process) -> None:
    """Wait while it reads ahead, as a person does who opens a browser."""
    last = -1.0
    while (now := sum(process.cpu_times()[:2])) > last + 0.02:
        last = now
        time.sleep(2.0)


def _timed(process: psutil.Process, port: int, path: str) -> Times:
    first = _asked(port, path)[0]
    before = sum(process.cpu_times()[:2])
    others = [_asked(port, path)[0] for _ in range(REPEATS)]
    busy = 1000 * (sum(process.cpu_times()[:2]) - before) / REPEATS
    return Times(first, statistics.median(others), max(others), busy)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--findings", type=int, default=500)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch) / "runs"
        if not folder.exists():
            plant(folder, given.samples, given.findings, given.rows)
        times, memory = measure(folder)
    print(f"{given.samples:,} samples, {given.findings} findings, {given.rows:,} training rows")
    print("page                    first  median   worst   processor   ms")
    for name, t in times.items():
        over = "" if max(t.first, t.worst) <= BOUND_MS else f"  over {BOUND_MS}"
        print(f"{name:22}{t.first:7.0f}{t.median:8.0f}{t.worst:8.0f}{t.busy:12.0f}{over}")
    print(f"memory {memory:.0f} MB ({memory / BOUND_MB:.2f} of what is allowed)")


if __name__ == "__main__":
    main()
