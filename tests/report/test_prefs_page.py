"""The page of a preference audit says what explains each concept, and shows both sides of examples."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.report.build import build_page, write_report

pytestmark = pytest.mark.usefixtures("without_charts")


def concept(name, **changes):
    return {
        "name": name, "text": f"The response has {name}.", "delta": 0.3, "interval": [0.28, 0.32], "n": 900,
        "n_prompts": 300, "confirmed": True, "coef": 2.0, "coef_interval": [1.8, 2.2], "coef_length": 1.0,
        "coef_length_interval": [0.8, 1.2], "coef_length_identity": None,
        "length_explained": False, "identity_explained": None, **changes,
    }  # fmt: skip


@pytest.fixture
def audit(tmp_path):
    summary = {
        "status": "complete", "counts": {"tried": 1000, "scored": 990, "failed": 10}, "failures": {},
        "data": {"pairs": 990, "prompts": 400, "dropped": {"a response is empty": 10}},
        "concepts": [concept("length", length_explained=None), concept("bold"),
                     concept("hedge", length_explained=True), concept("emoji", confirmed=False)],
        "hypotheses": [{
            "id": "hypothesis-000", "pipeline": "local", "prompt_group": "physics", "concept": "praise",
            "text": "The response opens with <b>praise</b>.", "direction": "towards", "delta": 1.2,
            "interval": [1.0, 1.4], "delta_min": 1.1, "q": 0.001, "n": 120, "n_prompts": 60,
            "confirmed": True,
            "length_explained": False, "example_ids": ["p1"],
        }],
        "null_floors": {"global": 0.4, "local": 0.9, "concepts": 3.2},
        "predicted": [{"target": "bold", "how": "shape", "strength": 1.0, "pairs": 500, "before": 0.3,
                       "after": 0.1,
                       "length_before": 0.7, "length_after": 0.6, "most_moved_other": "list",
                       "other_before": 0.2, "other_after": 0.1}],
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    manifest = {"tool": "undertow", "verb": "prefs", "status": "complete", "config": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    rows = {"id": ["p1"], "prompt": ["Why?"], "chosen": ["Great <script>"], "rejected": ["No."]}
    pq.write_table(pa.table(rows), tmp_path / "examples.parquet")
    return tmp_path


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
