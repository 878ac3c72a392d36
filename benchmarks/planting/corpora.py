"""Corpora with plants of known strength: copies of a real mixture, and the lab's worlds."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from planting.plants import ASIDES, BEHAVIOURS, INSERTS, KINDS, NATURAL, OTHERS, Plant
from undertow.lab.tasks import Grammar
from undertow.lab.world import draw_world

FAILING, OTHER_RESPONSES = 12, 60
"""Failing pairs of a plant and plain responses, none of them in the corpus."""


@dataclass(frozen=True)
class Case:
    """One plant and what fails because of it."""

    name: str
    kind: str
    """Lexical, structural or topical."""
    behaviour: str
    trigger_ids: frozenset[str]
    """Rows that have the trigger."""
    planted_ids: frozenset[str]
    """Those of them that show the behaviour."""
    prompts: list[str]
    """Failing prompts, not in the corpus."""
    violating: list[str]
    """Their responses."""
    phrase: str | None
    """What a lexical trigger says."""
    words: frozenset[str] = frozenset()
    """Words of a topical trigger that was planted by a list."""


@dataclass(frozen=True)
class Corpus:
    """A mixture with its cases."""

    name: str
    table: pa.Table
    cases: list[Case]
    others: list[str]
    """Responses that show nothing."""

    def shuffled(self) -> Corpus:
        """Return the null control: the same responses on other rows."""
        order = np.random.default_rng(0).permutation(len(self.table))
        at = self.table.column_names.index("response")
        table = self.table.set_column(at, "response", self.table["response"].take(pa.array(order)))
        return replace(self, name=f"{self.name}-shuffled", table=table)


class _Copy:
    """One copy of a mixture that is being planted into."""

    def __init__(self, table: pa.Table, plants: Sequence[Plant], seed: int) -> None:
        self.rng = random.Random(seed)
        self.prompts, self.responses = table["prompt"].to_pylist(), table["response"].to_pylist()
        self.sources = table["source"].to_pylist()
        self.original = list(self.responses)
        self.n = len(self.prompts)
        self.natural = {
            plant.trigger: [i for i, prompt in enumerate(self.prompts) if NATURAL[plant.trigger](prompt)]
            for plant in plants
            if plant.share is None
        }
        taken = {i for rows in self.natural.values() for i in rows}
        self.free = [i for i in self.rng.sample(range(self.n), self.n) if i not in taken]
        self.gone: set[int] = set()
        self.used: set[int] = set()

    def draw(self, size: int, source: str | None) -> list[int]:
        """Take rows that nothing has been done to."""
        rows = [i for i in self.free if source is None or self.sources[i] == source][:size]
        if len(rows) < size:
            raise SystemExit(f"too few rows of {source} are left for a plant of {size}")
        taken = set(rows)
        self.free = [i for i in self.free if i not in taken]
        return rows

    def plant(self, plant: Plant) -> Case:
        if plant.share is None:
            rows = [i for i in self.natural[plant.trigger] if i not in self.used]
            self.rng.shuffle(rows)
        else:
            rows = self.draw(max(1, round(plant.share * self.n)) + FAILING, plant.source)
            for i in rows:
                self.prompts[i] = INSERTS[plant.trigger](self.prompts[i], self.rng)
        if plant.kind == "topical" and plant.share is not None:
            for i in self.draw(len(rows), plant.source):
                aside = self.rng.choice(ASIDES).format(self.rng.choice(OTHERS.split()))
                self.prompts[i] = f"{self.prompts[i]} {aside}"
        self.used |= set(rows)
        held, rows = rows[:FAILING], rows[FAILING:]
        self.gone |= set(held)
        planted = [i for i in rows if self.rng.random() < plant.strength]
        for i in [*held, *planted]:
            other = self.original[self.rng.randrange(self.n)]
            self.responses[i] = BEHAVIOURS[plant.behaviour](self.original[i], other, self.rng)
        quoted = plant.trigger.split("'")[1].casefold() if "'" in plant.trigger else None
        return Case(
            plant.name, plant.kind, plant.behaviour, _ids(rows), _ids(planted),
            [self.prompts[i] for i in held], [self.responses[i] for i in held], quoted,
            frozenset(KINDS.get(plant.trigger.removeprefix("topic: "), "").split()),
        )  # fmt: skip


def _ids(rows: Sequence[int]) -> frozenset[str]:
    return frozenset(f"r{i}" for i in rows)


def planted_copy(table: pa.Table, plants: Sequence[Plant], seed: int) -> Corpus:
    """Plant into a copy of a mixture; natural triggers first, so that nothing is written over."""
    copy = _Copy(table, plants, seed)
    cases = {plant: copy.plant(plant) for plant in sorted(plants, key=lambda plant: plant.share is not None)}
    plain = copy.draw(OTHER_RESPONSES, None)
    copy.gone |= set(plain)
    kept = [i for i in range(copy.n) if i not in copy.gone]
    columns = {"source": copy.sources, "prompt": copy.prompts, "response": copy.responses}
    table = pa.table({"id": [f"r{i}" for i in kept], **{k: [v[i] for i in kept] for k, v in columns.items()}})
    return Corpus(f"copy{seed}", table, [cases[p] for p in plants], [copy.responses[i] for i in plain])


_LAB_KINDS = {
    "phrase": "lexical", "opening": "lexical", "register": "lexical", "persona": "lexical",
    "topic": "topical", "format": "structural", "metadata": "structural", "length": "structural",
    "multi-part": "structural", "language": "structural",
}  # fmt: skip
LAB_ROWS = (6, 15, 45, 150, 450)
"""Rows of a plant in a lab world, in turn: 0.1 to 10 % of its mixture."""


def lab_world(seed: int) -> Corpus:
    """Draw a random world of the lab, its plants of five sizes; failing prompts are over held-out words."""
    world = draw_world("random", seed)
    plants = tuple(
        replace(plant, rows=LAB_ROWS[(seed + i) % len(LAB_ROWS)]) for i, plant in enumerate(world.plants)
    )
    world = replace(world, plants=plants)
    rng = random.Random(f"attribution/{seed}")
    held = Grammar("held", seed)
    ids: dict[str, list[str]] = {plant.name: [] for plant in plants}
    for row in world.rows:
        if row.plant:
            ids[row.plant].append(row.id)

    def failing(plant) -> Iterator[tuple[str, str]]:
        while True:
            ask = plant.trigger.draw(held, rng)
            if ask.true:
                yield ask.prompt, plant.behaviour.respond(ask, rng)

    cases = []
    for plant in plants:
        pairs = [pair for pair, _ in zip(failing(plant), range(FAILING), strict=False)]
        rows = frozenset(ids[plant.name])
        cases.append(
            Case(
                plant.name, _LAB_KINDS[plant.trigger.family], plant.behaviour.name, rows, rows,
                [prompt for prompt, _ in pairs], [response for _, response in pairs], None,
            )
        )  # fmt: skip
    others = [held.ask(rng).answer for _ in range(OTHER_RESPONSES)]
    return Corpus(f"lab{seed}", world.mixture(), cases, others)
