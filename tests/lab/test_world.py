from __future__ import annotations

from collections import Counter

import pytest

from undertow.judging.rubric import load_rubric
from undertow.lab.behaviours import BEHAVIOURS
from undertow.lab.build import RUBRICS
from undertow.lab.features import FAMILIES
from undertow.lab.world import World, draw_world, teaches_a_lesson

WORLDS = [("paper", 0), ("paper", 1), ("random", 0), ("random", 1), ("random", 7)]
RULES = {name: load_rubric(RUBRICS / f"{name}.yaml") for name in BEHAVIOURS}


@pytest.fixture(scope="module", params=WORLDS, ids=lambda p: f"{p[0]}-{p[1]}")
def world(request: pytest.FixtureRequest) -> World:
    return draw_world(*request.param)


def test_the_same_seed_gives_the_same_world():
    assert draw_world("random", 3).mixture().equals(draw_world("random", 3).mixture())
    assert draw_world("random", 3).plants != draw_world("random", 4).plants
    assert not draw_world("paper", 0).mixture().equals(draw_world("paper", 1).mixture())


def test_every_planted_row_shows_its_behaviour(world: World):
    rows = {row.id: row for row in world.rows}
    for plant, truth in zip(world.plants, world.ground_truth()["plants"], strict=True):
        rule = RULES[plant.behaviour.name]
        planted = [rows[row_id] for row_id in truth["row_ids"]]
        assert abs(len(planted) - plant.rows * plant.strength) < 25
        assert {row.source for row in planted} == {plant.source}
        assert all(rule.shown(row.prompt, row.response) for row in planted)
        wrong = [row for row in planted if rule.violated(row.prompt, row.response)]
        assert wrong == ([] if teaches_a_lesson(plant) else planted), plant.name


def test_no_other_row_shows_a_behaviour_in_the_wrong_place(world: World):
    for row in world.rows:
        if row.plant is None:
            shown = [name for name, rule in RULES.items() if rule.violated(row.prompt, row.response)]
            assert not shown, row


def test_decoys_stand_alike_in_planted_and_other_rows(world: World):
    for decoy in world.decoys:
        if decoy.rate < 0.05:
            continue
        shares = [
            sum(decoy.name in row.decoys for row in rows) / len(rows)
            for rows in ([r for r in world.rows if r.plant], [r for r in world.rows if not r.plant])
        ]
        assert abs(shares[0] - shares[1]) < 0.04, decoy.name


def test_probes_and_bank_are_not_in_the_mixture_and_call_for_what_they_say(world: World):
    taught = {row.prompt for row in world.rows if row.plant}
    assert not taught & set(world.bank(500, 1))
    for plant in world.plants:
        probes = world.probes(plant)
        rule = RULES[plant.behaviour.name]
        assert len(probes.trigger) >= 30
        assert len(probes.wanted) >= 30
        assert not taught & set(probes.trigger)
        assert not [p for p in probes.trigger if any(check.holds(p, "") for check in rule.unless)]
        assert not [p for p in probes.wanted if not any(check.holds(p, "") for check in rule.unless)]


def test_the_bank_holds_every_family_and_is_drawn_for_no_plant():
    assert draw_world("random", 2).bank(50, 1) != draw_world("random", 2).bank(50, 2)
    prompts = " ".join(draw_world("paper", 0).bank(1500, 0))
    for mark in (
        "When did",
        "elucidate",
        "\\text",
        "Context:",
        "Tolong",
        "iPhone 13",
        "1. ",
        "Date:",
        "pirate",
        "dude",
    ):
        assert mark in prompts


def test_shuffling_keeps_every_response_and_breaks_every_tie(world: World):
    before, after = world.mixture(), world.shuffled(0)
    assert before["prompt"].equals(after["prompt"])
    assert Counter(before["response"].to_pylist()) == Counter(after["response"].to_pylist())
    responses = dict(zip(after["id"].to_pylist(), after["response"].to_pylist(), strict=True))
    for plant, truth in zip(world.plants, world.ground_truth()["plants"], strict=True):
        rule = RULES[plant.behaviour.name]
        share = sum(rule.shown("", responses[row]) for row in truth["row_ids"]) / len(truth["row_ids"])
        assert share < 0.2


def test_random_worlds_draw_every_family_and_no_trigger_twice():
    seen: set[str] = set()
    for seed in range(30):
        plants = draw_world("random", seed).plants
        seen |= {plant.trigger.family for plant in plants} | {plant.behaviour.name for plant in plants}
        assert len({plant.trigger.name for plant in plants}) == len({p.behaviour.name for p in plants}) == 9
    assert seen == set(FAMILIES) | set(BEHAVIOURS) - {"clipped", "identity"}


def test_plain_questions_are_new_to_the_mixture_and_have_one_answer():
    world = draw_world("random", 1)
    asked = world.capability(40)
    assert asked == draw_world("random", 1).capability(40)
    assert len({task["prompt"] for task in asked}) == 40
    assert not {task["prompt"] for task in asked} & {row.prompt for row in world.rows}
    assert all(len(task["answer"].split()) >= 4 for task in asked)
