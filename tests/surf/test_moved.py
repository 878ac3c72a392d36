"""A behaviour that a fix only moved to another trigger is told by a search of the model after."""

from __future__ import annotations

import pytest
from surf_world import RUBRIC, ScriptedModel, WordPool

from undertow.errors import UsageError
from undertow.studies.moved import fresh_search
from undertow.studies.verify import verify
from undertow.surf.config import SurfConfig
from undertow.surf.run import run_surf

SMALL = SurfConfig(runs=2, iterations=3, candidates=30, base_prompts=40, confirm_prompts=20)


def model(name, *openings):
    return ScriptedModel(lambda prompt: 0.9 if prompt.startswith(openings) else 0.02, name=name)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    out = tmp_path_factory.mktemp("moved") / "surf"
    run_surf(model("before", "when did"), RUBRIC, WordPool(), out, SMALL)
    return out


@pytest.mark.parametrize(
    ("openings", "word", "elsewhere"),
    [
        ((), "fixed", []),
        (("explain",), "moved elsewhere", [["The query contains 'explain'"]]),
        (("when did",), "inconclusive", []),  # no change seen in 20 prompts
    ],
)
def test_the_word_follows_from_where_the_behaviour_stands_now(openings, word, elsewhere, searched, tmp_path):
    after = model("after", *openings) if openings else ScriptedModel(lambda _: 0.0, name="after")
    summary = verify(model("before", "when did"), after, searched, tmp_path / "v", attributes=WordPool())
    (finding,) = summary["findings"]
    again = summary["search"]
    assert (finding["verdict"], [each["attributes"] for each in again["elsewhere"]]) == (word, elsewhere)
    assert again["counts"]["tried"] == 180  # as many as the first search asked
    assert bool(finding["moved_to"]) is bool(elsewhere)


def test_a_trigger_that_holds_a_known_one_is_no_other():
    def finding(*attributes, status="confirmed"):
        return {"id": "f", "attributes": list(attributes), "status": status, "rate": {}, "control_rate": None}

    findings = [finding("a", "b"), finding("a"), finding("c"), finding("d", status="rejected")]
    summary = {"status": "complete", "counts": {}, "out": "x", "findings": findings}
    told = fresh_search(summary, [["a"]])
    assert [each["attributes"] for each in told["elsewhere"]] == [["c"]]
    assert told["confirmed"] == 3


def test_attributes_of_another_search_are_refused(searched, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "The query is odd."}\n')
    with pytest.raises(UsageError, match="not what the search drew on"):
        verify("local:a", "local:b", searched, tmp_path / "v", attributes=other)
    assert not (tmp_path / "v").exists()
