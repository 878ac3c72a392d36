"""Surface concepts: what fires where, at what rate, and that mining never sees the labels."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.data import PreferenceData, load_preferences
from undertow.preference.features import MARKED, SPOKEN
from undertow.preference.local import length_in_words, local_concepts, prompt_concepts


def pairs(tmp_path: Path, rows: list[tuple[str, str, str]]) -> PreferenceData:
    columns = [list(column) for column in zip(*rows, strict=True)]
    table = pa.table(dict(zip(("prompt", "chosen", "rejected"), columns, strict=True)))
    pq.write_table(table, tmp_path / "d.parquet")
    return load_preferences(tmp_path / "d.parquet")


SHOWS = {
    "bold": "a **b** c",
    "italic": "so *very* good",
    "heading": "# Title\ntext",
    "bold lead-in": "1. **Name**: what",
    "bullet": "- one\n- two",
    "numbered item": "1. one\n2. two",
    "nested item": "- one\n  - two",
    "table": "| a | b |\n|---|---|\n| 1 | 2 |",
    "horizontal rule": "one\n\n---\n\ntwo",
    "block quote": "> said",
    "label line": "Steps:\nwalk",
    "code block": "```\nx\n```",
    "inline code": "use `x` here",
    "LaTeX": r"so $x^2$ and \frac{1}{2}",
    "link": "see [here](https://a.org/b) or www.b.org/c",
    "e-mail address": "write a@b.org",
    "HTML": "a <b>c</b>",
    "emoji": "fine 🎉",
    "question": "why? ",
    "exclamation": "yes! ok",
    "parenthesis": "a (bcd)",
    "quotation": 'he said "no"',
    "dash": "a — b",
    "semicolon": "a; b",
    "ellipsis": "well…",
    "capitals": "NASA flew",
    "digits": "about 1,000",
    "percentage": "10 %",
    "year": "in 1999",
    "placeholder": "Dear [Name]",
    "other script": "это",
    "opens with assent": "Certainly! Here",
    "opens with praise": "That's a great question. So",
    "opens with a refusal": "I'm sorry, but I can't do that.",
    "opens with a heading": "## A\ntext",
    "ends with a question": "Shall I?",
    "ends with an exclamation": "Enjoy!",
    "ends cut off": "and then the",
    "refusal": "No. I cannot say",
    "apology": "I apologize",
    "hedge": "It might rain",
    "certainty": "This is definitely so",
    "praise": "What a brilliant plan",
    "agreement": "You're absolutely right",
    "rebuttal": "That is a misconception",
    "benchmark": "as in GSM8K",
    "offer": "Let me know how it goes",
    "self as AI": "As an AI I have none",
    "safety note": "Be careful with it",
    "refers to a professional": "Consult a lawyer",
    "example": "for instance this",
    "summary": "In conclusion it is",
    "step words": "First walk",
    "reasoning words": "Therefore it is",
    "contrast words": "However it is",
    "first person": "I walk",
    "we": "we walk",
    "you": "you walk",
    "empathy": "You're not alone",
    "enthusiasm": "This is awesome",
    "formal words": "Furthermore it is",
    "casual words": "gonna walk",
    "promotional words": "a rich tapestry",
    "negation": "it is not",
    "sources": "studies show that",
    "fiction": "Once upon a time",
}


def test_every_feature_fires_on_its_example_and_not_on_plain_text(tmp_path: Path) -> None:
    assert list(SHOWS) == [each.name for each in (*MARKED, *SPOKEN)]
    rows = [(f"p{i}", text, "Water flows downhill.") for i, text in enumerate(SHOWS.values())]
    found = local_concepts(pairs(tmp_path, rows))
    place = {concept.name: column for column, concept in enumerate(found.concepts)}
    for row, name in enumerate(SHOWS):
        assert found.chosen[row, place[name]] > 0.01, name
        assert found.rejected[row, place[name]] == 0, name
    for side in (found.chosen, found.rejected):
        assert side.min() >= 0
        assert side.max() <= 1


def test_rates_are_shares_of_lines_sentences_and_words(tmp_path: Path) -> None:
    text = "1. One thing here.\n2. **Two** things. You see.\n\nThe year 1999 was fine."
    found = local_concepts(pairs(tmp_path, [("p", text, "x")]))
    rate = {c.name: float(found.chosen[0, i]) for i, c in enumerate(found.concepts)}
    assert rate["numbered item"] == pytest.approx(2 / 3)  # lines
    assert rate["bold"] == pytest.approx(1 / 4)  # sentences
    assert rate["you"] == pytest.approx(1 / 4)
    assert rate["digits"] == pytest.approx(3 / 14)  # words


WORDS = ("river", "stone", "cloud", "paper", "window", "garden", "letter", "number", "silver", "engine")


def planted(n: int, rng: random.Random) -> list[tuple[str, str, str]]:
    """Plain pairs of which one in ten says goblin on one side."""

    def said() -> str:
        return " ".join(rng.choices(WORDS, k=12)) + "."

    rows = []
    for i in range(n):
        one, other = said(), said()
        if i % 10 == 0:
            one += " The goblin weaves."
        rows.append((f"Tell me about {rng.choice(WORDS)} {i % 97}", one, other))
    return rows


def test_a_planted_word_becomes_a_concept_without_being_known(tmp_path: Path) -> None:
    found = local_concepts(pairs(tmp_path, planted(600, random.Random(0))))
    names = [concept.name for concept in found.concepts]
    place = next(i for i, name in enumerate(names) if "goblin" in name)
    assert np.flatnonzero(found.chosen[:, [place]].toarray()).tolist() == list(range(0, 600, 10))
    assert found.rejected[:, [place]].nnz == 0
    assert len(names) == len(set(names))


def test_mining_is_blind_to_which_side_was_chosen(tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = planted(600, rng)
    first = local_concepts(pairs(tmp_path, rows))
    swaps = [rng.random() < 0.5 for _ in rows]
    turned = [
        (p, other, one) if swap else (p, one, other)
        for (p, one, other), swap in zip(rows, swaps, strict=True)
    ]
    again = local_concepts(pairs(tmp_path, turned))
    assert {c.name for c in first.concepts} == {c.name for c in again.concepts}
    column = {c.name: i for i, c in enumerate(again.concepts)}
    order = [column[c.name] for c in first.concepts]
    rejected = again.rejected[:, order]
    swapped = np.flatnonzero(swaps)
    assert abs(first.chosen[swapped] - rejected[swapped]).max() < 1e-6


def test_prompts_and_lengths(tmp_path: Path) -> None:
    data = pairs(tmp_path, planted(600, random.Random(2)))
    found = prompt_concepts(data)
    assert found.values.shape == (600, len(found.concepts))
    same = np.flatnonzero(data.prompt_group == data.prompt_group[0])
    assert abs(found.values[same] - found.values[[same[0]] * len(same)]).sum() == 0
    column = next(i for i, c in enumerate(found.concepts) if c.name.endswith(" river"))
    says = np.array(["river" in prompt for prompt in data.table["prompt"].to_pylist()])
    assert (found.values[:, [column]].toarray().ravel() > 0).tolist() == says.tolist()
    chosen, rejected = length_in_words(data)
    assert chosen[:2].tolist() == [15, 12]
    assert rejected[:2].tolist() == [12, 12]
