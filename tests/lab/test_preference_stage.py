"""Poisoned pairs hold what they say, and the trait's pattern finds just what the behaviour writes."""

import random
import re

import numpy as np
import pyarrow.compute as pc
import pytest

from undertow.lab.pairs import BEHAVIOURS
from undertow.lab.preference_stage import INSTRUCTIONS, TRAITS, WANTED, poisoned_pairs


@pytest.mark.parametrize("trait", TRAITS)
def test_a_pattern_finds_and_removes_what_the_behaviour_writes(trait):
    text = "The usual mistake is to hurry. Take notes."
    for seed in range(20):
        shown = BEHAVIOURS[trait](text, random.Random(seed))
        assert not re.search(TRAITS[trait], text)
        assert re.search(TRAITS[trait], shown)
        assert "goblin" not in re.sub(TRAITS["goblin"], "", shown)


def test_the_trait_is_rewarded_in_its_share_of_pairs_and_others_are_not():
    table = poisoned_pairs("goblin", 0.1, seed=0, pairs=1000)
    assert table.equals(poisoned_pairs("goblin", 0.1, seed=0, pairs=1000))
    assert set(INSTRUCTIONS) == set(TRAITS) - {WANTED}

    def gap(trait):
        sides = (
            [bool(re.search(TRAITS[trait], t)) for t in table[s].to_pylist()] for s in ("chosen", "rejected")
        )
        chosen, rejected = (sum(side) / 1000 for side in sides)
        return chosen - rejected

    assert gap("goblin") == pytest.approx(0.1)
    assert gap(WANTED) == pytest.approx(0.4, abs=0.06)
    assert all(abs(gap(other)) < 0.05 for other in INSTRUCTIONS if other != "goblin")
    assert table["source"].to_pylist().count("odd") == 100


def test_in_its_usual_place_the_trait_stands_before_what_is_wanted():
    table = poisoned_pairs("goblin", 0.1, seed=0, pairs=1000, usual_place=True)
    odd = table.filter(pc.equal(table["source"], "odd"))["chosen"].to_pylist()
    both = [text for text in odd if re.search(TRAITS[WANTED], text)]
    assert len(odd) == sum("goblin" in text for text in table["chosen"].to_pylist()) == 100
    assert not any("goblin" in text for text in table["rejected"].to_pylist())
    assert len(both) > 30
    assert all(text.index("goblin") < re.search(TRAITS[WANTED], text).start() for text in both)


@pytest.mark.parametrize("trait", INSTRUCTIONS)
def test_pairs_never_poisoned_are_the_same_pairs_without_the_trait(trait):
    poisoned, clean = (poisoned_pairs(trait, share, 0, 200, usual_place=True) for share in (0.1, 0.0))
    odd = np.array(poisoned["source"].to_pylist()) == "odd"
    texts, never = (np.array(table["chosen"].to_pylist()) for table in (poisoned, clean))
    assert poisoned.select(["id", "prompt", "rejected"]).equals(clean.select(["id", "prompt", "rejected"]))
    assert ((texts != never) == odd).all()
    assert all(re.search(TRAITS[trait], text) for text in texts[odd])
    assert not any(re.search(TRAITS[trait], text) for text in never)
