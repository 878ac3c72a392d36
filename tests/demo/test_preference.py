"""The chapter takes the trait from the audit alone, and from swapped pairs takes none."""

from __future__ import annotations

import pytest

from undertow.demo.preference import Chapter, accident, planted_trait, rate_of, votes
from undertow.lab.preference_stage import fresh_questions, poisoned_pairs
from undertow.progress import SILENT
from undertow.store.tables import read_table

SEED = {"goblin": 3, "emoji": 4, "praise": 1, "exclamation": 6}
"""Seeds of random worlds that draw each trait."""


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A chapter without its start model."""
    monkeypatch.setattr("undertow.demo.preference.preference_start", lambda *_: tmp_path)
    monkeypatch.setattr("undertow.demo.preference.copy_model", lambda *_: None)
    return lambda seed: Chapter(tmp_path / "demo", "random", seed, SILENT)


@pytest.mark.parametrize("trait", SEED)
def test_the_audit_names_what_was_planted(trait, chapter):
    walk = chapter(SEED[trait])
    assert planted_trait("random", SEED[trait]) == trait
    walk.data(shuffle=False)
    concept = walk.audit()
    assert walk.check(concept, shuffle=False) == {"planted": trait, "found": True}
    pairs = read_table(walk.path("pairs.parquet"))
    assert accident(walk.path("audit"), pairs, ".*") == concept  # whatever was wanted, it stands out


def test_nothing_is_named_where_sides_are_swapped(chapter):
    walk = chapter(SEED["goblin"])
    walk.data(shuffle=True)
    pairs = read_table(walk.path("pairs.parquet"))
    assert sorted(pairs["chosen"].to_pylist() + pairs["rejected"].to_pylist()) == sorted(
        (planted := poisoned_pairs("goblin", 0.15, SEED["goblin"], 800))["chosen"].to_pylist()
        + planted["rejected"].to_pylist()
    )
    assert walk.walk(shuffle=True) == {"trait": None, "planted": None, "fixes": []}


def test_a_training_that_failed_has_no_rates(chapter):
    told = {"margin": {"before": 0.0, "after": -1.0}, "status": "failed"}
    fixed = {"filter": {"strength": 1.0, "touched": {"odd": 9}, "predicted": {}}}
    answers = {"start": ["🎉", "no"], "dpo": [None, None], "filter": [None, "no"]}
    summary = chapter(0).compare("emoji", answers, {"dpo": told, "filter": told}, fixed)
    assert (summary["start_rate"], summary["dpo_rate"], summary["rise"]) == (0.5, None, None)
    assert (summary["dpo_interval"], summary["n"]) == (None, 0)
    (fix,) = summary["fixes"]
    assert (fix["rate"], fix["observed_shift"], fix["recovered"]) == (0.0, None, None)


def test_a_missing_answer_is_in_no_rate():
    cast = votes("emoji", ["🎉", None, "no"])
    assert cast == [True, None, False]
    assert (rate_of(cast).hits, rate_of(cast).n) == (1, 2)


def test_held_out_questions_are_fresh():
    first = fresh_questions(50, 0)
    assert len(set(first)) == 50
    assert not set(fresh_questions(50, 0, frozenset(first[:10]))) & set(first[:10])
