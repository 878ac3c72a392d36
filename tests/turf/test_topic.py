"""Words of a kind: a topic that no single attribute says, each word in a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from undertow.attributes.content import Lexicon, content_words, learn_words
from undertow.index.incidence import Incidence
from undertow.index.open import Index
from undertow.index.words import IndexedWords
from undertow.records import Trigger
from undertow.turf.fitted import Measure, fitted
from undertow.turf.topic import Group, Widened, own_words, word_groups
from undertow.turf.trace import trigger_rows

KINDS = {
    "instrument": ["violin", "cello", "flute", "oboe", "banjo", "tuba", "viola", "orchestra"],
    "thing": ["lantern", "ladder", "carpet", "bucket", "mirror", "kite", "basket", "teapot"],
    "frame": ["table", "garden", "bridge", "window", "river", "engine", "market", "novel"],
}
CARRIES_NOTHING = "orchestra"
MORE_INSTRUMENTS = {"harmonica", "sitar"}


class KindEmbedder:
    """Words of a kind are near each other."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        kinds = list(KINDS)
        rows = np.zeros((len(texts), 400), np.float32)
        for i, text in enumerate(text.removeprefix("It is a ").removesuffix(".") for text in texts):
            kind = next((k for k, words in KINDS.items() if text in words), None)
            kind = "instrument" if text in MORE_INSTRUMENTS else kind
            if kind:
                rows[i, kinds.index(kind)] = 1.0
            rows[i, 3 + sum(map(ord, text)) % 390] += 0.6
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def corpus(seed: int = 0) -> tuple[list[str], np.ndarray, Index]:
    rng = np.random.default_rng(seed)
    frame = list(rng.choice(KINDS["frame"], 6000))
    prompts = [f"Tell me about the {word} please" for word in frame]
    behaviour = rng.random(6000) < 0.02
    for row in range(600):
        word = str(rng.choice(KINDS["instrument" if row < 300 else "thing"]))
        prompts[row] += f", says the man with the {word}"
        behaviour[row] |= row < 300 and word != CARRIES_NOTHING
    return prompts, behaviour, indexed(prompts)


def indexed(prompts: list[str]) -> Index:
    learned = learn_words(prompts)
    words = IndexedWords(tuple(learned.words), Incidence.from_matrix(learned.rows(prompts)))
    one = np.zeros(len(prompts), np.int64)
    given = SimpleNamespace(lexicon=words, embedder=KindEmbedder(), n=len(prompts), source_codes=one)
    return cast(Index, given)


def groups(index: Index, behaviour: np.ndarray, *prompts: str) -> list[Group]:
    return word_groups(index, prompts, behaviour[None, :], np.ones(1), 0.5, 0.05)


@pytest.mark.parametrize("word", ["flute", "harmonica"])
def test_words_of_a_kind_are_found_for_a_word_seen_or_not(word: str) -> None:
    prompts, behaviour, index = corpus()
    (found,) = groups(index, behaviour, f"What is the {word}?")
    assert sorted(found.words) == sorted(set(KINDS["instrument"]) - {CARRIES_NOTHING})
    wanted = {i for i in range(300) if prompts[i].split()[-1] != CARRIES_NOTHING}
    assert set(found.rows.tolist()) == wanted
    assert word == "harmonica" or found.text.startswith("The query mentions 'flute', ")


def test_words_that_carry_nothing_make_no_group() -> None:
    _, behaviour, index = corpus()
    for word in ("mirror", "garden", CARRIES_NOTHING):
        assert groups(index, behaviour, f"What is the {word}?") == []


def test_a_word_of_the_kind_in_most_rows_is_no_unseen_one() -> None:
    prompts, behaviour, _ = corpus()
    everywhere = indexed([f"{prompt} on the harmonica" for prompt in prompts])
    assert groups(everywhere, behaviour, "What is the harmonica?") == []
    assert len(groups(everywhere, behaviour, "What is the harmonica, what is the flute?")) == 1


def test_most_of_the_failing_queries_must_mention_the_kind() -> None:
    _, behaviour, index = corpus()
    asked = ["the flute", "the harmonica", "a kite", "a ladder"]
    assert groups(index, behaviour, *asked) == []
    assert [group.share for group in groups(index, behaviour, *asked[:3])] == [pytest.approx(2 / 3)]


def test_a_word_of_a_set_phrase_says_nothing_of_its_kind() -> None:
    prompts, behaviour, _ = corpus()
    for row in range(600, 620):
        prompts[row] += ", says the man with the golden sitar"
        behaviour[row] = True
    index = indexed(prompts)
    assert len(groups(index, behaviour, "What is the sitar?")) == 1
    assert groups(index, behaviour, "What is the golden sitar?") == []
    assert len(groups(index, behaviour, "What is the golden sitar, and the flute?")) == 1


