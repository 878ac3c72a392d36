"""How many examples a second the local extractor reads: `python benchmarks/local_extraction.py DATA`.

Prints the rate of transform (both sides), of fit, of the two one after the other, and of the two in one
reading as an index does it, in wall time and for one core.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from undertow.attributes.local import LocalExtractor
from undertow.data import load_examples


def timed(work):
    """Result, wall seconds, CPU seconds."""
    wall, cpu = time.monotonic(), time.process_time()
    result = work()
    return result, time.monotonic() - wall, time.process_time() - cpu


def main(path: Path) -> None:
    """Fit, transform both sides, print."""
    table = load_examples(path).table
    extractor, *fit = timed(lambda: LocalExtractor.fit(table))
    held, *transform = timed(
        lambda: [
            extractor.transform(table[name], side)
            for side, name in (("query", "prompt"), ("response", "response"))
        ]
    )
    both = [a + b for a, b in zip(fit, transform, strict=True)]
    del extractor
    (extractor, at_once), *once = timed(lambda: LocalExtractor.fit_transform(table))
    same = all((a != b).nnz == 0 for a, b in zip(held, at_once.values(), strict=True))
    print(f"{len(table):,} rows; one reading gives {'the same' if same else 'OTHER'} attributes")
    measured = {"fit": fit, "transform": transform, "fit, transform": both, "in one reading": once}
    for name, (wall, cpu) in measured.items():
        rate, core = len(table) / wall, len(table) / cpu
        seconds = f"{wall:7.1f} s wall {rate:9,.0f} examples/s"
        print(f"{name:16} {seconds}   {cpu:7.1f} s CPU {core:9,.0f} examples/s a core")
    for side, matrix in zip(("query", "response"), held, strict=True):
        print(f"{side:16} {matrix.shape[1]:,} attributes, {matrix.nnz / len(table):.1f} a row")
    print(f"peak memory      {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:,.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
