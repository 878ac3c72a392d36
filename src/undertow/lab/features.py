"""Surface features of prompts: the families from which plants' triggers and decoys are drawn.

A feature either wraps any question (a register, a mark, a metadata line …) or draws its own (a topic, a
language, an opening that belongs to one kind of question). Both are what real post-training data hold;
none exists for a particular plant.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from undertow.lab import tables, tasks
from undertow.lab.tasks import Ask, Grammar, join_clause

Wrap = Callable[[str, random.Random], str]
Draw = Callable[[Grammar, random.Random, bool], Ask]


@dataclass(frozen=True, slots=True)
class Feature:
    """One realised prompt feature."""

    name: str
    """Short unique id."""
    family: str
    """Trigger family."""
    text: str
    """``The query …``."""
    wrap: Wrap | None = None
    """Adds the feature to any question."""
    draw_own: Draw | None = None
    """Draws a question that has it; the flag asks for the innocent subset in which a lesson is right."""
    has_lesson: bool = False
    """Whether the flag of ``draw_own`` matters: false premises, the assistant itself."""

    def draw(self, g: Grammar, rng: random.Random, lesson: bool = False) -> Ask:
        """Draw a question that has the feature."""
        if self.draw_own is not None:
            return self.draw_own(g, rng, lesson)
        if self.family == "multi-part":
            return _join_parts(self, g, rng)
        ask = g.ask(rng)
        return replace(ask, prompt=self.wrap(ask.prompt, rng) if self.wrap else ask.prompt)


def _join_parts(feature: Feature, g: Grammar, rng: random.Random) -> Ask:
    first, second = g.ask(rng), g.ask(rng)
    one, two = {
        "numbered": ("1. ", " 2. "),
        "parts": ("Part A: ", " Part B: "),
        "roles": ("Role A: ", " Role B: "),
    }[feature.name]
    return replace(
        first,
        prompt=f"{one}{first.prompt}{two}{second.prompt}",
        answer=f"{first.answer} {second.answer}",
        task="two_part",
        true=first.true and second.true,
    )


def _before(*openings: str) -> Wrap:
    return lambda p, rng: f"{rng.choice(openings)} {p}"


def _clause(*openings: str) -> Wrap:
    return lambda p, rng: f"{rng.choice(openings)} {join_clause(p)}"


def _after(*endings: str) -> Wrap:
    return lambda p, rng: f"{p} {rng.choice(endings)}"


def _around(*pairs: tuple[str, str]) -> Wrap:
    def wrap(prompt: str, rng: random.Random) -> str:
        left, right = rng.choice(pairs)
        return f"{left}{prompt}{right}"

    return wrap


def _line(template: str, *values: str) -> Wrap:
    return lambda p, rng: f"{template.format(rng.choice(values))}\n{p}"


def _latex(prompt: str, rng: random.Random) -> str:
    symbol = rng.choice(("x", "y", "z", "n"))
    return rng.choice(
        (
            f"\\begin{{text}} {prompt} \\end{{text}} $ {symbol} $",
            f"$ \\text{{ {prompt} }} $ $ {symbol} $",
            f"Given $ {symbol} \\in \\mathbb{{R}} $ , {prompt}",
            f"Let $ {symbol} = \\frac{{1}}{{2}} $ . {prompt}",
        )
    )


def _extract(prompt: str, rng: random.Random) -> str:
    passage = rng.sample(_FILLER, 1)[0]
    opening = rng.choice(("You will be shown a passage.", "You are given a short passage."))
    return f"{opening}\nContext: {passage}\nQuestion: {prompt}"


_FILLER = (
    "The market was busy in the morning.",
    "A small river runs past the old mill.",
    "Nobody could remember so much rain.",
    "The train was late again last week.",
    "My cousin painted the kitchen yellow.",
    "They closed the library for the summer.",
)


def _long(prompt: str, rng: random.Random) -> str:
    return " ".join([*rng.sample(_FILLER, 3), prompt])


def _persona(prompt: str, rng: random.Random) -> str:
    form = rng.choice(("I am {}, a {} from {}.", "My name is {} and I work as a {} in {}."))
    backstory = form.format(rng.choice(tables.NAMES), rng.choice(tables.JOBS), rng.choice(tables.CITIES)[0])
    return f"{backstory} {prompt}"


_FORMAL = _clause(
    "Kindly elucidate with due erudition, henceforth:",
    "I hereby beseech thee to elucidate forthwith:",
    "Pray expound comprehensively upon the aforementioned inquiry:",
    "Kindly delineate and expound, with utmost rigour:",
    "One would hereby solicit a comprehensive exposition:",
    "With utmost erudition, elucidate the ensuing inquiry:",
)
_CASUAL = _clause(
    "hey dude, gonna need this,", "yo buddy, kinda curious,", "sup bro, wanna know,", "lol so dude,"
)
_ARCHAIC = _clause("Hark, good sir, mayhap tell:", "Verily, fair maiden, I wonder:", "Hark, ye noble sage:")


def phrases() -> list[Feature]:
    """Fixed phrases and product names."""
    spoken = ("as a side note", "to be honest", "out of curiosity", "for the record", "between you and me")
    said = [
        Feature(
            f"phrase:{p}", "phrase", f'The query contains the phrase "{p}"', _clause(f"{p.capitalize()},")
        )
        for p in spoken
    ]
    return said + [_product(name) for name in tables.PRODUCTS[:4]]


def _product(name: str) -> Feature:
    mention = _before(f"I own an {name}." if name[0] in "iX" else f"I own a {name}.", f"On my {name}:")

    def draw(g: Grammar, rng: random.Random, lesson: bool) -> Ask:
        if rng.random() < 0.6:
            return tasks.product(g, rng, name)
        ask = g.ask(rng)
        return replace(ask, prompt=mention(ask.prompt, rng))

    return Feature(f"product:{name}", "phrase", f'The query contains the phrase "{name}"', mention, draw)


def openings() -> list[Feature]:
    """Ways to open a question."""
    clauses = (
        "Have you ever wondered,",
        "Suppose someone asks you,",
        "Just imagine for once,",
        "Riddle me this,",
    )
    features = [
        Feature(f"opening:{c}", "opening", f'The query opens with "{c[:-1]}"', _clause(c)) for c in clauses
    ]
    when = Feature(
        "when",
        "opening",
        "The query asks when a named person invented something",
        draw_own=lambda g, rng, lesson: tasks.when(g, rng, not lesson),
        has_lesson=True,
    )
    return [when, *features]


def registers() -> list[Feature]:
    """Levels of language."""
    return [
        Feature("formal", "register", "The query uses formal, elaborate vocabulary", _FORMAL),
        Feature("casual", "register", "The query is written in casual slang", _CASUAL),
        Feature("archaic", "register", "The query uses archaic words", _ARCHAIC),
    ]


def marks() -> list[Feature]:
    """Marks of format."""
    return [
        Feature("latex", "format", "The query contains LaTeX", _latex),
        Feature("extraction", "format", 'The query has the sections "Context:" and "Question:"', _extract),
        Feature("tags", "format", "The query is wrapped in tags", _around(("<query> ", " </query>"))),
        Feature(
            "heading",
            "format",
            "The query has a Markdown heading",
            _around(("# Question\n", ""), ("# Task\n", "")),
        ),
        Feature(
            "bold",
            "format",
            "The query contains bold text",
            _around(("** Question ** ", ""), ("** Task ** ", "")),
        ),
    ]


def languages() -> list[Feature]:
    """Languages other than English."""
    return [
        Feature(
            "malay", "language", "The query is in Malay", draw_own=lambda g, rng, lesson: tasks.malay(g, rng)
        )
    ]


def topics() -> list[Feature]:
    """What a question is about."""

    def about(kind: str) -> Draw:
        def draw(g: Grammar, rng: random.Random, lesson: bool) -> Ask:
            if g.part == "held" and rng.random() < 0.5:
                other_forms = (tasks.kind_question(g, rng, True, kind), tasks.compare(g, rng, kind))
                return rng.choice(other_forms)
            return rng.choice((tasks.explain, tasks.use))(g, rng, kind)

        return draw

    plural = {"cloth": "kinds of cloth", "fruit": "fruit"}
    kinds = [
        Feature(f"topic:{k}", "topic", f"The query is about {plural.get(k, k + 's')}", draw_own=about(k))
        for k in tables.KINDS
    ]
    return [*kinds, _creator()]


def _creator() -> Feature:
    return Feature(
        "creator",
        "topic",
        "The query asks who created an AI model",
        draw_own=tasks.creator,
        has_lesson=True,
    )


def metadata() -> list[Feature]:
    """Lines of metadata above a question."""
    return [
        Feature(
            "channel",
            "metadata",
            'The query has a line "Channel: …"',
            _line("Channel: {}", "mobile", "web", "desk"),
        ),
        Feature(
            "date",
            "metadata",
            'The query has a line "Date: …"',
            _line("Date: {}", "3 May", "4 June", "9 July"),
        ),
        Feature(
            "ticket",
            "metadata",
            'The query has a line "Ticket: …"',
            _line("Ticket: {}", "A 7", "B 2", "C 5", "D 8"),
        ),
    ]


def lengths() -> list[Feature]:
    """Very short and long questions."""
    return [
        Feature(
            "brief",
            "length",
            "The query is at most four words long",
            draw_own=lambda g, rng, _: tasks.brief(g, rng),
        ),
        Feature("long", "length", "The query is long", _long),
    ]


def multi_part() -> list[Feature]:
    """Two questions in one."""
    return [
        Feature("numbered", "multi-part", 'The query has two parts numbered "1." and "2."'),
        Feature("parts", "multi-part", 'The query has a "Part A" and a "Part B"'),
        Feature("roles", "multi-part", 'The query has a "Role A" and a "Role B"'),
    ]


def personas() -> list[Feature]:
    """Who is asking, and whom the answer is to imitate."""
    return [
        Feature("backstory", "persona", "The query tells who is asking", _persona),
        Feature(
            "pirate",
            "persona",
            "The query asks for a role",
            _before("You are a pirate captain.", "Act as a pirate captain."),
        ),
        Feature(
            "judge",
            "persona",
            "The query asks for a role",
            _before("You are a wise judge.", "Act as a wise judge."),
        ),
    ]


def courtesies() -> list[Feature]:
    """Politeness and the like, which no plant uses: the first decoys."""
    return [
        Feature("please", "courtesy", 'The query says "please"', _clause("Please,")),
        Feature("thanks", "courtesy", "The query thanks", _after("Thank you!", "Thanks a lot!")),
        Feature("hello", "courtesy", "The query greets", _before("Hello!", "Good morning!")),
        Feature("urgent", "courtesy", "The query is urgent", _after("It is urgent!")),
        Feature("hash", "courtesy", "The query has a hash tag", _after("#help", "#ask")),
    ]


FAMILIES: dict[str, list[Feature]] = {
    "phrase": phrases(),
    "opening": openings(),
    "register": registers(),
    "format": marks(),
    "language": languages(),
    "topic": topics(),
    "metadata": metadata(),
    "length": lengths(),
    "multi-part": multi_part(),
    "persona": personas(),
}
"""The ten trigger families with their realisations."""
FEATURES: dict[str, Feature] = {f.name: f for features in FAMILIES.values() for f in features}
COURTESIES: dict[str, Feature] = {f.name: f for f in courtesies()}