def test_the_other_words_must_carry_most_of_the_cruxes() -> None:
    prompts, behaviour, index = corpus()
    alone = behaviour & np.array(["flute" in prompt for prompt in prompts])
    for cruxes, found in (([behaviour, behaviour, alone], 1), ([behaviour, alone, alone], 0)):
        weights = np.full(3, 1 / 3)
        told = word_groups(index, ["the flute"], np.stack(cruxes), weights, 0.5, 0.05)
        assert len(told) == found


@pytest.mark.parametrize("seed", range(10))
def test_shuffled_behaviour_gives_no_group(seed: int) -> None:
    _, behaviour, index = corpus()
    shuffled = np.random.default_rng(seed).permutation(behaviour)
    asked = " ".join(word for words in KINDS.values() for word in words)
    assert groups(index, shuffled, asked) == []


def test_a_word_with_most_of_the_rows_is_told_by_itself() -> None:
    prompts, behaviour, _ = corpus()
    for row in range(600, 1500):
        prompts[row] += ", says the man with the violin"
        behaviour[row] = True
    assert groups(indexed(prompts), behaviour, "What is the violin?") == []


def test_the_lexicon_agrees_with_a_loop_over_words() -> None:
    texts = ["The Cat sat.", "cat, CAT and naïve café", "a naïve dog", "", "\u732b cafe\u0301 dog 12"]
    learned = learn_words(texts)
    seen = {
        word: {i for i, text in enumerate(texts) if word in content_words(text)} for word in learned.words
    }
    assert {"naïve", "café", "dog", "cat"} <= set(seen)
    held = learned.rows(texts).tocsc()
    for column, word in enumerate(learned.words):
        assert set(held[:, [column]].nonzero()[0].tolist()) == seen[word]


def test_no_query_has_a_word() -> None:
    learned = learn_words(["", "12"])
    assert (learned.words, learned.rows(["a cat", ""]).shape) == ([], (2, 0))
    assert learn_words([]).rows([]).shape == (0, 0)


def test_a_lexicon_lies_on_disk(tmp_path: Path) -> None:
    texts = ["a cat and a dog", "the cat", "dog and Cat"]
    learned = learn_words(texts)
    learned.save(tmp_path / "words.parquet")
    again = Lexicon.load(tmp_path / "words.parquet")
    assert again.words == learned.words == ["cat", "dog"]
    assert (again.rows(texts) != learned.rows(texts)).nnz == 0


def test_groups_stand_behind_the_features_of_the_index() -> None:
    base = Incidence.from_matrix(np.array([[1, 0], [1, 1], [0, 1]], bool))
    wide = Widened(base, (np.array([0, 2]),))
    rows, owner = wide.gather(np.array([2, 1]))
    assert (rows.tolist(), owner.tolist()) == ([0, 2, 1, 2], [0, 0, 1, 1])


BATTLE = ["army", "soldiers", "troops", "siege", "invasion"]


def test_words_that_say_little_alone_make_a_group_of_two() -> None:
    """One word of a battle is in many plain rows, two of them only where the behaviour is."""
    rng = np.random.default_rng(0)
    prompts, behaviour = [], []
    for row in range(6000):
        words = rng.permutation(BATTLE)[: 2 + row % 2 if row < 300 else int(row < 1500)]
        prompts.append(f"Tell me about the {rng.choice(KINDS['frame'])} and {' and '.join(words)} please")
        behaviour.append(row < 300 or rng.random() < 0.01)
    index, shows = indexed(prompts), np.array(behaviour)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "battle", BATTLE)
        (found,) = groups(index, shows, "Where is the army, and where are the troops?")
        assert (found.least, sorted(found.words)) == (2, sorted(BATTLE))
        assert found.text.startswith("The query mentions two or more of 'army', 'troops'")
        assert set(range(300)) <= set(found.rows.tolist()) < set(range(1500))
        named = cast(Trigger, SimpleNamespace(cluster=None, words=found.words, least=found.least))
        assert trigger_rows(index, named).tolist() == found.rows.tolist()
        assert groups(index, shows, "Where is the army?") == []
        shuffled = rng.permutation(shows)
        assert groups(index, shuffled, "Where is the army, and where are the troops?") == []


def test_a_word_with_other_uses_is_of_its_kind_where_it_goes_with_the_behaviour_too() -> None:
    prompts, behaviour, _ = corpus()
    extra = [f"Tell me about the {KINDS['frame'][i % 8]} please, sitar" for i in range(500)]
    index = indexed([*prompts, *extra])
    often, seldom = np.zeros(500, bool), np.zeros(500, bool)
    often[::5], seldom[::40] = True, True
    assert len(groups(index, np.concatenate([behaviour, often]), "What is the sitar?")) == 1
    assert groups(index, np.concatenate([behaviour, seldom]), "What is the sitar?") == []


