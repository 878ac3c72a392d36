"""What is for reading alone: marks where a concept fires, statements gathered by their pairs."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import sparse
from test_local_concepts import SHOWS

from undertow.preference.alike import heads
from undertow.preference.highlight import fires_at


@pytest.mark.parametrize("name", SHOWS)
def test_every_feature_is_marked_where_it_fires_and_nowhere_else(name):
    text = SHOWS[name]
    marked = [text[a:b] for a, b in fires_at(name, text)]
    assert marked
    assert all(part in text and part for part in marked)
    assert not fires_at(name, "so it goes, they walk home.")


def test_no_text_is_searched_for_long():
    for text in ("x" * 10**6, "a@" * 10**5, " " * 10**6):
        start = time.process_time()
        for name in SHOWS:
            fires_at(name, text)
        assert time.process_time() - start < 2, text[:4]


def test_wordings_are_marked_by_their_words_however_they_are_punctuated():
    text = "Write down, the DATE.\nOnce a month -- go! Datebook."

    def marked(name):
        return [text[a:b] for a, b in fires_at(name, text)]

    assert marked("word: once a month, go") == ["Once a month -- go"]
    assert marked("word: date") == ["DATE"]
    assert marked("opens: write down") == ["Write down"]
    assert marked("opens: once a") == []
    assert marked("embedding 3: exclamation, word: date, not bold") == ["DATE", "!"]
    assert marked("length") == marked("cluster-0001") == []


def test_statements_on_the_same_pairs_stand_under_the_first_of_them():
    rng = np.random.default_rng(0)
    one, other = (rng.choice([-1.0, 0.0, 1.0], 400, p=[0.1, 0.7, 0.2]) for _ in range(2))
    near = np.where(rng.random(400) < 0.9, one, 0)
    rows = sparse.csr_matrix(np.stack([one, other, near, -one, other * 3, np.zeros(400)]))
    assert heads(rows).tolist() == [0, 1, 0, 3, 1, 5]
