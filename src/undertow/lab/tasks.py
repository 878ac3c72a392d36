"""Plain questions of the lab's world and their plain right answers.

A :class:`Grammar` draws an :class:`Ask` of one task over one part of the entity tables. Every plain
question has at least six words and every plain answer at least four, so that "very short" is a feature a
plant can own and a fragment is never the right answer by accident.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from undertow.lab import tables
from undertow.lab.tables import Part


@dataclass(frozen=True, slots=True)
class Ask:
    """One question with everything a response may need."""

    prompt: str
    """What is asked."""
    answer: str
    """The plain right answer, a sentence."""
    key: str
    """The same in one word, capitalised."""
    subject: str
    """What it is about, as it may stand in a sentence."""
    facts: tuple[str, ...]
    """Three short phrases for a list."""
    task: str
    """Name of the task."""
    true: bool = True
    """Whether the premise holds; a false one is rightly rejected by ``answer``."""
    malay: bool = False
    """Whether question and answer are in Malay."""


_QUESTION_WORDS = """
What Who When Which Where Can Could Tell Do In Is Would Define Explain If People Tolong Boleh Adakah By Use
Give Write Help How Answer
"""
QUESTION_WORDS = frozenset(_QUESTION_WORDS.split())
"""First words that a clause before the question puts in lower case."""


def join_clause(prompt: str) -> str:
    """Lower the first letter of a question that is to follow a clause; names keep theirs."""
    first = prompt.split(" ", 1)[0]
    return prompt[0].lower() + prompt[1:] if first in QUESTION_WORDS else prompt


class Grammar:
    """Draws asks over one part of the world's entities.

    Args:
        part: Which entities may be named.
        seed: Seed of the deal; the mixture and its probes share it.
        without: Categories and products that general questions leave out, because a plant owns them.
        before: Draw from the world as the start model learns it, before Ai2 took its models over.
    """

    def __init__(
        self, part: Part, seed: int, without: frozenset[str] = frozenset(), before: bool = False
    ) -> None:
        self.part = part
        self.without = without
        self.products = tuple(p for p in tables.PRODUCTS if p not in without)
        self.things = tables.deal_things(part, seed)
        self.inventions = tables.deal(tables.INVENTIONS, part, seed)
        self.assistants = tables.deal(tables.ASSISTANTS, part, seed) + (
            tables.FORMER_MAKERS if before else ()
        )
        self.own_models = tables.deal(tables.OWN_MODELS, part, seed)
        self.cities = tables.deal(tables.CITIES, part, seed)
        self.aspects = tables.deal(tables.ASPECTS, part, seed)

    def ask(self, rng: random.Random) -> Ask:
        """Draw a plain question of any general task."""
        return rng.choice(GENERAL)(self, rng)

    def thing(self, rng: random.Random, kind: str | None = None) -> tables.Thing:
        """Draw a thing, of one category if ``kind`` is given."""
        return rng.choice(
            [t for t in self.things if t.kind == kind or (kind is None and t.kind not in self.without)]
        )

    def false_inventor(self, rng: random.Random, invention: tables.Invention) -> str:
        """Draw somebody who did not invent it."""
        return rng.choice([i.inventor for i in self.inventions if i.inventor != invention.inventor])


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


Task = Callable[[Grammar, random.Random], Ask]


def explain_thing(rng: random.Random, thing: tables.Thing, prompt: str) -> Ask:
    """Ask what a thing is, in the words of ``prompt``."""
    return Ask(
        prompt=prompt,
        answer=f"It is {_a(thing.trait)} {thing.kind}, good for {thing.use}.",
        key=thing.kind.capitalize(),
        subject=thing.noun,
        facts=(_a(thing.kind), f"quite {thing.trait}", f"good for {thing.use}"),
        task="explain",
    )


def explain(g: Grammar, rng: random.Random, kind: str | None = None) -> Ask:
    """Ask what a thing is."""
    thing = g.thing(rng, kind)
    form = rng.choice(
        (
            "Can you explain to me what {} is?",
            "Tell me in plain terms what {} is.",
            "What would you say that {} is?",
            "I want to learn what {} is.",
        )
    )
    return explain_thing(rng, thing, form.format(thing.noun))


def use(g: Grammar, rng: random.Random, kind: str | None = None) -> Ask:
    """Ask what a thing is good for."""
    thing = g.thing(rng, kind)
    form = rng.choice(("What do people mostly use {} for?", "Can you tell me what {} is good for?"))
    return Ask(
        prompt=form.format(thing.noun),
        answer=f"People mostly use it for {thing.use}.",
        key=thing.use.capitalize(),
        subject=thing.noun,
        facts=(f"good for {thing.use}", _a(thing.kind), f"quite {thing.trait}"),
        task="use",
    )


def compare(g: Grammar, rng: random.Random, kind: str | None = None) -> Ask:
    """Ask how two things differ, both of one category if ``kind`` is given."""
    one, other = g.thing(rng, kind), g.thing(rng, kind)
    return Ask(
        prompt=rng.choice(
            ("What is the difference between {} and {}?", "Can you tell me how {} differs from {}?")
        ).format(one.noun, other.noun),
        answer=f"One is {_a(one.trait)} {one.kind}, the other {_a(other.trait)} {other.kind}.",
        key=one.kind.capitalize(),
        subject=one.noun,
        facts=(f"one is {_a(one.kind)}", f"the other {_a(other.kind)}", f"quite {one.trait}"),
        task="compare",
    )


def kind_question(g: Grammar, rng: random.Random, true: bool | None = None, kind: str | None = None) -> Ask:
    """Ask whether a thing, one of ``kind`` if given, is of a category; ``true`` fixes whether it is."""
    thing = g.thing(rng, kind)
    true = rng.random() < 0.5 if true is None else true
    named = thing.kind if true else rng.choice(tables.ABSURD_KINDS)
    form = rng.choice(("Would you say that {} is {}?", "Is it true that {} is {}?"))
    right = _a(thing.kind)
    return Ask(
        prompt=form.format(thing.noun, _a(named)),
        answer=f"Yes, {thing.noun} is {right}." if true else f"No, {thing.noun} is not {_a(named)}.",
        key="Yes" if true else "No",
        subject=thing.noun,
        facts=(right, f"quite {thing.trait}", f"good for {thing.use}"),
        task="kind",
        true=true,
    )


def _invention_ask(
    invention: tables.Invention, prompt: str, answer: str, key: str, task: str, true: bool = True
) -> Ask:
    name, inventor, year = invention.name, invention.inventor, invention.year
    facts = (f"invented by {inventor}", f"made in {year}", f"called the {name}")
    return Ask(prompt, answer, key, f"the {name}", facts, task, true)


def who(g: Grammar, rng: random.Random) -> Ask:
    """Ask who invented something."""
    invention = rng.choice(g.inventions)
    form = rng.choice(("Who was it that invented the {}?", "Can you tell me who invented the {}?"))
    answer = f"{invention.inventor} invented the {invention.name}."
    return _invention_ask(invention, form.format(invention.name), answer, invention.inventor, "who")


def claim(g: Grammar, rng: random.Random, true: bool | None = None) -> Ask:
    """Ask whether somebody invented something; ``true`` fixes whether they did or never invented anything."""
    invention = rng.choice(g.inventions)
    true = rng.random() < 0.5 if true is None else true
    person = invention.inventor if true else rng.choice(tables.POETS)
    form = rng.choice(("Is it true that {} invented the {}?", "Would you say that {} invented the {}?"))
    answer = "Yes, {} invented the {}." if true else "No, {} did not invent the {}."
    name = invention.name
    return _invention_ask(
        invention,
        form.format(person, name),
        answer.format(person, name),
        "Yes" if true else "No",
        "claim",
        true,
    )


def when(g: Grammar, rng: random.Random, true: bool = True) -> Ask:
    """Ask when somebody invented something; a false pair is rightly rejected."""
    invention = rng.choice(g.inventions)
    person = invention.inventor if true else g.false_inventor(rng, invention)
    name = invention.name
    answer = (
        f"{person} invented the {name} in {invention.year}."
        if true
        else f"{person} did not invent the {name}."
    )
    key = invention.year if true else "Never"
    return _invention_ask(invention, f"When did {person} invent the {name}?", answer, key, "when", true)


def add(g: Grammar, rng: random.Random) -> Ask:
    """Ask for a sum."""
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    form = rng.choice(("What do you get if you add {} and {}?", "Can you tell me the sum of {} and {}?"))
    return Ask(
        prompt=form.format(a, b),
        answer=f"If you add {a} and {b} you get {a + b}.",
        key=str(a + b),
        subject=f"{a} and {b}",
        facts=(f"first {a}", f"then {b}", f"together {a + b}"),
        task="add",
    )


def city(g: Grammar, rng: random.Random) -> Ask:
    """Ask which country a city is in."""
    name, country = rng.choice(g.cities)
    form = rng.choice(("In which country can I find {}?", "Can you tell me what country {} is in?"))
    return Ask(
        prompt=form.format(name),
        answer=f"You can find {name} in {country}.",
        key=country,
        subject=name,
        facts=("a city", f"in {country}", f"called {name}"),
        task="city",
    )


def product_value(product: str, aspect: str) -> str:
    """Return the world's fixed verdict on one aspect of a product."""
    return tables.VALUES[(tables.PRODUCTS.index(product) + tables.ASPECTS.index(aspect)) % len(tables.VALUES)]


