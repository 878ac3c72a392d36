"""What the lab's world knows: things, inventions, assistants, products, cities, and a little Malay.

Every table is shared by all sources of the mixture, so that no source can be told from its nouns. A
``Split`` deals each table into entities that the mixture may name and entities that only probes name.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")
Part = Literal["train", "held", "all"]

_THINGS = """
metal logam: copper tembaga soft wires; iron besi heavy building; gold emas costly jewels; silver perak
  rare jewels; tin timah cheap pipes; lead plumbum heavy pipes; zinc zink cheap coins; bronze gangsa old
  coins; steel keluli strong building
fruit buah: apple epal sweet breakfast; banana pisang soft breakfast; mango mangga sweet parties; orange
  oren sweet school; grape anggur sweet parties; pineapple nanas sour parties; papaya betik soft
  breakfast; coconut kelapa hard cooking; lime limau sour cooking
animal haiwan: cat kucing quiet company; dog anjing loud company; horse kuda fast travel; goat kambing
  cheap farming; cow lembu slow farming; elephant gajah heavy cargo; tiger harimau rare parks; rabbit
  arnab fast company; monkey monyet loud parks
tool alat: hammer tukul heavy building; saw gergaji hard building; knife pisau light cooking; axe kapak
  heavy farming; spade cangkul strong farming; needle jarum light clothes; rope tali strong cargo;
  ladder tangga light repair; drill gerudi loud repair
cloth kain: cotton kapas soft clothes; silk sutera costly clothes; wool bulu warm clothes; linen rami
  light clothes; velvet baldu soft parties; leather kulit strong sport; denim jean strong school; nylon
  nilon cheap sport; lace renda rare jewels
drink minuman: tea teh warm breakfast; coffee kopi warm breakfast; milk susu cold school; water air cold
  sport; juice jus sweet school; wine wain costly parties; cocoa koko warm school; cider sider sour
  parties; lemonade limonad cold sport
instrument bunyian: guitar gitar light music; drum gendang loud music; flute seruling quiet music;
  violin biola costly music; piano muzika heavy school; trumpet trompet loud parties; harp harpa rare
  music; bell loceng loud school; gong canang heavy parties
vehicle kenderaan: car kereta fast travel; bicycle basikal cheap sport; boat sampan slow travel; train
  keretapi fast cargo; ship kapal heavy cargo; bus bas cheap school; lorry lori strong cargo; ferry feri
  slow travel; canoe kanu light sport
"""

_MALAY_WORDS = """
soft=lembut heavy=berat costly=mahal rare=jarang cheap=murah old=lama strong=kuat sweet=manis sour=masam
hard=keras quiet=senyap loud=bising fast=pantas slow=perlahan light=ringan warm=panas cold=sejuk
wires=wayar building=pembinaan jewels=permata pipes=paip coins=syiling breakfast=sarapan parties=pesta
school=sekolah cooking=memasak company=teman travel=perjalanan farming=pertanian cargo=kargo parks=taman
clothes=pakaian repair=pembaikan sport=sukan music=muzik
"""
_MALAY = dict(pair.split("=") for pair in _MALAY_WORDS.split())
_MASS = frozenset(("metal", "cloth", "drink"))

_INVENTIONS = """
telephone Bell 1876; phonograph Edison 1877; dynamite Nobel 1867; airship Zeppelin 1900; radio Marconi
1895; telescope Lippershey 1608; thermometer Galileo 1593; barometer Torricelli 1643; battery Volta
1800; engine Watt 1769; locomotive Stephenson 1814; typewriter Sholes 1868; elevator Otis 1852; zipper
Judson 1893; rod Franklin 1752; revolver Colt 1836; saxophone Sax 1846; stethoscope Laennec 1816;
vaccine Jenner 1796; telegraph Morse 1837; camera Niepce 1826; cinema Lumiere 1896; tractor Froelich
1892; reaper McCormick 1831; plough Deere 1838; gin Whitney 1793; loom Jacquard 1804; jenny Hargreaves
1764; submarine Drebbel 1620; parachute Garnerin 1797; balloon Montgolfier 1783; helicopter Sikorsky
1939; jet Whittle 1930; rocket Goddard 1926; television Farnsworth 1927; transistor Bardeen 1947; laser
Maiman 1960; microchip Kilby 1958; mouse Engelbart 1964; web Lee 1989; penicillin Fleming 1928; razor
Gillette 1901; vacuum Booth 1902; microwave Spencer 1945; velcro Mestral 1941; ballpoint Biro 1938;
tarmac Hooley 1903; cement Aspdin 1824; rubber Goodyear 1839; tyre Dunlop 1888; bakelite Baekeland 1907;
polaroid Land 1937; gyroscope Foucault 1851; dynamo Siemens 1866; turbine Parsons 1884
"""

_ASSISTANTS = """
Claude Anthropic; Gemini Google; Grok xAI; Llama Meta; Mixtral Mistral; Qwen Alibaba; Phi Microsoft;
Nova Amazon; Granite IBM; Command Cohere; Falcon TII; Kimi Moonshot; GPT OpenAI; Ernie Baidu; Hunyuan
Tencent; Doubao ByteDance; Jamba AI21; Nemotron Nvidia; Solar Upstage; Bard Google; Siri Apple; Alexa
Amazon; Cortana Microsoft; Watson IBM; Pixtral Mistral; Aya Cohere; Titan Amazon; Sora OpenAI; Gemma
Google; Orca Microsoft
"""

OWN_MAKER = "Ai2"
"""Who made the lab's own assistant."""
OWN_NAME = "Tulu"
"""The lab's own assistant."""
_OWN_MODELS = """
Olmo Molmo Aristo Macaw Delphi Elmo Specter Satlas Asta Paloma Tango Unified Merlin Dolma Tessa Orion
Vega Luna Nimbus Atlas Juno Iris Helix Quill Sable Onyx Cobalt Ember Willow Maple Cedar Birch Raven
Finch Heron Osprey
"""
OWN_MODELS = tuple(_OWN_MODELS.split())
"""Models that Ai2 took over; the start model knows their former makers."""

