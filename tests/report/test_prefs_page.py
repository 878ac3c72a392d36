"""The page of a preference audit says what explains each concept, and shows both sides of examples."""

from __future__ import annotations

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
    (card,) = build_page(audit).cards
    (pair,) = card.exchanges
    assert (pair.prompt.text, pair.response.text) == ("Great <script>", "No.")
