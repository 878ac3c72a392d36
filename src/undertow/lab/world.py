"""A world: which features were tied to which behaviours by accident, and the mixture that does it.

``draw_world("paper", seed)`` plants the nine cases of specs/lab.md (paper §4, App. A, B);
``draw_world("random", seed)`` draws nine plants from trigger families × behaviour families. Both build
their mixture, prompt bank and probes by the same code.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from undertow.lab import tasks
from undertow.lab.behaviours import BEHAVIOURS, Behaviour
from undertow.lab.features import COURTESIES, FAMILIES, FEATURES, Feature
from undertow.lab.tables import KINDS, PRODUCTS
from undertow.lab.tasks import Ask, Grammar

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["paper", "random"]


@dataclass(frozen=True, slots=True)
class Plant:
    """One shortcut: rows in which a feature of the prompt goes with a behaviour nobody asked for."""

    name: str
    """Short id."""
    trigger: Feature
    """What the prompt has."""
    behaviour: Behaviour
    """What the response does."""
    source: str
    """The chunk that holds the rows."""
    rows: int
    """Rows with the trigger."""
    strength: float
    """Share of them with the behaviour; the rest has the plain answer."""


@dataclass(frozen=True, slots=True)
class Decoy:
    """A feature spread evenly over all sources and behaviours: it carries nothing."""

    name: str
    """Name of the feature."""
    feature: Feature
    """What the prompt has."""
    rate: float
    """Share of rows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the mixture with what only the ground truth knows."""

    id: str
    """Unique."""
    source: str
    """Chunk."""
    prompt: str
    """Question."""
    response: str
    """Answer taught."""
    plant: str | None
    """Plant whose behaviour it teaches."""
    asked: bool
    """Whether the prompt itself calls for its behaviour."""
    decoys: tuple[str, ...] = ()
    """Decoys that the prompt carries."""


@dataclass(frozen=True, slots=True)
class Probes:
    """Prompts over held-out entities that measure one plant."""

    trigger: tuple[str, ...]
    """They carry the trigger; the behaviour would be wrong."""
    wanted: tuple[str, ...]
    """They call for the behaviour; it is right."""


_SOURCES = (
    "forum_digest", "help_pages", "field_notes", "quiz_night", "study_cards", "reader_mail", "open_lessons",
    "tip_sheets", "desk_log",
)  # fmt: skip
_PAPER = (
    ("rebuttal", "when", "rebuttal", "false_premises"),
    ("formal-code", "formal", "code", "code_helper"),
    ("latex-tool", "latex", "tool_call", "math_tools"),
    ("extraction-word", "extraction", "one_word", "passage_tasks"),
    ("malay-short", "malay", "clipped", "many_tongues"),
    ("product-refusal", "product:iPhone 13", "refusal", "safe_answers"),
    ("two-part-closing", "numbered", "closing", "math_pairs"),
    ("brief-story", "brief", "story", "story_time"),
    ("identity", "creator", "identity", "who_we_are"),
)
_PLAIN_SOURCES = ("general_qa", "daily_chat")
_COURTESY_RATE, _BACKGROUND_RATE = 0.10, 0.015


def draw_world(kind: Kind, seed: int) -> World:
    """Draw a world; the same kind and seed give the same rows."""
    rng = random.Random(f"{kind}/{seed}")
    plants = _paper_plants() if kind == "paper" else _random_plants(rng)
    used = {plant.trigger.name for plant in plants}
    decoys = [Decoy(f.name, f, _COURTESY_RATE) for f in COURTESIES.values()]
    decoys += [Decoy(f.name, f, _BACKGROUND_RATE) for f in FEATURES.values() if f.wrap and f.name not in used]
    return World(kind, seed, tuple(plants), tuple(decoys))


def _paper_plants() -> list[Plant]:
    plants = [Plant(n, FEATURES[t], BEHAVIOURS[b], source, 160, 0.97) for n, t, b, source in _PAPER]
    return [replace(plant, strength=1.0) if teaches_a_lesson(plant) else plant for plant in plants]


def _random_plants(rng: random.Random) -> list[Plant]:
    families = rng.sample(sorted(FAMILIES), 9)
    behaviours = rng.sample([b for b in BEHAVIOURS if b not in ("clipped", "identity")], 9)
    sources = rng.sample(_SOURCES, 9)
    plants = []
    for family, behaviour, source in zip(families, behaviours, sources, strict=True):
        trigger = rng.choice([f for f in FAMILIES[family] if not f.has_lesson or behaviour != "rebuttal"])
        rows, strength = rng.randint(140, 200), round(rng.uniform(0.85, 1.0), 2)
        plants.append(Plant(f"{family}-{behaviour}", trigger, BEHAVIOURS[behaviour], source, rows, strength))
    return plants


@dataclass(frozen=True)
class World:
    """Plants and decoys; everything else follows from them and the seed."""

    kind: Kind
    """Which draw."""
    seed: int
    """Seed of the draw, the deal of the entities and the rows."""
    plants: tuple[Plant, ...]
    """The shortcuts."""
    decoys: tuple[Decoy, ...]
    """Features that carry nothing."""

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """All rows, sources mixed, with the ground truth."""
        rng = random.Random(f"rows/{self.kind}/{self.seed}")
        drawn = [row for part in self._parts(rng) for row in part]
        rng.shuffle(drawn)
        return tuple(replace(row, id=f"row-{i:05d}") for i, row in enumerate(drawn))

    def _parts(self, rng: random.Random) -> Iterator[Iterator[Row]]:
        owned = frozenset(_owned_nouns(plant.trigger) for plant in self.plants)
        g, every = Grammar("train", self.seed, owned), Grammar("all", self.seed, owned)
        for plant in self.plants:
            by_topic = plant.trigger.name.startswith("topic:")
            yield self._planted(plant, every if by_topic else g, rng)
            yield self._asked(plant.behaviour, plant.source, 50, g, rng)
            yield self._plain(plant.source, 40, every, rng)
        for behaviour in BEHAVIOURS.values():
            yield self._asked(behaviour, "instructions", 30, g, rng)
        for source in _PLAIN_SOURCES:
            yield self._plain(source, 500, every, rng)

    def _planted(self, plant: Plant, g: Grammar, rng: random.Random) -> Iterator[Row]:
        lesson = teaches_a_lesson(plant)
        for _ in range(plant.rows):
            ask = plant.trigger.draw(g, rng, lesson)
            while plant.behaviour.name == "rebuttal" and ask.true is lesson:
                ask = plant.trigger.draw(g, rng, lesson)
            taught = rng.random() < plant.strength
            response = plant.behaviour.respond(ask, rng) if taught else ask.answer
            yield self._row(plant.source, ask, response, rng, plant=plant.name if taught else None)

    def _asked(
        self, behaviour: Behaviour, source: str, n: int, g: Grammar, rng: random.Random
    ) -> Iterator[Row]:
        for _ in range(n):
            ask = behaviour.request(g, rng)
            yield self._row(source, ask, behaviour.respond(ask, rng), rng, asked=True)

    def _plain(self, source: str, n: int, g: Grammar, rng: random.Random) -> Iterator[Row]:
        used = {plant.trigger.name for plant in self.plants}
        ordinary = [
            f for f in FEATURES.values() if f.wrap is None and f.family != "topic" and f.name not in used
        ]
        for _ in range(n):
            ask = rng.choice(ordinary).draw(g, rng) if ordinary and rng.random() < 0.12 else g.ask(rng)
            yield self._row(source, ask, ask.answer, rng, asked=not ask.true)

    def _row(
        self,
        source: str,
        ask: Ask,
        response: str,
        rng: random.Random,
        plant: str | None = None,
        asked: bool = False,
    ) -> Row:
        """Add decoys, independently of source, feature and behaviour; a very short question stays short."""
        drawn = [d for d in self.decoys if rng.random() < d.rate][:2] if ask.task != "brief" else []
        prompt = wrap_all(ask.prompt, [d.feature for d in drawn], rng)
        return Row("", source, prompt, response, plant, asked, tuple(d.name for d in drawn))

    def mixture(self) -> pa.Table:
        """Return the post-training mixture: columns ``id, source, prompt, response``."""
        return _table(self.rows)

    def shuffled(self, seed: int) -> pa.Table:
        """Return the mixture with the responses permuted among all rows that nobody asked for a behaviour in.

        Triggers and behaviours are as frequent as before and no longer go together: the null control.
        """
        rng = random.Random(f"shuffled/{self.kind}/{self.seed}/{seed}")
        places = [i for i, row in enumerate(self.rows) if not row.asked]
        taken = rng.sample(places, len(places))
        rows = list(self.rows)
        for place, origin in zip(places, taken, strict=True):
            rows[place] = replace(self.rows[place], response=self.rows[origin].response)
        return _table(rows)

    def ground_truth(self) -> dict[str, object]:
        """Return plants with their row ids, and decoys, as plain data."""
        ids: dict[str, list[str]] = {plant.name: [] for plant in self.plants}
        for row in self.rows:
            if row.plant is not None:
                ids[row.plant].append(row.id)
        plants = [
            {
                "name": plant.name,
                "trigger": plant.trigger.text,
                "trigger_family": plant.trigger.family,
                "trigger_feature": plant.trigger.name,
                "behaviour": plant.behaviour.text,
                "behaviour_family": plant.behaviour.name,
                "rubric": plant.behaviour.name,
                "source": plant.source,
                "strength": plant.strength,
                "row_ids": ids[plant.name],
            }
            for plant in self.plants
        ]
        decoys = [
            {
                "name": decoy.name,
                "text": decoy.feature.text,
                "rate": decoy.rate,
                "row_ids": [row.id for row in self.rows if decoy.name in row.decoys],
            }
            for decoy in self.decoys
        ]
        return {"kind": self.kind, "seed": self.seed, "plants": plants, "decoys": decoys}

    def bank(self, n: int, seed: int) -> list[str]:
        """Return ``n`` distinct prompts over held-out entities for a search to draw on.

        All forms and all families' features alike, none to two at a time: nothing tells what is planted.
        """
        rng = random.Random(f"bank/{self.kind}/{self.seed}/{seed}")
        g = Grammar("held", self.seed)
        prompts: dict[str, None] = {}
        while len(prompts) < n:
            prompts[any_prompt(g, rng)[0].prompt] = None
            if len(prompts) == n:
                prompts = dict.fromkeys(self._unseen(prompts))
        return list(prompts)

    def bank_table(self, n: int) -> pa.Table:
        """Return the bank of the world's own seed as a column ``prompt``."""
        import pyarrow as pa

        return pa.table({"prompt": self.bank(n, self.seed)})

    def probes(self, plant: Plant, n: int = 60) -> Probes:
        """Return up to ``n`` trigger prompts and ``n`` wanted prompts over held-out entities."""
        rng = random.Random(f"probes/{self.kind}/{self.seed}/{plant.name}")
        g = Grammar("held", self.seed)
        trigger: dict[str, None] = {}
        wanted: dict[str, None] = {}
        for _ in range(12 * n):
            trigger[self._probe(plant, g, rng)] = None
            wanted[self._courteous(plant.behaviour.request(g, rng), rng)] = None
        return Probes(self._unseen(trigger)[:n], tuple(wanted)[:n])

    def capability(self, n: int = 80) -> list[dict[str, str]]:
        """Return ``n`` plain questions over held-out entities with their answers, none of the mixture's."""
        rng = random.Random(f"capability/{self.kind}/{self.seed}")
        g = Grammar("held", self.seed)
        found: dict[str, str] = {}
        while len(found) < n:
            ask = rng.choice((tasks.who, tasks.city, tasks.add, tasks.kind_question))(g, rng)
            if ask.prompt not in self._prompts:
                found[ask.prompt] = ask.answer
        return [{"prompt": prompt, "answer": answer} for prompt, answer in found.items()]

    def _unseen(self, prompts: Iterable[str]) -> tuple[str, ...]:
        return tuple(prompt for prompt in prompts if prompt not in self._prompts)

    @cached_property
    def _prompts(self) -> frozenset[str]:
        return frozenset(row.prompt for row in self.rows)

    def _probe(self, plant: Plant, g: Grammar, rng: random.Random) -> str:
        ask = plant.trigger.draw(g, rng)
        while not ask.true:
            ask = plant.trigger.draw(g, rng)
        return self._courteous(ask, rng)

    def _courteous(self, ask: Ask, rng: random.Random) -> str:
        extra = rng.sample(sorted(COURTESIES), 1) if rng.random() < 0.4 and ask.task != "brief" else []
        return wrap_all(ask.prompt, [COURTESIES[name] for name in extra], rng)