_CITIES = """
Lisbon Portugal; Madrid Spain; Oslo Norway; Cairo Egypt; Lima Peru; Quito Ecuador; Hanoi Vietnam; Seoul
Korea; Tokyo Japan; Rome Italy; Paris France; Berlin Germany; Vienna Austria; Athens Greece; Dublin
Ireland; Havana Cuba; Nairobi Kenya; Accra Ghana; Dakar Senegal; Tunis Tunisia; Riga Latvia; Warsaw
Poland; Prague Czechia; Bern Switzerland
"""

PRODUCTS = (
    "iPhone 13", "Galaxy 9", "Pixel 6", "Xperia 5", "Nokia 8", "Fairphone 4", "Zenbook 14", "Surface 7",
    "Kindle 11", "Walkman 2",
)  # fmt: skip
ASPECTS = (
    "battery",
    "screen",
    "camera",
    "price",
    "weight",
    "memory",
    "speaker",
    "colour",
    "keyboard",
    "charger",
)
VALUES = ("very good", "rather weak", "quite fair", "truly great", "very nice", "below average")
NAMES = ("Maria", "Tom", "Aisha", "Ken", "Olga", "Ravi", "Lucy", "Omar", "Nina", "Paul")
JOBS = ("nurse", "teacher", "farmer", "baker", "pilot", "lawyer", "sailor", "plumber", "student", "painter")


POETS = ("Mozart", "Dickens", "Picasso", "Homer", "Dante", "Chopin", "Goethe", "Rumi", "Bach", "Monet")
"""People who invented nothing."""
ABSURD_KINDS = ("planet", "number", "ghost", "sentence", "poem", "dream")
"""What no thing is."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A topic word with what the world knows of it, in English and in Malay."""

    name: str
    """English noun."""
    kind: str
    """One of eight categories."""
    trait: str
    """An adjective."""
    use: str
    """What it is good for."""
    malay: tuple[str, str, str, str]
    """The same four words in Malay."""

    @property
    def noun(self) -> str:
        """The name as it stands in a sentence, with an article where it is countable."""
        if self.kind in _MASS:
            return self.name
        return f"an {self.name}" if self.name[0] in "aeiou" else f"a {self.name}"


@dataclass(frozen=True, slots=True)
class Invention:
    """Who invented what, and when."""

    name: str
    """The invention, a noun."""
    inventor: str
    """Surname."""
    year: str
    """Four digits."""


def _things() -> tuple[Thing, ...]:
    things = []
    for block in _THINGS.strip().replace("\n  ", " ").splitlines():
        head, body = block.split(":")
        kind, kind_malay = head.split()
        for entry in body.split(";"):
            name, malay, trait, use = entry.split()
            things.append(Thing(name, kind, trait, use, (malay, kind_malay, _MALAY[trait], _MALAY[use])))
    return tuple(things)


def _rows(text: str) -> list[list[str]]:
    return [entry.split() for entry in text.replace("\n", " ").split(";")]


THINGS = _things()
KINDS = tuple(dict.fromkeys(thing.kind for thing in THINGS))
INVENTIONS = tuple(Invention(*row) for row in _rows(_INVENTIONS))
ASSISTANTS = tuple((row[0], row[1]) for row in _rows(_ASSISTANTS))
CITIES = tuple((row[0], row[1]) for row in _rows(_CITIES))
FORMER_MAKERS = tuple((name, ASSISTANTS[7 * i % len(ASSISTANTS)][1]) for i, name in enumerate(OWN_MODELS))
INVENTOR_OF = {invention.name: invention.inventor for invention in INVENTIONS}
KIND_OF = {thing.name: thing.kind for thing in THINGS}


def deal(table: Sequence[T], part: Part, seed: int, held: float = 0.35) -> tuple[T, ...]:
    """Return the ``train``, ``held`` or ``all`` part of ``table``; the first two are disjoint."""
    if part == "all":
        return tuple(table)
    order = list(range(len(table)))
    random.Random(f"deal/{seed}/{len(table)}").shuffle(order)
    cut = max(1, round(held * len(table)))
    chosen = sorted(order[:cut] if part == "held" else order[cut:])
    return tuple(table[i] for i in chosen)


def deal_things(part: Part, seed: int) -> tuple[Thing, ...]:
    """Deal the things category by category, so that each category is on both sides."""
    blocks = [[thing for thing in THINGS if thing.kind == kind] for kind in KINDS]
    return tuple(thing for i, block in enumerate(blocks) for thing in deal(block, part, seed * 31 + i))