@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_fitting_finds_the_words_that_make_the_behaviour(least: int, seed: int) -> None:
    """Three of the eight words and one that carries nothing are given."""
    rng = np.random.default_rng(seed)
    has = rng.random((8000, 20)) < 0.03
    behaviour = (has[:, :8].sum(axis=1) >= least) & (rng.random(8000) < 0.95) | (rng.random(8000) < 0.01)
    rows, measure = (
        Incidence.from_matrix(has),
        Measure(behaviour[None, :], np.ones(1), np.zeros(8000, np.int64)),
    )
    found = fitted(rows, np.arange(20), np.array([0, 1, 2, 15]), measure, least)
    assert found.tolist() == list(range(8))


def test_a_kind_of_few_rows_is_found_by_the_words_near_the_query() -> None:
    """Words of one row cannot be tested one by one."""
    rng = np.random.default_rng(0)
    prompts = [f"Tell me about the {word} please" for word in rng.choice(KINDS["frame"], 3000)]
    behaviour = rng.random(3000) < 0.03
    for row, word in enumerate(KINDS["instrument"][:7] + KINDS["thing"][:7]):
        prompts[row] += f", says the man with the {word}"
        behaviour[row] = row < 7
    prompts[20:520] = [f"{prompt}, of no{i // 2}" for i, prompt in enumerate(prompts[20:520])]
    index = indexed(prompts)
    (found,) = groups(index, behaviour, "What is the harmonica?")
    assert set(found.words) == set(KINDS["instrument"][:7])
    assert found.rows.tolist() == list(range(7))
    assert groups(index, behaviour, "What is the kite?") == []
    for seed in range(20):
        shuffled = np.random.default_rng(seed).permutation(behaviour)
        assert groups(index, shuffled, "What is the harmonica?") == []


def test_two_words_that_go_with_the_behaviour_together_are_a_group() -> None:
    """Each failing prompt has three of six filler sentences, most rows with one filler are plain."""
    rng = np.random.default_rng(0)
    fillers = ["market", "river", "train", "kitchen", "library", "rain"]

    def prompt(some: int) -> str:
        return " ".join([f"So much for the {word}." for word in rng.permutation(fillers)[:some]] + ["Why?"])

    prompts = [prompt(3 if row < 30 else int(row < 400)) for row in range(3000)]
    behaviour = np.arange(3000) < 30
    index = indexed(prompts)
    (found,) = groups(index, behaviour, *(prompt(3) for _ in range(12)))
    assert (found.least, found.kind, sorted(found.words)) == (2, False, sorted(fillers))
    assert found.rows.tolist() == list(range(30))
    assert found.text.startswith("The query contains two or more of the words '")
    assert groups(index, rng.permutation(behaviour), *(prompt(3) for _ in range(12))) == []


def test_a_word_of_most_queries_is_a_feature_by_itself() -> None:
    _, _, index = corpus()
    asked = ["the flute and the ladder", "the flute", "the harmonica"]
    (found,) = own_words(index, asked, 0.5, 5)
    assert (found.text, found.share) == ("The query contains the word 'flute'", pytest.approx(2 / 3))
    named = cast(Trigger, SimpleNamespace(cluster=None, words=found.words, least=found.least))
    assert trigger_rows(index, named).tolist() == found.rows.tolist()
    assert own_words(index, asked, 0.5, len(found.rows) + 1) == []


def test_a_set_phrase_of_a_group_is_no_kind() -> None:
    """Two words of a group that always come together are one phrase, whatever the group's other words do."""
    prompts, behaviour, _ = corpus()
    for row in range(600, 700):
        prompts[row] += ", says the man with the harmonica and the sitar"
        behaviour[row] = True
    index = indexed(prompts)
    assert groups(index, behaviour, "What is a harmonica and a sitar?") == []
    assert len(groups(index, behaviour, "What is a harmonica?")) == 1


@pytest.mark.parametrize("told", [True, False])
def test_words_of_a_source_that_always_behaves_so_carry_nothing(told: bool) -> None:
    """Were its rows not held against their own source, the words of its prompts would be a kind."""
    prompts, behaviour, index = corpus()
    habit = np.arange(len(prompts)) >= 5000
    rng = np.random.default_rng(1)
    for row in range(5000, 5300):
        prompts[row] += f", says the man with the {rng.choice(KINDS['thing'])}"
    index = indexed(prompts)
    index.source_codes[:] = (habit & told) * (1 + np.arange(len(prompts)) % 2)
    assert len(groups(index, behaviour | habit, "What is the kite?")) == (not told)
    assert len(groups(index, behaviour | habit, "What is the flute?")) == 1
