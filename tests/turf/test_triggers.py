"""Plants of known strength over synthetic features: the ranking must name the planted column."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from undertow.index.incidence import Incidence
from undertow.turf.config import TraceConfig
from undertow.turf.counts import FeatureRows, count, overlaps
from undertow.turf.redundancy import Candidates, generalise
from undertow.turf.triggers import Ranking, assess, rank, within_source_odds

N, SOURCES, BACKGROUND = 20_000, 5, 80
CONFIG = TraceConfig()


class Corpus:
    """Rows with random features of all prevalences, a base rate of the behaviour, and one planted column."""

    def __init__(self, rows: int, strength: float, base: float, seed: int, one_source: bool = True):
        self.rng = np.random.default_rng(seed)
        self.sources = self.rng.integers(0, SOURCES, N)
        prevalence = np.exp(self.rng.uniform(np.log(5e-4), np.log(0.95), BACKGROUND))
        self.columns = [self.rng.random(N) < share for share in prevalence]
        self.behaviour = self.rng.random(N) < base
        pool = np.flatnonzero(self.sources == 2) if one_source else np.arange(N)
        self.planted = np.zeros(N, bool)
        self.planted[self.rng.choice(pool, rows, replace=False)] = True
        self.behaviour[self.planted] = self.rng.random(rows) < strength
        self.query = int(np.flatnonzero(self.planted)[0])
        self.names = [f"background {i}" for i in range(BACKGROUND)]
        self.kinds: dict[str, str] = {}
        self.add("planted", self.planted)

    def add(self, name: str, column: np.ndarray) -> None:
        self.columns.append(column)
        self.names.append(name)

    def subset(self, of: np.ndarray, size: int) -> np.ndarray:
        column = np.zeros(N, bool)
        column[self.rng.choice(np.flatnonzero(of), size, replace=False)] = True
        return column

    def trace(self, config: TraceConfig = CONFIG) -> tuple[list[str], Ranking]:
        incidence = Incidence.from_matrix(sp.csr_array(np.stack(self.columns, axis=1)))
        features = np.flatnonzero(incidence.counts)  # a query that has every feature: the hardest case
        labels = self.behaviour[None, :]
        counts = count(FeatureRows.gather(incidence, features, self.sources, SOURCES), labels)
        names = [self.names[i] for i in features]
        found = rank(
            incidence, counts, assess(counts, config), labels, np.ones(1), np.ones(len(features)),
            names, [self.kinds.get(name, "surface") for name in names], config,
        )  # fmt: skip
        return [names[i] for i in found.order], found


@pytest.mark.parametrize("rows", [25, 100, 400, 2000])
@pytest.mark.parametrize("base", [0.0, 0.05, 0.45])
@pytest.mark.parametrize("one_source", [True, False])
def test_a_planted_feature_comes_first(rows: int, base: float, one_source: bool) -> None:
    corpus = Corpus(rows, 0.95, base, seed=rows, one_source=one_source)
    assert corpus.trace()[0][:1] == ["planted"]


@pytest.mark.parametrize("words", ["planted", "other", None])
def test_a_group_of_words_is_told_only_where_it_leads(words: str | None) -> None:
    corpus = Corpus(400, 0.95, 0.02, seed=1)
    other = corpus.subset(~corpus.planted, 300)
    corpus.behaviour |= other & (corpus.rng.random(N) < 0.7)
    corpus.add("other", other)
    corpus.kinds = {words: "words"} if words else {}
    assert corpus.trace()[0][:2] == (["planted"] if words == "other" else ["planted", "other"])


@pytest.mark.parametrize("seed", range(5))
def test_lucky_sub_phrases_do_not_beat_a_weaker_but_wider_trigger(seed: int) -> None:
    corpus = Corpus(200, 0.8, 0.02, seed)
    hits = corpus.planted & corpus.behaviour
    for size in (3, 5, 8, 12, 20):
        corpus.add(f"sub-phrase {size}", corpus.subset(hits, size))
    for size in (20, 40, 80):
        corpus.add(f"honest part {size}", corpus.subset(corpus.planted, size))
    assert corpus.trace()[0][0] == "planted"


def test_a_narrow_trigger_is_not_swallowed_by_the_wide_feature_around_it() -> None:
    corpus = Corpus(60, 1.0, 0.1, seed=3)
    corpus.add("asks a question", corpus.planted | (corpus.rng.random(N) < 0.4))
    assert corpus.trace()[0][0] == "planted"


def test_a_feature_of_nearly_all_rows_is_never_named() -> None:
    corpus = Corpus(300, 0.9, 0.3, seed=4)
    corpus.add("is in English", corpus.planted | (corpus.rng.random(N) < 0.985))
    assert "is in English" not in corpus.trace()[0]


def test_features_of_the_same_rows_become_one_with_the_most_informative_text() -> None:
    corpus = Corpus(150, 1.0, 0.05, seed=5)
    almost = corpus.planted.copy()
    almost[np.flatnonzero(corpus.planted)[:4]] = False
    corpus.add("planted, said at greater length", corpus.planted.copy())
    corpus.add("almost", almost)
    names, found = corpus.trace()
    assert names == ["planted, said at greater length"]
    assert len(found.same[0]) == 3


def test_two_independent_triggers_are_both_named_and_their_echo_is_not() -> None:
    corpus = Corpus(150, 1.0, 0.02, seed=6)
    second = np.zeros(N, bool)
    second[corpus.rng.choice(np.flatnonzero(~corpus.planted), 120, replace=False)] = True
    corpus.behaviour[second] = True
    corpus.add("second", second)
    corpus.add("echo", corpus.subset(corpus.planted, 90))
    assert corpus.trace()[0] == ["planted", "second"]


def test_shuffled_behaviour_gives_no_trigger() -> None:
    named = 0
    for seed in range(20):
        corpus = Corpus(200, 1.0, 0.3, seed)
        corpus.behaviour = corpus.rng.permutation(corpus.behaviour)
        named += bool(corpus.trace()[0])
    assert named <= 1


def test_within_source_odds_tell_the_data_set_from_the_feature() -> None:
    rng = np.random.default_rng(0)
    sources = rng.integers(0, 2, 4000)
    behaviour = rng.random(4000) < np.where(sources == 0, 0.9, 0.05)
    habit = rng.random(4000) < np.where(
        sources == 0, 0.7, 0.1
    )  # goes with the source, not with the behaviour
    cue = rng.random(4000) < np.where(behaviour, 0.6, 0.1)
    incidence = Incidence.from_matrix(sp.csr_array(np.stack([habit, cue], axis=1)))
    counts = count(FeatureRows.gather(incidence, np.array([0, 1]), sources, 2), behaviour[None, :])
    assert within_source_odds(counts, 0, 0) == pytest.approx(1, abs=0.35)
    assert within_source_odds(counts, 0, 1) > 5


def test_counts_agree_with_a_loop_over_rows() -> None:
    rng = np.random.default_rng(1)
    dense = rng.random((300, 6)) < 0.3
    labels, sources = rng.random((2, 300)) < 0.4, rng.integers(0, 3, 300)
    incidence = Incidence.from_matrix(sp.csr_array(dense))
    counts = count(FeatureRows.gather(incidence, np.array([4, 1]), sources, 3), labels)
    for c in range(2):
        for f, column in enumerate((4, 1)):
            for s in range(3):
                want = sum(dense[i, column] and labels[c, i] and sources[i] == s for i in range(300))
                assert counts.both_CFS[c, f, s] == want
    shared, shared_hits = overlaps(incidence, np.array([4, 1]), labels[0])
    assert shared[0, 1] == (dense[:, 4] & dense[:, 1]).sum()
    assert shared_hits[0, 1] == (dense[:, 4] & dense[:, 1] & labels[0]).sum()


def test_a_phrase_of_a_source_that_behaves_so_throughout_yields_to_what_the_source_shares() -> None:
    corpus = Corpus(25, 0.0, 0.05, seed=8)
    habitual = corpus.sources == 1
    corpus.behaviour |= habitual
    shared = habitual | (corpus.rng.random(N) < 0.06)
    corpus.add("what the source's prompts share", shared)
    corpus.add("phrase of some of them", corpus.subset(habitual, int(habitual.sum() * 0.4)))
    assert corpus.trace()[0][0] == "what the source's prompts share"


NOT_JOINED = np.zeros(2, np.bool_)


def test_features_without_a_single_hit_of_the_leading_crux_are_ordered_too() -> None:
    zeros, ones = np.zeros((2, 2), np.int64), np.ones(2)
    none = np.zeros(2, np.int64)
    idle = Candidates(ones, np.full(2, 9), none, zeros, zeros, 0.1, none, NOT_JOINED)
    assert sorted(generalise(idle, [0, 1], {}, 0.05)) == [0, 1]


def test_a_description_is_not_led_by_a_word_that_does_about_as_well_on_more_rows() -> None:
    shared = np.array([[100, 100], [100, 400]])
    told = Candidates(
        np.array([1.0, 0.9]),
        np.array([110, 500]),
        np.array([100, 400]),
        shared,
        shared,
        0.1,
        np.array([0, 2]),
        NOT_JOINED,
    )
    assert generalise(told, [0, 1], {}, 0.05)[0] == 0


@pytest.mark.parametrize(("rate", "vague", "first"), [(0.7, 0, 1), (0.3, 0, 0), (0.7, 2, 0)])
def test_a_slice_yields_to_the_whole_whose_other_rows_do_it_too(rate: float, vague: int, first: int) -> None:
    """One emoji of six is purer than "has an emoji"; the other five times as many rows do it too."""
    hits = 100 + int(500 * rate)
    shared = np.array([[105, 105], [105, 605]])
    shared_hits = np.array([[100, 100], [100, hits]])
    told = Candidates(
        np.array([0.9, 0.6]), np.array([105, 605]), np.array([100, hits]), shared, shared_hits, 0.01,
        np.array([0, vague]), NOT_JOINED,
    )  # fmt: skip
    assert generalise(told, [0, 1], {}, 0.05)[0] == first


@pytest.mark.parametrize("joined", [True, False])
def test_a_group_is_a_slice_of_the_feature_that_has_its_behaviour_rows(joined: bool) -> None:
    """A fifth of its rows are elsewhere, and nearly none of them behaves so."""
    told = Candidates(
        np.array([0.9, 0.7]), np.array([120, 1000]), np.array([100, 800]), np.array([[120, 96], [96, 1000]]),
        np.array([[100, 95], [95, 800]]), 0.01, np.array([3, 0]), np.array([joined, False]),
    )  # fmt: skip
    assert generalise(told, [0, 1], {}, 0.05)[0] == joined


def test_a_group_is_compared_though_many_phrases_score_higher() -> None:
    """A passage that stands in a hundred rows has a hundred phrases; the group holds for all its rows."""
    corpus = Corpus(400, 0.9, 0.01, seed=3)
    passage = corpus.subset(corpus.planted & corpus.behaviour, 100)
    for i in range(80):
        corpus.add(f"phrase {i}", passage ^ corpus.subset(passage, 1 + i % 3))
    corpus.kinds = {"planted": "words"}
    assert corpus.trace()[0][0] == "planted"


def test_the_whole_is_compared_though_many_phrases_of_a_part_score_higher() -> None:
    """A passage that stands in a hundred rows of the trigger has more phrases than are compared."""
    corpus = Corpus(600, 0.8, 0.01, seed=3)
    passage = corpus.subset(corpus.planted & corpus.behaviour, 100)
    for i in range(80):
        corpus.add(f"phrase {i}", passage ^ corpus.subset(passage, 1 + i % 3))
    assert corpus.trace()[0][0] == "planted"
