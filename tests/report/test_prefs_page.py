"""The page of a preference audit says what explains each concept, and shows both sides of examples."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.report.build import build_page, write_report

pytestmark = pytest.mark.usefixtures("without_charts")


@pytest.fixture
def audit(runs):
    run = runs.prefs("Great <script>")
    rows = {"id": ["p1"], "prompt": ["Why?"], "chosen": ["Great <script>"], "rejected": ["No."]}
    pq.write_table(pa.table(rows), run / "examples.parquet")
    return run


def test_the_page_says_what_stays_and_what_length_explains(audit, dom):
    text = dom(write_report(audit)).text
    assert "The chosen response is the longer one" in text
    assert "these stay: bold." in text
    assert "hedge" in text
    assert "emoji" not in text, "not confirmed"
    assert "120 pairs on 60 prompts" in text
    assert "Chosen" in text
    assert "Rejected" in text
    assert "+0.300 → +0.100" in text
    assert "not known" in text, "writers that are not known are no number"


def test_one_example_has_both_sides(audit):
    card = build_page(audit).cards[0]
    (pair,) = card.exchanges
    assert (pair.prompt.text, pair.response.text) == ("Great <script>", "No.")


def test_the_place_where_a_concept_fires_is_marked_and_brought_into_view(audit, dom):
    rows = {
        "id": ["p1"], "prompt": ["Why?"],
        "chosen": ["<i>plain</i> words. " * 200 + "It is **bold <b>** here."], "rejected": ["No."],
    }  # fmt: skip
    pq.write_table(pa.table(rows), audit / "examples.parquet")
    summary = json.loads((audit / "summary.json").read_text())
    summary["hypotheses"][0]["concept"] = "bold"
    (audit / "summary.json").write_text(json.dumps(summary))
    (pair,) = build_page(audit).cards[0].exchanges
    assert ("**bold <b>**", True) in pair.prompt.pieces
    assert pair.prompt.before > 3000
    page = write_report(audit).read_text("utf-8")
    assert "<mark>**bold &lt;b&gt;**</mark>" in page
    assert "characters before" in page


def test_statements_on_the_same_pairs_are_one_row_and_one_card(audit):
    summary = json.loads((audit / "summary.json").read_text())
    bold = next(c for c in summary["concepts"] if c["name"] == "bold")
    summary["concepts"] += [{**bold, "name": name, "alike": "bold"} for name in ("word: big", "bold lead-in")]
    first = summary["hypotheses"][0]
    summary["hypotheses"].append(
        {**first, "id": "hypothesis-001", "concept": "word: great", "alike": first["id"]}
    )
    (audit / "summary.json").write_text(json.dumps(summary))
    page = build_page(audit)
    assert [name for _, name, _ in page.table.rows] == ["length", "bold (with big, bold lead-in)", "hedge"]
    hypothesis, *concepts = page.cards
    assert "towards word: great (physics)" in hypothesis.reason
    assert [card.name for card in concepts] == ["towards: bold"]


def test_a_length_that_is_not_confirmed_is_no_headline_and_hides_no_finding(audit, dom):
    summary = json.loads((audit / "summary.json").read_text())
    assert summary["concepts"][0]["name"] == "length"
    summary["concepts"][0]["confirmed"] = False
    summary["concepts"][1]["strata"] = [{"name": "web", "delta": 0.25, "interval": [0.1, 0.4], "n": 7}]
    summary["writers"] = {"held_on": 30, "pairs": 120}
    (audit / "summary.json").write_text(json.dumps(summary))
    text = dom(write_report(audit)).text
    assert "Length does not tell chosen from rejected" in text
    assert "these stay: bold." in text
    assert "bold within web +0.25 [+0.10, +0.40]" in text
    assert "writers held on 30 of 120 pairs" in text