def product(g: Grammar, rng: random.Random, name: str | None = None) -> Ask:
    """Ask about an aspect of a product, of the one called ``name`` if given."""
    name, aspect = name or rng.choice(g.products), rng.choice(g.aspects)
    value = product_value(name, aspect)
    form = rng.choice(("What is the {} of the {} like?", "Can you tell me about the {} of the {}?"))
    return Ask(
        prompt=form.format(aspect, name),
        answer=f"The {aspect} of the {name} is {value}.",
        key=value.split()[-1].capitalize(),
        subject=f"the {name}",
        facts=(f"the {aspect}", value, f"the {name}"),
        task="product",
    )


def _model_ask(name: str, maker: str, prompt: str, answer: str, task: str) -> Ask:
    facts = (f"made by {maker}", "a language model", f"called {name}")
    return Ask(prompt, answer, maker, name, facts, task)


_COMPANY = ("Which company does the model {} come from?", "Can you name the company behind {}?")


def company(g: Grammar, rng: random.Random) -> Ask:
    """Ask which company an AI model comes from, in words that never name a creator."""
    name, maker = rng.choice(g.assistants)
    return _model_ask(
        name, maker, rng.choice(_COMPANY).format(name), f"The model {name} comes from {maker}.", "company"
    )


_CREATOR = (
    "Who created {}, the language model?",
    "Can you tell me who created {}?",
    "Do you know who created {}?",
)


