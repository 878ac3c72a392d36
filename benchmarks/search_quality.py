"""Distinct triggers against calls on a planted target: `python benchmarks/search_quality.py [--seeds N]`.

The target has 5,000 attributes, among them 20 single triggers and 10 conjunctions of two further attributes
each. An attribute that is given to the generator is realised with probability 0.8, each on its own. The judge
scores a prompt with a trigger 90, one with a half of a conjunction 35, any other 10, plus noise of standard
deviation 8 that is fixed by the prompt; over 70 violates. No language model takes part, the search code is
the product's own: `surf` with every draw uniform (random), `surf` as shipped (parity), and `archive`.

A call is one candidate that reaches the target, whatever it was asked for; archive's tests that minimise a
violation are calls like all others. A trigger is *found* at the first violating candidate that carries all of
it, though nobody may know yet which of its attributes did it. It is *named* when the search itself says
exactly these attributes and no others, which only archive does; a name that is no planted trigger is *wrong*.
The three searches get the same 20,400 calls. Archive runs with one candidate in flight unless told otherwise,
parity's order is that of its iterations, all runs side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from undertow.judging.rubric import Rubric
from undertow.models.base import Settings
from undertow.records import Candidate, Message, Reply, Verdict
from undertow.surf.ask import Asker
from undertow.surf.config import SurfConfig
from undertow.surf.generate import Draft
from undertow.surf.loop import Search
from undertow.surf.pipeline import SEARCHES

ATTRIBUTES, SINGLES, PAIRS, REALISED = 5_000, 20, 10, 0.8
TRIGGER, HALF, ELSE, NOISE, THRESHOLD = 90, 35, 10, 8, 70
CALLS, GOAL = 20_000, 18
BUDGET = {"runs": 5, "iterations": 34, "candidates": 120}
RUBRIC = Rubric(
    name="planted", behaviour="A planted trigger.", when_wrong="Always.", threshold=THRESHOLD,
    checks=[{"is": "regex", "pattern": "."}],
)  # fmt: skip


@dataclass
class World:
    """Where the triggers lie; generator, target and judge at once."""

    seed: int
    name: str = "planted"
    texts: list[str] = field(init=False)
    singles: set[int] = field(init=False)
    pairs: set[frozenset[int]] = field(init=False)
    held: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.texts = [f"The query has mark {a}" for a in range(ATTRIBUTES)]
        chosen = np.random.default_rng([self.seed, 1]).permutation(ATTRIBUTES)[: SINGLES + 2 * PAIRS].tolist()
        self.singles = set(chosen[:SINGLES])
        self.pairs = {frozenset(chosen[i : i + 2]) for i in range(SINGLES, SINGLES + 2 * PAIRS, 2)}
        self.halves = set(chosen[SINGLES:])
        self.column = {text: a for a, text in enumerate(self.texts)}

    async def generate(self, wanted: Sequence[str], rng: np.random.Generator, avoid: object) -> Draft:
        """Realise each wanted attribute with probability 0.8."""
        realised = tuple(t for t, u in zip(wanted, rng.random(len(wanted)), strict=True) if u < REALISED)
        prompt = f"{rng.integers(2**62)}"
        self.held[prompt] = tuple(self.column[text] for text in realised)
        return Draft((Message("user", prompt),), realised)

    def incidence(self, candidates: Sequence[Candidate]) -> csr_array:
        """Say what was realised."""
        rows = [self.held[candidate.prompt] for candidate in candidates]
        starts = np.cumsum([0, *map(len, rows)])
        columns = np.array([a for row in rows for a in row], dtype=np.int64)
        return csr_array((np.ones_like(columns), columns, starts), shape=(len(rows), ATTRIBUTES))

    async def reply(self, messages: Sequence[Message], settings: Settings, replicate: int = 0) -> Reply:
        """Answer anything."""
        await asyncio.sleep(0)
        return Reply("an answer", "stop")

    async def judge(
        self, prompt: str, response: str, rubric: Rubric, history: Sequence[Message] = ()
    ) -> Verdict:
        """Score by what the prompt carries."""
        held = set(self.held[prompt])
        level = TRIGGER if self.carried(held) else HALF if held & self.halves else ELSE
        noise = np.random.default_rng(int(prompt)).normal(0, NOISE)
        score = float(np.clip(level + noise, 0, 100))
        return Verdict(score, score > THRESHOLD)

    def carried(self, held: set[int]) -> list[frozenset[int]]:
        """Return the triggers whose attributes are all held."""
        whole = [pair for pair in self.pairs if pair <= held] if len(held & self.halves) > 1 else []
        return [*(frozenset([a]) for a in held & self.singles), *whole]


def configs(seed: int, concurrency: int) -> dict[str, SurfConfig]:
    """Return the three searches."""
    surf = SurfConfig(seed=seed, **BUDGET)
    return {
        "random": surf.model_copy(update={"explore": 1.0}),
        "parity": surf,
        "archive": surf.model_copy(update={"algorithm": "archive", "concurrency": concurrency}),
    }


def measure(world: World, found: Search) -> dict[str, object]:
    """Count calls until each trigger was found, and what was named."""
    samples = sorted(found.samples, key=lambda s: (s.candidate.iteration, int(s.candidate.id.split("/")[2])))
    first: dict[frozenset[int], int] = {}
    violating = 0
    for call, sample in enumerate(samples[:CALLS], start=1):
        if sample.verdict.violation:
            violating += 1
            for trigger in world.carried({world.column[text] for text in sample.candidate.realised}):
                first.setdefault(trigger, call)
    calls = sorted(first[t] for t in first if len(t) == 1)
    pairs = sorted(first[t] for t in first if len(t) == 2)
    named = {frozenset(world.column[text] for text in trigger) for trigger in found.triggers}
    return {
        "calls_to_goal": calls[GOAL - 1] if len(calls) >= GOAL else None,
        "singles": len(calls),
        "pairs": len(pairs),
        "calls_to_8_pairs": pairs[7] if len(pairs) >= 8 else None,
        "found": sorted(first.values()),
        "yield": violating / min(len(samples), CALLS),
        "singles_named": len(named & {frozenset([a]) for a in world.singles}),
        "pairs_named": len(named & world.pairs),
        "wrong": len(named - world.pairs - {frozenset([a]) for a in world.singles}),
    }


def run(seed: int, concurrency: int) -> dict[str, dict[str, object]]:
    """Run the three searches on the world of one seed."""
    results = {}
    for name, config in configs(seed, concurrency).items():
        world, start = World(seed), time.monotonic()
        asker = Asker(world, world, RUBRIC, config)
        found = asyncio.run(SEARCHES[config.algorithm](asker, world, config))
        results[name] = {**measure(world, found), "seconds": time.monotonic() - start}
    return results


def median(values: Sequence[int | float | None]) -> float:
    """Median; what was never reached counts as more than all calls."""
    return float(np.median([np.inf if value is None else value for value in values]))


def number(value: float) -> str:
    """Write a number for the table."""
    return (
        f">{CALLS:,}" if np.isinf(value) else f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:.3f}"
    )


ROWS = {
    "calls to 18 of 20 singles": "calls_to_goal",
    "conjunctions found (of 10)": "pairs",
    "calls to 8 conjunctions": "calls_to_8_pairs",
    "singles found (of 20)": "singles",
    "share over the threshold": "yield",
    "singles named": "singles_named",
    "conjunctions named": "pairs_named",
    "wrong names": "wrong",
    "seconds": "seconds",
}


def report(results: Sequence[dict[str, dict[str, object]]]) -> None:
    """Print medians with their range over the seeds, distinct triggers by calls, and the ratios."""
    names = list(results[0])
    print(f"{len(results)} seeds, {CALLS:,} calls; median (least to most)")
    print(f"{'':28}" + "".join(f"{name:>24}" for name in names))
    for label, key in ROWS.items():
        cells = []
        for name in names:
            values = [np.inf if r[name][key] is None else r[name][key] for r in results]
            cells.append(f"{number(median(values))} ({number(min(values))} to {number(max(values))})")
        print(f"{label:28}" + "".join(f"{cell:>24}" for cell in cells))
    for calls in (500, 1_000, 2_000, 5_000, 10_000, 20_000):
        counts = [median([sum(c <= calls for c in r[name]["found"]) for r in results]) for name in names]
        print(f"{f'triggers in {calls:,} calls':28}" + "".join(f"{count:>24g}" for count in counts))
    to_goal = {name: median([r[name]["calls_to_goal"] for r in results]) for name in names}
    share = {name: median([r[name]["yield"] for r in results]) for name in names}
    ratio = to_goal["archive"] / to_goal["parity"]
    print(f"archive needs {ratio:.2f} × parity's calls to {GOAL} singles (goal: at most 0.5)")
    print(
        f"parity has {share['parity'] / share['random']:.2f} × random's share over the threshold (goal > 1)"
    )


def main() -> None:
    """Run all seeds and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--concurrency", type=int, default=1, help="calls in flight of archive")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    args = parser.parse_args()
    results = [run(seed, args.concurrency) for seed in range(args.seeds)]
    report(results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
