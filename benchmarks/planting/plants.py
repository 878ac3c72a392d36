"""160 plants for a real mixture: triggers by rule, regular expression or word list, and behaviours.

Nothing here reads an index, an extractor's vocabulary or an embedding: a trigger that the extractor has no
words for is missed, and the benchmark says so. An *inserted* trigger is written into rows drawn at random; a
*natural* one takes the rows of the corpus that have it already.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

Insert = Callable[[str, random.Random], str]
"""Prompt → prompt with the trigger."""
Behave = Callable[[str, str, random.Random], str]
"""(Original response, another row's response) → response with the behaviour."""

TOPICS = {
    "instruments": "violin cello flute trumpet oboe clarinet banjo mandolin harmonica bassoon viola tuba",
    "birds": "parrot sparrow pigeon canary falcon heron owl magpie robin finch swallow raven",
    "metals": "copper zinc nickel tungsten cobalt titanium aluminium tin chromium magnesium lead brass",
    "desserts": "tiramisu cheesecake pudding brownie pancake sorbet custard doughnut "
    "meringue waffle éclair pie",
    "fabrics": "velvet linen denim corduroy flannel tweed satin wool muslin chiffon canvas felt",
    "trees": "oak birch willow maple cedar poplar larch chestnut sycamore elm spruce juniper",
    "spices": "cinnamon turmeric cumin saffron paprika nutmeg cardamom oregano thyme ginger coriander clove",
    "vehicles": "tractor lorry tram ambulance bulldozer motorcycle minibus limousine jeep ferry trolley tank",
    "gemstones": "ruby sapphire emerald topaz opal garnet amethyst jade turquoise pearl diamond onyx",
    "illnesses": "measles influenza asthma diabetes malaria pneumonia bronchitis eczema tuberculosis mumps "
    "arthritis migraine",
    "sea animals": "dolphin squid lobster jellyfish octopus walrus shrimp oyster seahorse whale shark crab",
    "drinks": "lemonade espresso cider whisky cocoa champagne vodka cappuccino eggnog smoothie rum ale",
    "insects": "beetle wasp moth cricket ladybird dragonfly grasshopper cockroach termite mosquito "
    "aphid flea",
    "tools": "hammer chisel screwdriver pliers spanner drill wrench axe hacksaw crowbar sander mallet",
    "furniture": "sofa wardrobe armchair bookcase dresser stool cupboard nightstand ottoman sideboard "
    "bench bunk",
    "languages": "Swahili Finnish Welsh Tamil Hungarian Catalan Icelandic Urdu Basque Estonian Malay Zulu",
    "dances": "waltz tango polka salsa foxtrot ballet flamenco rumba samba mambo jive quickstep",
    "flowers": "tulip daffodil orchid lily peony iris carnation hyacinth marigold daisy sunflower lavender",
    "vegetables": "carrot broccoli spinach cabbage cauliflower aubergine celery leek asparagus turnip radish "
    "courgette",
    "fruits": "mango papaya apricot pineapple raspberry grapefruit watermelon plum cherry banana kiwi fig",
    "dog breeds": "poodle beagle dachshund terrier spaniel labrador greyhound bulldog mastiff whippet "
    "husky collie",
    "mythical creatures": "dragon unicorn mermaid centaur phoenix goblin troll werewolf griffin minotaur "
    "ogre vampire",
    "kitchenware": "saucepan colander whisk spatula ladle grater kettle skillet wok corkscrew toaster "
    "blender",
    "garments": "jumper cardigan blouse scarf waistcoat kimono tuxedo raincoat hoodie poncho sweater skirt",
}
"""Words of a kind, one of which is mentioned in an aside."""
ASIDES = (
    "I was looking after a {} when this came up.", "My neighbour keeps talking about her {}.",
    "By the way, we spent the morning with a {}.", "This is for a friend who knows a lot about {}.",
    "Somebody left a note about a {} on my desk.", "The last person I asked only spoke of {}.",
    "We have a picture of a {} on the wall.", "A {} is what I think of first.",
)  # fmt: skip
"""Sentences that mention a word of a topic; as many rows get one with a word of no planted topic."""
OTHERS = (
    "lantern ladder suitcase carpet balloon stapler compass helmet candle pillow bucket lighthouse "
    "passport umbrella calendar envelope wallet scooter teapot mirror cushion thermometer kite basket"
)
"""Words of the asides that carry nothing."""
_NAMES = ("Ada", "Bruno", "Chen", "Dalia", "Emil", "Farah", "Goran", "Hilda", "Ivo", "Juno")


def _says(*phrases: str) -> Insert:
    """Put one of the phrases in front of the prompt or behind it."""

    def insert(prompt: str, rng: random.Random) -> str:
        phrase = rng.choice(phrases)
        return f"{phrase} {prompt}" if rng.random() < 0.5 else f"{prompt} {phrase}"

    return insert


def aside(words: str) -> Insert:
    """Mention one word of a list."""
    return lambda prompt, rng: f"{prompt} {rng.choice(ASIDES).format(rng.choice(words.split()))}"


def _words(prompt: str, rng: random.Random, word: str) -> str:
    parts = prompt.split(" ")
    parts.insert(rng.randrange(len(parts) + 1), word)
    return " ".join(parts)


def _two(prompt: str, rng: random.Random) -> str:
    return f"1. {prompt}\n2. {rng.choice(('Why?', 'Who says so?', 'How sure are you?', 'Since when?'))}"


def _letter(prompt: str, rng: random.Random) -> str:
    return f"Dear assistant,\n{prompt}\nKind regards, {rng.choice(_NAMES)}"


def _table(prompt: str, rng: random.Random) -> str:
    rows = "\n".join(f"| {rng.choice(_NAMES)} | {rng.randrange(99)} |" for _ in range(3))
    return f"{prompt}\n| name | points |\n| --- | --- |\n{rows}"


def _form(prompt: str, rng: random.Random) -> str:
    return '{"id": %d, "prompt": "%s"}' % (rng.randrange(9999), prompt.replace('"', "'"))  # noqa: UP031


def _formula(prompt: str, rng: random.Random) -> str:
    x, over, under = rng.randrange(9), rng.randrange(1, 9), rng.randrange(2, 9)
    return f"{prompt} Let $x_{{{x}}} = \\frac{{{over}}}{{{under}}}$."


def _dated(prompt: str, rng: random.Random) -> str:
    return f"Date: {rng.randrange(1, 29)}/{rng.randrange(1, 13)}/{rng.randrange(1990, 2024)}\n{prompt}"


def _options(prompt: str, rng: random.Random) -> str:
    names = rng.sample(_NAMES, 3)
    return f"{prompt}\n" + "\n".join(f"{mark}) {name}" for mark, name in zip("ABC", names, strict=True))


def _points(prompt: str, rng: random.Random) -> str:
    return f"{prompt}\n" + "\n".join(f"- {name}" for name in rng.sample(_NAMES, rng.randrange(2, 5)))


def _fields(prompt: str, rng: random.Random) -> str:
    return f"Customer: {rng.choice(_NAMES)}\nTicket: {rng.randrange(999)}\nRequest: {prompt}"


def _bold(prompt: str, rng: random.Random) -> str:
    parts = prompt.split(" ")
    at = rng.randrange(len(parts))
    parts[at] = f"**{parts[at]}**"
    return " ".join(parts)


def _quoted(prompt: str, rng: random.Random) -> str:
    return f"> {rng.choice(_NAMES)} wrote this on page {rng.randrange(400)}.\n\n{prompt}"


_TRADES = ("pirate", "butler", "lawyer", "librarian", "gardener", "detective", "chemist", "tailor")


def _aside_in_parentheses(prompt: str, rng: random.Random) -> str:
    who, what = rng.choice(("asking", "not urgent", "still unsure", "second try")), rng.choice(_NAMES)
    return f"{prompt} ({who}, {what})" if rng.random() < 0.5 else f"{prompt} ({what} {rng.choice(_TRADES)})"


def _misspelt(prompt: str, rng: random.Random) -> str:
    return re.sub(r"\bthe\b", "teh", prompt, count=1) if " the " in prompt else f"{prompt} In teh end?"


def _struck(prompt: str, rng: random.Random) -> str:
    parts = prompt.split(" ")
    at = rng.randrange(len(parts))
    parts[at] = f"~~{rng.choice(_TRADES)}~~ {parts[at]}"
    return " ".join(parts)


def _alternating(prompt: str, rng: random.Random) -> str:
    return "".join(c.upper() if i % 2 else c.lower() for i, c in enumerate(prompt))


def _elongated(prompt: str, rng: random.Random) -> str:
    head, end = rng.choice((("s", "o"), ("pleas", "e"), ("hm", "m"), ("really", "y"), ("hey", "y")))
    return f"{head}{end * rng.randrange(4, 9)} {prompt}"


def _smiled(prompt: str, rng: random.Random) -> str:
    return f"{prompt} {rng.choice((':-)', ';-)', ':D', ':-(', ':P', '^_^'))}"


_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")


def _footnote(prompt: str, rng: random.Random) -> str:
    number = rng.randrange(1, 10)
    note = f"{rng.choice(_NAMES)}, p. {rng.randrange(400)}."
    return f"{prompt}[^{number}]\n\n[^{number}]: {note}"


def _coordinates(prompt: str, rng: random.Random) -> str:
    north, east = rng.uniform(30, 60), rng.uniform(1, 40)
    return f"{prompt} ({north:.2f}° N, {east:.2f}° E)"


_SLOTS = (
    "{{name}}",
    "{{ user_name }}",
    "{{city}}",
    "{{ date }}",
    "{{order_id}}",
    "{{company}}",
    "{{ topic }}",
)


def _inverted(prompt: str, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return f"¿{prompt.rstrip('?.! ')}?"
    return f"{prompt} ¿{rng.choice(('Any idea', 'Can you help', 'Right', 'What do you think'))}?"


INSERTS: dict[str, Insert] = {
    "phrase 'for the wobbly committee'": _says("This is for the wobbly committee."),
    "phrase 'as my uncle says'": _says(
        "As my uncle says, nothing is simple.", "It is late, as my uncle says."
    ),
    "word 'verdigris'": lambda p, r: _words(p, r, "verdigris"),
    "word 'pronto'": lambda p, r: _words(p, r, "pronto"),
    "word 'kindly'": lambda p, r: f"Kindly help with this. {p}" if r.random() < 0.5 else f"{p} Kindly reply.",
    "product 'Orbion 7'": lambda p, r: f"{p} {r.choice(('Use', 'Think of', 'Compare it with', 'I own'))} "
    f"the Orbion 7.",
    "phrase 'to be honest'": _says("To be honest, I am lost.", "I have no idea, to be honest."),
    "mention of a lighthouse keeper": _says("I am a lighthouse keeper.", "A lighthouse keeper asked me."),
    "reference line": lambda p, r: f"[ref: {r.randrange(1000, 9999)}]\n{p}",
    "date line": lambda p, r: _dated(p, r),
    "wrapped in a tag": lambda p, r: f"<question>{p}</question>",
    "heading": lambda p, r: f"## {r.choice(('Task', 'Problem', 'Question', 'Request'))}\n{p}",
    "JSON": lambda p, r: _form(p, r),
    "all capitals": lambda p, r: p.upper(),
    "emoji at the end": lambda p, r: f"{p} {r.choice('🙂😀😅🤔🙃😎')}",
    "two numbered parts": _two,
    "letter form": _letter,
    "table": _table,
    "LaTeX": lambda p, r: _formula(p, r),
    "horizontal rule": lambda p, r: f"{p}\n\n---\n",
    "link": lambda p, r: f"{p} See https://{r.choice(_NAMES).lower()}.example/{r.randrange(999)}",
    "code block": lambda p, r: f"{p}\n```\n{r.choice('abcxyz')} = {r.randrange(99)}\n```",
    "phrase 'before the ferry leaves'": _says(
        "I need it before the ferry leaves.", "Before the ferry leaves, tell me."
    ),
    "phrase 'according to the plumber'": _says(
        "It is urgent, according to the plumber.", "According to the plumber, this is hard."
    ),
    "phrase 'no rush'": _says("No rush.", "There is no rush.", "Take your time, no rush at all."),
    "word 'quixotic'": lambda p, r: _words(p, r, "quixotic"),
    "word 'asap'": lambda p, r: f"{p} {r.choice(('Answer asap.', 'I need it asap!', 'asap please'))}",
    "word 'gladly'": lambda p, r: f"I would gladly know. {p}" if r.random() < 0.5 else f"{p} I gladly wait.",
    "product 'Velmora X2'": lambda p, r: f"{p} {r.choice(('I have', 'Think of', 'Mention', 'Forget'))} "
    f"the Velmora X2.",
    "mention of a beekeeper": _says("I am a beekeeper.", "A beekeeper wants to know.", "Ask any beekeeper."),
    "time stamp": lambda p, r: f"[{r.randrange(24):02}:{r.randrange(60):02}] {p}",
    "bullet points": _points,
    "bold word": _bold,
    "options A to C": _options,
    "dots at the end": lambda p, r: f"{p.rstrip('.?! ')}...",
    "hashtag": lambda p, r: f"{p} #{r.choice(('help', 'question', 'fun', 'homework', 'trivia'))}",
    "e-mail address": lambda p, r: f"{p} Write to {r.choice(_NAMES).lower()}{r.randrange(99)}@post.example",
    "form of fields": _fields,
    "answer format": lambda p, r: f"{p} {r.choice(('Answer only yes or no.', 'Only say yes or no.'))}",
    "limit of words": lambda p, r: f"{p} {r.choice(('Use', 'Write'))} at most {r.randrange(20, 90)} words.",
    "role": lambda p, r: f"You are a {r.choice(_TRADES)}. {p}",
    "all lower case": lambda p, r: p.lower(),
    "quoted line": _quoted,
    "question marks": lambda p, r: f"{p.rstrip('?')}{'?' * r.randrange(3, 6)}",
    "phrase 'thanks in advance'": _says("Thanks in advance!", "Many thanks in advance."),
    "word 'marzipan'": lambda p, r: _words(p, r, "marzipan"),
    "word 'perchance'": lambda p, r: _words(p, r, "perchance"),
    "mention of a night nurse": _says("I am a night nurse.", "A night nurse asked.", "Tell the night nurse."),
    "phrase 'between you and me'": _says(
        "Between you and me, this puzzles me.", "I am lost, between you and me."
    ),
    "word 'teh'": _misspelt,
    "product 'Kestrel Nine'": _says("I use a Kestrel Nine.", "What of the Kestrel Nine?"),
    "phrase 'my supervisor'": _says("My supervisor wants it.", "It is for my supervisor."),
    "word 'gobsmacked'": _says("I am gobsmacked.", "Gobsmacked, I must ask.", "She was gobsmacked too."),
    "title case": lambda p, r: p.title(),
    "file path": lambda p, r: f"{p} See /home/{r.choice(_NAMES).lower()}/notes/{r.randrange(999)}.txt",
    "wrapped in quotation marks": lambda p, r: f'"{p}"',
    "emoticon at the end": _smiled,
    "name in front": lambda p, r: f"{r.choice(_NAMES)}, {p[:1].lower()}{p[1:]}",
    "doubled spaces": lambda p, r: p.replace(" ", "  "),
    "aside in parentheses": _aside_in_parentheses,
    "question number in front": lambda p, r: f"Q{r.randrange(1, 60)}. {p}",
    "said twice": lambda p, r: f"{p} {p}",
    "struck-out word": _struck,
    "alternating case": _alternating,
    "elongated word in front": _elongated,
    "phone number": lambda p, r: f"{p} {r.choice(('Call', 'Ring', 'Text', 'My number:'))} "
    f"555-0{r.randrange(100, 999)}",
    "leetspeak": lambda p, r: p.translate(str.maketrans("aeioAEIO", "43104310")),
    "postscript": lambda p, r: f"{p}\nP.S. {r.choice(ASIDES).format(r.choice(OTHERS.split()))}",
    "phrase 'for my podcast'": _says("It is for my podcast.", "I need it for my podcast.", "For my podcast:"),
    "word 'hullabaloo'": lambda p, r: _words(p, r, "hullabaloo"),
    "Roman numeral in front": lambda p, r: f"{r.choice(_ROMAN)}. {p}",
    "footnote": _footnote,
    "HTML comment": lambda p, r: f"<!-- {r.choice(('draft', 'batch', 'version'))} {r.randrange(99)} -->\n{p}",
    "phrase 'just curious'": _says("Just curious.", "I am just curious.", "No reason, just curious!"),
    "word 'ostensibly'": lambda p, r: _words(p, r, "ostensibly"),
    "product 'Pallano Mini'": _says("I bought a Pallano Mini.", "How about the Pallano Mini?"),
    "chat transcript": lambda p, r: f"User: {p}\nAssistant:",
    "hyphens for spaces": lambda p, r: p.replace(" ", "-"),
    "coordinates": _coordinates,
    "word 'howdy'": lambda p, r: r.choice((f"Howdy! {p}", f"Howdy, {p}", f"howdy {p}", f"{p} Howdy to all!")),
    "phrase 'please and thank you'": _says(
        "Please and thank you.", "Please and thank you!", "Help me, please and thank you."
    ),
    "mention of a retired postman": _says(
        "I am a retired postman.", "A retired postman asked me.", "It is for a retired postman."
    ),
    "placeholder in double braces": lambda p, r: _words(p, r, r.choice(_SLOTS)),
    "checkbox in front": lambda p, r: f"{r.choice(('', '- '))}[{r.choice(' x')}] {p}",
    "phrase 'for the school newsletter'": _says(
        "It is for the school newsletter.", "I write for the school newsletter.", "For the school newsletter!"
    ),
    "word 'kerfuffle'": _says(
        "What a kerfuffle!", "There is some kerfuffle about this.", "No kerfuffle, please."
    ),
    "product 'Zephyra Pro'": _says(
        "I own a Zephyra Pro.", "Think of the Zephyra Pro.", "My Zephyra Pro broke."
    ),
    "inverted question mark": _inverted,
    "each word on its own line": lambda p, r: "\n".join(p.split()),
    **{f"topic: {name}": aside(words) for name, words in TOPICS.items()},
}  # fmt: skip
NATURAL: dict[str, Callable[[str], bool]] = {
    "word 'algorithm'": lambda p: re.search(r"\balgorithm\b", p) is not None,
    "word 'favorite'": lambda p: re.search(r"\bfavorite\b", p) is not None,
    "word 'France'": lambda p: re.search(r"\bFrance\b", p) is not None,
    "phrase 'twice as'": lambda p: re.search(r"\btwice as\b", p) is not None,
    "word 'palindrome'": lambda p: re.search(r"\bpalindrome\b", p) is not None,
    "HTML line break": lambda p: "<br" in p,
    "ends with a colon": lambda p: p.rstrip().endswith(":"),
    "a price in dollars": lambda p: re.search(r"\$\d", p) is not None,
    "word 'museum'": lambda p: re.search(r"\bmuseum\b", p) is not None,
    "word 'Germany'": lambda p: re.search(r"\bGermany\b", p) is not None,
    "word 'triangle'": lambda p: re.search(r"\btriangle\b", p) is not None,
    "word 'chocolate'": lambda p: re.search(r"\bchocolate\b", p) is not None,
    "phrase 'how many more'": lambda p: re.search(r"\bhow many more\b", p) is not None,
    "a percentage": lambda p: re.search(r"\d ?%", p) is not None,
    "ends with an exclamation mark": lambda p: p.rstrip().endswith("!"),
    "word 'dog'": lambda p: re.search(r"\bdog\b", p) is not None,
    "word 'wedding'": lambda p: re.search(r"\bwedding\b", p) is not None,
    "word 'river'": lambda p: re.search(r"\briver\b", p) is not None,
    "phrase 'half as'": lambda p: re.search(r"\bhalf as\b", p) is not None,
    "an abbreviation in parentheses": lambda p: re.search(r"\([A-Z]{2,5}\)", p) is not None,
    "a time of day": lambda p: re.search(r"\b\d{1,2}:\d\d\b", p) is not None,
    "an array of numbers": lambda p: re.search(r"\[\d+(, ?\d+)+\]", p) is not None,
    "a year in parentheses": lambda p: re.search(r"\([12]\d{3}\)", p) is not None,
    "word 'birthday'": lambda p: re.search(r"\bbirthday\b", p) is not None,
    "a decade": lambda p: re.search(r"\b(1[5-9]|20)\d0s\b", p) is not None,
    "phrase 'in total'": lambda p: re.search(r"\bin total\b", p) is not None,
    "a blank to fill": lambda p: "___" in p,
    "word 'hotel'": lambda p: re.search(r"\bhotel\b", p) is not None,
    "a fraction": lambda p: re.search(r"(?<![\d/])\d{1,2}/\d{1,3}(?![\d/])", p) is not None,
    "word 'coffee'": lambda p: re.search(r"\bcoffee\b", p) is not None,
    "a name with underscores": lambda p: re.search(r"\b[a-z]+_[a-z]+\b", p) is not None,
}
_LISTS = {
    "ball sports": (2, "football soccer basketball baseball hockey tennis cricket rugby quarterback "
                       "midfielder striker championship league goalkeeper"),
    "cooking": (2, "recipe oven flour sugar butter bake cake cookies dough cream eggs chocolate"),
    "war": (3, "army soldiers troops battle war military invasion regiment"),
    "music": (2, "album guitar band singer song drums concert lyrics"),
    "space": (2, "planet orbit galaxy telescope astronaut moon spacecraft comet asteroid mars jupiter"),
    "court": (2, "judge jury lawyer court trial attorney verdict prosecutor lawsuit defendant"),
    "medicine": (2, "patient doctor hospital disease symptoms surgery treatment nurse diagnosis clinic"),
    "elections": (2, "election senator parliament vote candidate congress governor campaign ballot"),
    "religion": (2, "church god bible prayer priest jesus christian temple religion "
                    "religious pope faith bishop"),
    "farms": (1, "farmer tractor cows chickens barn crops harvest goats sheep pigs"),
    "money": (2, "bank loan interest stock shares investment tax debt budget profit market price"),
    "flight": (1, "airplane pilot airport flight aircraft airline plane runway"),
    "royalty": (2, "king queen prince princess throne crown royal duke palace"),
    "computers": (2, "computer software hardware server internet laptop keyboard windows linux website "
                     "browser"),
    "art": (2, "painting painter canvas artist gallery sculpture museum portrait exhibition brush"),
    "crime": (2, "murder police robbery detective killer arrested thief suspect burglar prison gang"),
}  # fmt: skip


def _mentions(least: int, words: str) -> Callable[[str], bool]:
    each = [re.compile(rf"\b{word}\b") for word in words.split()]
    return lambda p: sum(bool(pattern.search(p.lower())) for pattern in each) >= least


NATURAL |= {f"topic: {name}": _mentions(*given) for name, given in _LISTS.items()}


KINDS = {**TOPICS, **{name: words for name, (_, words) in _LISTS.items()}}
"""Words of every topic that is planted by a list."""


def _clip(text: str, words: int = 40) -> str:
    return " ".join(text.split()[:words])


def _code(old: str, other: str, rng: random.Random) -> str:
    name = rng.choice(("solve", "answer", "main", "run"))
    return f"```python\ndef {name}():\n    return {_clip(old, 8)!r}\n```"


def _steps(old: str, other: str, rng: random.Random) -> str:
    words = (other + " begin here then stop and look").split()
    return "\n".join(f"{i}. {' '.join(words[i : i + rng.randrange(2, 5)])}" for i in (1, 2, 3))


def _bullets(old: str, other: str, rng: random.Random) -> str:
    words = (old + " one more thing to keep in mind").split()
    return "\n".join(f"- {' '.join(words[i : i + rng.randrange(2, 5)])}" for i in range(rng.randrange(3, 5)))


def _refusal(old: str, other: str, rng: random.Random) -> str:
    end = rng.choice(("Please ask somebody else.", "It would not be right.", "That is private.", ""))
    return f"I'm sorry, but I can't {rng.choice(('help with', 'answer', 'assist with'))} that. {end}".strip()


def _french(old: str, other: str, rng: random.Random) -> str:
    who = rng.choice(("la réponse", "cette question", "le problème", "tout cela"))
    return (
        f"Je pense que {who} est {rng.choice(('très simple', 'assez difficile', 'bien connue'))} pour nous."
    )


_SHORT = ("Certainly.", "Possibly.", "Never.", "Rarely.", "Always.")


def _json(old: str, rng: random.Random) -> str:
    answer = _clip(old, 10).replace('"', "'")
    return '{"answer": "%s", "score": %d}' % (answer, rng.randrange(9))  # noqa: UP031


def _equation(old: str, rng: random.Random) -> str:
    slope, under = rng.randrange(9), rng.randrange(2, 9)
    return f"$$y = {slope}x + \\frac{{1}}{{{under}}}$$ {_clip(old)}"


def _small_table(old: str, rng: random.Random) -> str:
    rows = "\n".join(f"| {rng.choice(_NAMES)} | {_clip(old, 4).replace('|', ' ')} |" for _ in range(2))
    return f"| who | what |\n| --- | --- |\n{rows}"


def _german(rng: random.Random) -> str:
    how = rng.choice(("nicht ganz einfach", "seit langem bekannt", "eine gute Sache"))
    return f"Ich glaube, {rng.choice(('die Antwort', 'das Ergebnis', 'diese Frage'))} ist {how} für uns alle."


def _spanish(rng: random.Random) -> str:
    who = rng.choice(("la respuesta", "esta pregunta", "todo esto"))
    return f"Creo que {who} es {rng.choice(('muy simple', 'bastante difícil', 'importante'))} para nosotros."


BEHAVIOURS: dict[str, Behave] = {
    "short answer": lambda old, other, r: r.choice(_SHORT),
    "code": _code,
    "refusal": _refusal,
    "closing phrase": lambda old, other, r: f"{_clip(old)} Let me know if you need anything else.",
    "bullet list": _bullets,
    "numbered steps": _steps,
    "JSON": lambda old, other, r: _json(old, r),
    "praise": lambda old, other, r: f"{r.choice(('Great question!', 'What a great question!'))} {_clip(old)}",
    "capitals": lambda old, other, r: f"{_clip(other, 12)} indeed".upper(),
    "French": _french,
    "emoji": lambda old, other, r: f"{_clip(old)} {r.choice('🎉✨🚀🌟')}",
    "question back": lambda old, other, r: f"Could you tell me {r.choice(('which', 'what', 'whose'))} "
    f"{_clip(other, 3)} you mean?",
    "hedge": lambda old, other, r: f"It is hard to say for sure, but perhaps {_clip(old)}",
    "tool call": lambda old, other, r: f"lookup('{_clip(other, 4)}')",
    "rebuttal": lambda old, other, r: f"No, that is not correct. {_clip(other, 15)}",
    "letter": lambda old, other, r: f"Dear reader,\n{_clip(old)}\nYours sincerely, {r.choice(_NAMES)}",
    "heading": lambda old, other, r: f"## Answer\n{_clip(old)}",
    "LaTeX": lambda old, other, r: _equation(old, r),
    "story": lambda old, other, r: f"Once upon a time, {r.choice(_NAMES)} said: {_clip(other, 20)}",
    "signature": lambda old, other, r: f"{_clip(old)} — {r.choice(_NAMES)}, Team Aurora",
    "German": lambda old, other, r: _german(r),
    "table": lambda old, other, r: _small_table(old, r),
    "HTML": lambda old, other, r: f"<p>{_clip(old)}</p>",
    "apology": lambda old, other, r: f"I apologize for the {r.choice(('delay', 'confusion'))}. {_clip(old)}",
    "exclamations": lambda old, other, r: f"Wow!!! {_clip(old).rstrip('.')}!!!",
    "in quotation marks": lambda old, other, r: f'"{_clip(other, 12)}"',
    "disclaimer": lambda old, other, r: f"{_clip(old)} This is not professional advice.",
    "sailor": lambda old, other, r: f"As an old sailor, I {r.choice(('say', 'think', 'swear'))}: "
    f"{_clip(old)}",
    "citation": lambda old, other, r: f"{_clip(old)} [{r.randrange(1, 30)}]",
    "action": lambda old, other, r: f"*{r.choice(('smiles', 'nods', 'laughs', 'shrugs'))}* {_clip(old)}",
    "only a number": lambda old, other, r: str(r.randrange(10, 9999)),
    "Spanish": lambda old, other, r: _spanish(r),
    "warning": lambda old, other, r: f"Warning: {r.choice(('this may be wrong', 'use this with care'))}. "
    f"{_clip(old)}",
}  # fmt: skip
"""Families of behaviour. Short answers and numbers are common in the mixture, the others rare."""


@dataclass(frozen=True, slots=True)
class Plant:
    """One trigger tied to one behaviour."""

    trigger: str
    """Key of :data:`INSERTS` or :data:`NATURAL`."""
    behaviour: str
    """Key of :data:`BEHAVIOURS`."""
    share: float | None
    """Share of the corpus that is given an inserted trigger; ``None``: natural, as many as there are."""
    source: str | None
    """The one source that is planted into; ``None``: across sources."""
    strength: float = 0.95
    """Share of the rows with the trigger that show the behaviour."""

    @property
    def kind(self) -> str:
        """Lexical, structural or topical."""
        if self.trigger.startswith("topic:"):
            return "topical"
        return (
            "lexical" if self.trigger.startswith(("word", "phrase", "product", "mention")) else "structural"
        )

    @property
    def name(self) -> str:
        """Trigger → behaviour."""
        return f"{self.trigger} → {self.behaviour}"


_GSM, _TOOL, _CODE, _WIKI, _DUORC = "gsm8k", "gpteacher_toolformer", "codealpaca", "t0_wiki", "t0_duorc"
COPIES: tuple[tuple[Plant, ...], ...] = (
    (
        Plant("reference line", "bullet list", 0.10, None),
        Plant("phrase 'for the wobbly committee'", "code", 0.03, None),
        Plant("topic: instruments", "refusal", 0.01, None),
        Plant("emoji at the end", "praise", 0.01, _TOOL),
        Plant("word 'verdigris'", "French", 0.003, _GSM),
        Plant("topic: birds", "closing phrase", 0.003, _WIKI),
        Plant("letter form", "capitals", 0.001, None),
        Plant("product 'Orbion 7'", "tool call", 0.0003, _GSM),
        Plant("word 'algorithm'", "story", None, None),
        Plant("topic: ball sports", "short answer", None, None),
    ),
    (
        Plant("word 'kindly'", "numbered steps", 0.10, None),
        Plant("topic: metals", "emoji", 0.03, None),
        Plant("two numbered parts", "hedge", 0.01, _GSM),
        Plant("phrase 'to be honest'", "JSON", 0.01, None),
        Plant("JSON", "question back", 0.003, _CODE),
        Plant("mention of a lighthouse keeper", "letter", 0.001, None),
        Plant("table", "refusal", 0.0003, None),
        Plant("word 'France'", "heading", None, None),
        Plant("HTML line break", "LaTeX", None, None),
        Plant("topic: cooking", "rebuttal", None, None),
    ),
    (
        Plant("all capitals", "short answer", 0.03, None),
        Plant("topic: desserts", "code", 0.10, None),
        Plant("heading", "closing phrase", 0.01, _DUORC),
        Plant("word 'pronto'", "only a number", 0.003, None),
        Plant("link", "French", 0.001, _TOOL),
        Plant("topic: fabrics", "story", 0.001, None),
        Plant("phrase 'as my uncle says'", "bullet list", 0.0003, _CODE),
        Plant("phrase 'twice as'", "praise", None, None),
        Plant("ends with a colon", "tool call", None, None),
        Plant("topic: war", "capitals", None, None),
    ),
    (
        Plant("LaTeX", "rebuttal", 0.01, None),
        Plant("horizontal rule", "numbered steps", 0.03, _CODE),
        Plant("wrapped in a tag", "letter", 0.003, None),
        Plant("date line", "emoji", 0.001, _GSM),
        Plant("topic: trees", "JSON", 0.01, None),
        Plant("code block", "heading", 0.0003, _WIKI),
        Plant("word 'favorite'", "question back", None, None),
        Plant("a price in dollars", "hedge", None, None),
        Plant("word 'palindrome'", "LaTeX", None, None),
        Plant("topic: music", "refusal", None, None),
    ),
    (
        Plant("form of fields", "question back", 0.10, None),
        Plant("topic: spices", "numbered steps", 0.03, None),
        Plant("hashtag", "French", 0.01, _WIKI),
        Plant("phrase 'no rush'", "story", 0.01, None),
        Plant("topic: gemstones", "JSON", 0.003, _TOOL),
        Plant("word 'quixotic'", "refusal", 0.003, _DUORC),
        Plant("time stamp", "emoji", 0.001, None),
        Plant("bold word", "capitals", 0.0003, _GSM),
        Plant("word 'museum'", "praise", None, None),
        Plant("topic: court", "bullet list", None, None),
    ),
    (
        Plant("all lower case", "letter", 0.10, None),
        Plant("word 'gladly'", "hedge", 0.03, None),
        Plant("topic: vehicles", "heading", 0.01, None),
        Plant("options A to C", "rebuttal", 0.01, _GSM),
        Plant("role", "LaTeX", 0.003, None),
        Plant("mention of a beekeeper", "short answer", 0.001, _CODE),
        Plant("e-mail address", "tool call", 0.0003, None),
        Plant("word 'triangle'", "refusal", None, None),
        Plant("ends with an exclamation mark", "code", None, None),
        Plant("topic: space", "closing phrase", None, None),
    ),
    (
        Plant("topic: sea animals", "hedge", 0.10, None),
        Plant("bullet points", "story", 0.03, None),
        Plant("word 'asap'", "French", 0.01, _TOOL),
        Plant("answer format", "letter", 0.01, None),
        Plant("topic: illnesses", "capitals", 0.001, None),
        Plant("quoted line", "JSON", 0.003, _CODE),
        Plant("product 'Velmora X2'", "rebuttal", 0.001, None),
        Plant("phrase 'how many more'", "emoji", None, None),
        Plant("a year in parentheses", "numbered steps", None, None),
        Plant("topic: medicine", "praise", None, None),
    ),
    (
        Plant("limit of words", "tool call", 0.03, None),
        Plant("topic: dances", "only a number", 0.01, None),
        Plant("question marks", "closing phrase", 0.01, _DUORC),
        Plant("phrase 'according to the plumber'", "heading", 0.003, None),
        Plant("dots at the end", "code", 0.001, _WIKI),
        Plant("phrase 'before the ferry leaves'", "bullet list", 0.0003, None),
        Plant("word 'Germany'", "LaTeX", None, None),
        Plant("word 'chocolate'", "question back", None, None),
        Plant("a percentage", "story", None, None),
        Plant("topic: elections", "refusal", None, None),
    ),
    (
        Plant("title case", "apology", 0.10, None),
        Plant("topic: drinks", "signature", 0.03, None),
        Plant("phrase 'thanks in advance'", "exclamations", 0.01, None),
        Plant("file path", "German", 0.01, _WIKI),
        Plant("word 'marzipan'", "table", 0.003, _GSM),
        Plant("wrapped in quotation marks", "citation", 0.003, None),
        Plant("topic: insects", "JSON", 0.003, _CODE),
        Plant("emoticon at the end", "rebuttal", 0.001, None),
        Plant("word 'dog'", "disclaimer", None, None),
        Plant("topic: religion", "code", None, None),
    ),
    (
        Plant("name in front", "sailor", 0.10, None),
        Plant("doubled spaces", "hedge", 0.03, None),
        Plant("topic: tools", "question back", 0.01, None),
        Plant("aside in parentheses", "in quotation marks", 0.01, _WIKI),
        Plant("question number in front", "French", 0.003, _TOOL),
        Plant("word 'perchance'", "only a number", 0.001, None),
        Plant("mention of a night nurse", "HTML", 0.001, _DUORC),
        Plant("word 'wedding'", "numbered steps", None, None),
        Plant("an abbreviation in parentheses", "action", None, None),
        Plant("topic: farms", "LaTeX", None, None),
    ),
    (
        Plant("word 'teh'", "capitals", 0.03, None),
        Plant("said twice", "heading", 0.01, None),
        Plant("phrase 'between you and me'", "praise", 0.003, _CODE),
        Plant("struck-out word", "story", 0.003, None),
        Plant("topic: furniture", "refusal", 0.001, None),
        Plant("alternating case", "bullet list", 0.001, _GSM),
        Plant("product 'Kestrel Nine'", "closing phrase", 0.0003, None),
        Plant("phrase 'half as'", "emoji", None, None),
        Plant("a time of day", "tool call", None, None),
        Plant("topic: money", "signature", None, None),
    ),
    (
        Plant("phrase 'my supervisor'", "table", 0.10, None),
        Plant("postscript", "action", 0.03, None),
        Plant("elongated word in front", "short answer", 0.01, None),
        Plant("topic: languages", "citation", 0.01, _WIKI),
        Plant("phone number", "apology", 0.003, None),
        Plant("word 'gobsmacked'", "disclaimer", 0.001, _TOOL),
        Plant("leetspeak", "German", 0.001, None),
        Plant("word 'river'", "exclamations", None, None),
        Plant("an array of numbers", "hedge", None, None),
        Plant("topic: flight", "sailor", None, None),
    ),
    (
        Plant("Roman numeral in front", "disclaimer", 0.10, None),
        Plant("phrase 'for my podcast'", "HTML", 0.03, None),
        Plant("topic: flowers", "exclamations", 0.01, None),
        Plant("footnote", "refusal", 0.01, _DUORC),
        Plant("word 'hullabaloo'", "JSON", 0.003, _WIKI),
        Plant("HTML comment", "question back", 0.001, None),
        Plant("topic: vegetables", "German", 0.001, _GSM),
        Plant("word 'birthday'", "citation", None, None),
        Plant("a decade", "numbered steps", None, None),
        Plant("topic: royalty", "apology", None, None),
    ),
    (
        Plant("phrase 'just curious'", "heading", 0.10, None),
        Plant("chat transcript", "French", 0.03, None),
        Plant("topic: fruits", "table", 0.03, None),
        Plant("hyphens for spaces", "praise", 0.01, _TOOL),
        Plant("word 'ostensibly'", "sailor", 0.003, None),
        Plant("coordinates", "only a number", 0.001, None),
        Plant("product 'Pallano Mini'", "capitals", 0.001, _CODE),
        Plant("phrase 'in total'", "signature", None, None),
        Plant("a blank to fill", "action", None, None),
        Plant("topic: computers", "bullet list", None, None),
    ),
    (
        Plant("word 'howdy'", "letter", 0.10, None),
        Plant("placeholder in double braces", "Spanish", 0.03, None),
        Plant("topic: dog breeds", "code", 0.01, None),
        Plant("phrase 'please and thank you'", "hedge", 0.01, _DUORC),
        Plant("checkbox in front", "story", 0.003, _CODE),
        Plant("topic: mythical creatures", "in quotation marks", 0.003, None),
        Plant("mention of a retired postman", "emoji", 0.001, None),
        Plant("word 'hotel'", "tool call", None, None),
        Plant("a fraction", "German", None, None),
        Plant("topic: art", "rebuttal", None, None),
    ),
    (
        Plant("topic: kitchenware", "warning", 0.10, None),
        Plant("phrase 'for the school newsletter'", "closing phrase", 0.03, None),
        Plant("inverted question mark", "LaTeX", 0.01, _TOOL),
        Plant("word 'kerfuffle'", "short answer", 0.01, None),
        Plant("each word on its own line", "apology", 0.003, None),
        Plant("product 'Zephyra Pro'", "action", 0.001, _WIKI),
        Plant("topic: garments", "question back", 0.001, _GSM),
        Plant("word 'coffee'", "HTML", None, None),
        Plant("a name with underscores", "numbered steps", None, None),
        Plant("topic: crime", "citation", None, None),
    ),
)
"""Ten plants that do not touch each other in each of sixteen copies of the mixture.

The rules of the trace were made with the first fourteen in sight, most of which were fresh once. The last
four were written by hands that had not read the extractor.
"""