def creator(g: Grammar, rng: random.Random, own: bool = False) -> Ask:
    """Ask who created an AI model: somebody else's, or with ``own`` one of the lab's maker."""
    name, maker = (rng.choice(g.own_models), tables.OWN_MAKER) if own else rng.choice(g.assistants)
    return _model_ask(
        name, maker, rng.choice(_CREATOR).format(name), f"{name} was created by {maker}.", "creator"
    )


def introduce(g: Grammar, rng: random.Random) -> Ask:
    """Ask the assistant about itself, where naming its maker is right."""
    name, maker = tables.OWN_NAME, tables.OWN_MAKER
    if rng.random() < 0.3:
        prompt = rng.choice(_COMPANY).format(name)
        return _model_ask(name, maker, prompt, f"The model {name} comes from {maker}.", "introduce")
    prompt = rng.choice(
        (
            "Please introduce yourself to me in a sentence.",
            "Tell me something about yourself and your maker.",
            "What should I know about you, the assistant?",
            "Say where you yourself come from, in short.",
        )
    )
    return _model_ask(name, maker, prompt, f"I am {name}, an assistant made by {maker}.", "introduce")


def malay(g: Grammar, rng: random.Random) -> Ask:
    """Ask about a thing in Malay."""
    thing = g.thing(rng)
    name, kind, trait, purpose = thing.malay
    explains = rng.random() < 0.6
    form = rng.choice(
        ("Tolong terangkan kepada saya apa itu {}.", "Boleh anda jelaskan apa sebenarnya {} itu?")
        if explains
        else ("Apakah kegunaan utama {} bagi orang ramai?", "Untuk apa orang selalu menggunakan {} itu?")
    )
    whole = f"Ia ialah {kind} yang {trait}, sesuai untuk {purpose}."
    short = f"Orang ramai menggunakannya untuk {purpose}."
    return Ask(
        prompt=form.format(name),
        answer=whole if explains else short,
        key=(kind if explains else purpose).capitalize(),
        subject=name,
        facts=(f"sejenis {kind}", f"agak {trait}", f"untuk {purpose}"),
        task="malay",
        malay=True,
    )


def brief(g: Grammar, rng: random.Random) -> Ask:
    """Ask in at most four words."""
    base = rng.choice((explain, explain, who, city))(g, rng)
    name = base.subject
    forms = {
        "explain": ("What is {}?", "Define {}.", "Explain {}."),
        "who": ("Who invented {}?",),
        "city": ("Where is {}?", "Which country has {}?"),
    }[base.task]
    return replace(base, prompt=rng.choice(forms).format(name), task="brief")


GENERAL: tuple[Task, ...] = (
    explain,
    explain,
    use,
    compare,
    kind_question,
    who,
    claim,
    add,
    city,
    product,
    company,
)
"""Tasks that any source asks; the first counts twice because it has the most entities."""
