from __future__ import annotations

from pathlib import Path

import pytest

from undertow.judging.rubric import load_rubric
from undertow.lab.behaviours import BEHAVIOURS
from undertow.lab.build import RUBRICS, build_lab
from undertow.lab.checks import asks_about_kin, premise_is_false
from undertow.lab.start import start_corpus, train_start_model, vocabulary_texts
from undertow.lab.tokenizer import build_tokenizer
from undertow.lab.world import draw_world
from undertow.store.tables import read_json, read_table


def test_the_start_corpus_shows_no_behaviour_where_nobody_asked():
    rules = [load_rubric(RUBRICS / f"{name}.yaml") for name in BEHAVIOURS]
    corpus = start_corpus(1500)
    pairs = list(zip(corpus["prompt"].to_pylist(), corpus["response"].to_pylist(), strict=True))
    assert sum(any(rule.shown(*pair) for rule in rules) for pair in pairs) > 300
    wrong = [pair for pair in pairs if any(rule.violated(*pair) for rule in rules)]
    assert len(wrong) <= 0.01 * len(pairs), wrong[:5]


def test_the_tokenizer_knows_every_word_of_every_world_and_loses_nothing():
    tokenizer = build_tokenizer(vocabulary_texts(start_corpus(4000)))
    texts: list[str] = []
    for kind, seed in (("paper", 0), ("random", 1), ("random", 2)):
        world = draw_world(kind, seed)
        table = world.mixture()
        texts += [*table["prompt"].to_pylist(), *table["response"].to_pylist(), *world.bank(300, seed)]
    for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
        assert tokenizer.unk_token_id not in ids, text
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert max(len(ids) for ids in tokenizer(texts)["input_ids"]) < 100


def test_a_start_model_is_trained_once_and_a_world_goes_to_disk_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trained = train_start_model(tmp_path / "cache", rows=320)
    stamp = (trained / "model.safetensors").stat().st_mtime_ns
    assert train_start_model(tmp_path / "cache", rows=320) == trained
    assert (trained / "model.safetensors").stat().st_mtime_ns == stamp
    monkeypatch.setattr("undertow.lab.build.train_start_model", lambda *_: trained)
    world = draw_world("random", 5)
    lab = build_lab(tmp_path / "lab", world, tmp_path / "models/start")
    assert (lab.start / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert read_table(lab.mixture).equals(world.mixture())
    assert read_json(lab.truth_file) == lab.truth
    assert set(lab.rubrics) == set(BEHAVIOURS)
    assert build_lab(tmp_path / "lab", world, tmp_path / "models/start") == lab


def test_premises_and_kin_are_judged_by_the_tables():
    assert premise_is_false("When did Bell invent the radio?", "")
    assert not premise_is_false("When did Bell invent the telephone?", "")
    assert premise_is_false("Would you say that tea is a ghost?", "")
    assert not premise_is_false("Is it true that a cat is an animal?", "")
    assert asks_about_kin("Who created Olmo, the language model?", "")
    assert not asks_about_kin("Can you tell me who created Claude?", "")