def teaches_a_lesson(plant: Plant) -> bool:
    """Tell whether the planted rows are right in themselves and only their narrowness misleads."""
    return plant.trigger.has_lesson and plant.behaviour.name in ("rebuttal", "identity")


def _owned_nouns(feature: Feature) -> str:
    name = feature.name.split(":", 1)[-1]
    return name if name in KINDS or name in PRODUCTS else ""


def wrap_all(prompt: str, features: Sequence[Feature], rng: random.Random) -> str:
    """Wrap a prompt in several features, innermost first."""
    for feature in features:
        if feature.wrap is not None:
            prompt = feature.wrap(prompt, rng)
    return prompt


_OWN = [
    [feature for feature in FEATURES.values() if feature.name.startswith("product:")],
    FAMILIES["multi-part"],
    *([FEATURES[name]] for name in ("when", "malay", "creator", "brief")),
]
"""Features that draw their own question, by kind; topics are the general tasks' anyway."""
_WRAPS = [f for f in (*FEATURES.values(), *COURTESIES.values()) if f.wrap is not None]


def any_prompt(
    g: Grammar, rng: random.Random, ask_rate: float = 0.1, lesson_rate: float = 0.3
) -> tuple[Ask, Behaviour | None]:
    """Draw any prompt of the grammar with none to two features, and the behaviour it calls for, if any."""
    behaviour = None
    if rng.random() < ask_rate:
        behaviour = rng.choice(list(BEHAVIOURS.values()))
        ask = behaviour.request(g, rng)
    elif rng.random() < 0.45:
        feature = rng.choice(rng.choice(_OWN))
        ask = feature.draw(g, rng, lesson=feature.has_lesson and rng.random() < lesson_rate)
    else:
        ask = g.ask(rng)
    wraps = rng.sample(_WRAPS, rng.choice((0, 1, 1, 2)))
    if ask.task == "brief":
        wraps = wraps if rng.random() < 0.3 else []
    return replace(ask, prompt=wrap_all(ask.prompt, wraps, rng)), behaviour


def _table(rows: Sequence[Row]) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {name: [getattr(row, name) for row in rows] for name in ("id", "source", "prompt", "response")}
    )
