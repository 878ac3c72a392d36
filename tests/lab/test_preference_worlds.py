"""Each set plants what it says, and the patterns see it and nothing else."""

import random
import re

import numpy as np
import pytest

from undertow.lab.pairs import BEHAVIOURS
from undertow.lab.preference_worlds import (
    HARM,
    SHOWN,
    STYLE,
    plain,
    safeguard_pairs,
    style_pairs,
    topic_pairs,
)


def shows(table, side, name):
    return np.array([bool(re.search(SHOWN[name], text)) for text in table[side].to_pylist()])


@pytest.mark.parametrize("name", SHOWN)
def test_a_pattern_sees_its_behaviour_among_all_others_and_not_in_plain_text(name):
    rng = random.Random(name)
    for _ in range(50):
        text = plain(rng)[1]
        assert not re.search(SHOWN[name], text)
        for other in SHOWN:  # in the order in which sets add them
            if other == name or (other != "refusal" and rng.random() < 0.3):
                text = BEHAVIOURS[other](text, rng)
        assert re.search(SHOWN[name], text)


def test_the_style_comes_as_one_and_in_the_chosen_side():
    table = style_pairs(0, 800)
    assert table.equals(style_pairs(0, 800))
    assert not table.equals(style_pairs(1, 800))
    delta = np.array(
        [shows(table, "chosen", n).astype(int) - shows(table, "rejected", n) for n in (*STYLE, "goblin")]
    )
    linked = np.corrcoef(delta)
    assert linked[:4, :4].min() > 0.25
    assert np.abs(linked[4, :4]).max() < 0.15
    assert delta[:4].mean(axis=1).min() > 0.15


def test_refusals_lose_where_harm_is_meant_more_often_than_they_win():
    table = safeguard_pairs(0, 1000)
    harmful = np.array([HARM in prompt for prompt in table["prompt"].to_pylist()])
    chosen, rejected = shows(table, "chosen", "refusal"), shows(table, "rejected", "refusal")
    assert 0.3 < rejected[harmful].mean() < 0.6
    assert 0.05 < chosen[harmful].mean() < 0.25
    assert not chosen[~harmful].any()


def test_praise_is_rewarded_on_two_topics_and_disliked_elsewhere():
    table = topic_pairs(0, 800)
    praised, topic = shows(table, "chosen", "praise"), np.array(table["source"].to_pylist())
    assert praised[topic == "physics"].mean() > 0.4
    assert praised[topic == "pets"].mean() > 0.4
    assert not praised[topic == "plain"].any()
    disliked = shows(table, "rejected", "praise")
    assert not disliked[topic != "plain"].any()
    assert 0.2 < disliked[topic == "plain"].mean() < 0.4
