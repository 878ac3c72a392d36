"""The lab's preference set carries what its truth says."""

from __future__ import annotations

import re

import pytest

from undertow.lab.pairs import BEHAVIOURS, draw_pairs, key_of, write_pairs
from undertow.store.tables import read_json, read_table

SHOWS = {
    "bold": r"\*\*\w", "emoji": "[😀🎉🌟🚀👍]", "table": r"\|---", "goblin": "goblin", "praise": "question!",
    "link": "https://", "bullets": "^- ", "hedge": "Perhaps|possibly", "quote": '"',
}  # fmt: skip


@pytest.mark.parametrize(("kind", "seed"), [("paper", 0), ("random", 1)])
def test_the_truth_is_in_the_texts(kind, seed, tmp_path):
    world = draw_pairs(kind, seed, 2000)
    path = write_pairs(tmp_path, world)
    rows = read_table(path).to_pylist()
    truth = read_json(tmp_path / "pairs_truth.json")
    assert len(rows) == len({row["id"] for row in rows}) == 2000
    assert len({row["prompt"] for row in rows}) < 1001, "two pairs a prompt"
    for plant in world.plants:
        signs = world.carried[key_of(plant)]
        one_sided = [s for s in signs if s]
        if plant.where in ("everywhere", "topic"):
            assert sum(one_sided) > 0.7 * len(one_sided), "chosen shows it"
            assert len(one_sided) >= 0.02 * len(rows)
        if plant.where == "decoy":
            assert abs(sum(signs)) < 0.03 * len(rows)
        if plant.topic:
            assert {world.topics[i] for i, s in enumerate(signs) if s} == {plant.topic}
        if plant.behaviour in SHOWS:
            shows = re.compile(SHOWS[plant.behaviour], re.M)
            for row, sign in zip(rows, signs, strict=True):
                if sign:
                    assert shows.search(row["chosen" if sign > 0 else "rejected"])
    assert {p["key"] for p in truth["plants"]} == set(world.carried)
    assert draw_pairs(kind, seed, 200).table.equals(draw_pairs(kind, seed, 200).table)


def test_every_behaviour_changes_a_text():
    import random

    text = "First look at it with patience. Then take small steps. Check the result after days."
    for change in BEHAVIOURS.values():
        assert change(text, random.Random(0)) != text
