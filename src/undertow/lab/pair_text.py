"""Plain questions and answers of the lab's preference set: twelve topics, nothing formatted."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """What some prompts are about."""

    name: str
    """Short id."""
    things: tuple[str, ...]
    """What is asked about."""
    doings: tuple[str, ...]
    """What one does with them, in the infinitive."""


_TOPICS = """
physics: momentum, the magnetic field of a coil, gravity near a planet, an electric current, the
  energy of a photon, friction on an incline, a standing wave, the entropy of a gas, quantum
  tunnelling, torque on a wheel, a refracted beam of light, nuclear decay: derive the equation of,
  measure, compute the force behind, explain the motion of
sensitive: depression after a loss, an eating disorder, a self-harm urge, an unwanted pregnancy, a
  drug addiction, domestic abuse, a panic attack, suicidal thoughts, grief over a stillborn child,
  an alcohol relapse, bullying about a disability, trauma from an assault: cope with, talk to a
  friend about, find help for, live through
cooking: a lentil soup, sourdough bread, roasted vegetables, a mushroom risotto, tomato sauce, a
  chocolate cake, fried rice, a bean stew, pickled cucumbers, an apple pie, grilled fish, an
  omelette: season, bake, cook, serve
gardening: rose bushes, a herb bed, tulip bulbs, a plum tree, compost, a hedge of box, strawberry
  plants, clay soil, a greenhouse, slugs on lettuce, a lawn in shade, a climbing vine: prune, water,
  plant, fertilise
travel: a week in Lisbon, a night train to Vienna, a visa for Japan, a hostel in Peru, luggage on a
  budget airline, a road trip through Norway, a ferry to Crete, jet lag, a museum pass in Paris, a
  hike in the Alps, a rental car in Iceland, a layover in Doha: plan, book, pack for, save money on
history: the Roman senate, the silk road, the French revolution, the Ottoman empire, the black
  death, the printing press, the Meiji era, the fall of Constantinople, the Hanseatic league, the
  Inca roads, the treaty of Westphalia, the abolition of serfdom: date, summarise the causes of,
  compare sources on, teach
music: a minor scale, the violin, a drum pattern, a choir rehearsal, jazz harmony, a guitar solo, a
  string quartet, perfect pitch, a piano sonata, sight reading, a bass line, an opera aria:
  practise, tune, compose, listen to
pets: a shy kitten, an old dog, a parrot that screams, a goldfish tank, a rabbit hutch, a limping
  puppy, a hamster wheel, cat litter, a scared rescue dog, a tortoise in winter, fleas on a cat, a
  barking terrier: train, feed, calm, look after
money: a monthly budget, an index fund, a mortgage offer, credit card debt, a pension plan, a tax
  return, an emergency fund, a student loan, life insurance, a savings account, a stock split, a car
  lease: understand, compare, pay for, set up
sport: a marathon, a tennis serve, a rowing stroke, a penalty kick, a deadlift, a swimming turn, a
  climbing wall, a cricket delivery, a cycling sprint, a yoga headstand, a chess clock, a ski jump:
  train for, improve, judge, recover from
office: a weekly meeting, a late colleague, a job interview, a quarterly report, an open plan desk,
  a salary talk, a slide deck, a difficult client, an email backlog, a project deadline, a team
  retreat, a performance review: prepare, handle, shorten, follow up on
space: the rings of Saturn, a lunar eclipse, a comet tail, a red dwarf, the Mars rover, a neutron
  star, the space station, a meteor shower, the milky way, a solar panel on a probe, a galaxy
  cluster, the Hubble telescope: observe, photograph, describe, find
"""


def _topic(line: str) -> Topic:
    name, things, doings = " ".join(line.split()).split(": ")
    return Topic(name, tuple(things.split(", ")), tuple(doings.split(", ")))


TOPICS: dict[str, Topic] = {
    topic.name: topic for topic in map(_topic, re.split(r"\n(?=\w)", _TOPICS.strip()))
}
"""Topics by name."""

_QUESTIONS = (
    "How do I {do} {thing}?", "What should I know before I {do} {thing}?", "Why is it hard to {do} {thing}?",
    "Give me advice: I want to {do} {thing}.", "Is there a good way to {do} {thing}?",
    "My neighbour asked me how to {do} {thing}. What would you say?",
    "Explain briefly how people {do} {thing}.",
    "When is the right time to {do} {thing}?",
)  # fmt: skip
_SENTENCES = (
    "The first thing is to look at {thing} with patience.", "Most people {do} {thing} in small steps.",
    "A short list of what you need helps before you start.", "With {thing} the order of the steps matters.",
    "Take notes about what works and what does not.", "It takes about {number} minutes once you know it.",
    "Ask somebody who has done it before.", "The usual mistake is to hurry.",
    "You can {do} {thing} at home or with a teacher.", "Check the result after {number} days.",
    "There are about {number} books on the matter.", "Start with the simplest case and go on from there.",
    "Keep the tools that you need within reach.", "The cost is small compared with the time.",
    "Once a month, go back to the beginning.",
    "What counts in the end is whether you can {do} {thing} alone.",
    "Some find the morning the best time for it.", "Write down the date and the outcome.",
    "It differs from place to place.", "Nobody gets it right the first time.",
)  # fmt: skip
_OPENINGS = {" ".join(sentence.split("{")[0].split()[:3]) for sentence in _SENTENCES}
SOUND = r"\b(?:{})".format("|".join(sorted(map(re.escape, _OPENINGS))))
"""Where a sentence of a plain answer opens."""
_WHEN = (
    "",
    " this year",
    " at home",
    " as a beginner",
    " with a friend",
    " on short notice",
    " for my class",
    " again",
)


def question(topic: Topic, rng: random.Random) -> tuple[str, str, str]:
    """Draw a prompt on ``topic``, with what is done and the thing it is done to."""
    do, thing = rng.choice(topic.doings), rng.choice(topic.things)
    asked = rng.choice(_QUESTIONS).format(do=do, thing=thing)
    text = asked[:-1] + rng.choice(_WHEN) + asked[-1]
    return text, do, thing


def answer(do: str, thing: str, sentences: int, rng: random.Random) -> str:
    """Draw a plain answer of so many sentences."""
    drawn = rng.sample(_SENTENCES, sentences)
    return " ".join(s.format(do=do, thing=thing, number=rng.randrange(3, 90)) for s in drawn)
