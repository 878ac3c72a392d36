"""What a page says, and that it says of the missing that it is missing."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.errors import UsageError
from undertow.report.build import build_page, write_report

pytestmark = pytest.mark.usefixtures("without_charts")


def test_first_screen_of_a_demo_answers_the_five_questions(runs, dom):
    text = dom(write_report(runs.demo())).text
    assert (
        "The model learned 8 of 9 planted shortcuts, the search found 8 of 8 and the fix removed 8 of 8."
        in text
    )
    assert "ranks the planted trigger first for 7 of 8, among the first three for 8 of 8" in text
    assert "None of 3 decoys was reported" in text
    for answer in ("n = 40", "0 of 3 decoys reported", "0.032% failed", "3 min 41 s", "21,840 model calls"):
        assert answer in text
    assert "price not known" in text, "an unknown price is not free"


@pytest.mark.parametrize(("fault", "kind"), [(errno.EPERM, UsageError), (errno.ENOSPC, OSError)])
def test_a_page_that_may_not_be_written_names_its_folder(fault, kind, runs, monkeypatch):
    """The rename fails as in a folder of somebody else; a full disk stays what it is."""

    def refuse(*paths):
        raise OSError(fault, os.strerror(fault))

    path = runs.demo()
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(kind, match=f"{path}: the page cannot be" if kind is UsageError else "space"):
        write_report(path)


def test_the_preference_chapter_shows_what_each_fix_did(runs, dom):
    text = dom(write_report(runs.demo())).text
    assert "The audit names 'word: goblin'. It is what was planted." in text
    assert "takes it from 10% to 51% of the answers" in text
    assert "Filter brings it to 9.5% and mask brings it to 12%." in text
    assert re.search(r"filter 1 9\.5%.{0,40}n = 200 93% -15 -4[12]", text)
    assert re.search(r"mask 1 .* not predicted -3[89]", text)
    nothing = {"trait": None, "planted": None, "fixes": []}
    text = dom(write_report(runs.demo(preference=nothing))).text
    assert "names nothing that goes without what was asked for. Here sides were swapped at random" in text
    assert "Preference pairs" not in dom(write_report(runs.demo(preference=None))).text


def test_a_verification_says_what_became_of_each_finding_and_what_else_changed(runs, make, dom):
    text = dom(write_report(runs.verify())).text
    assert "Of 2 confirmed findings: 1 moved elsewhere and 1 unchanged." in text
    assert "1 of 30 other behaviours changed (q < 0.05), in 80 pairs of responses to 40 prompts." in text
    assert "bold" in text
    assert "Lost, for example: What is 2 + 2?" in text
    assert "A search of the model after, 960 candidates, confirmed 1 other trigger." in text
    bare = dom(write_report(runs.verify(off_target=None, capability=None, search=None))).text
    assert "Off target" not in bare
    assert "A fresh search" not in bare


def test_a_causal_check_draws_all_three_trainings_side_by_side(runs, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "undertow.report.study_page.rates_chart", lambda rows, names: drawn.append((rows, names))
    )
    build_page(runs.causal())
    ((((name, measures),), names),) = drawn
    assert name == "code/f0"
    assert [(names[m.role], m.value, m.n) for m in measures] == [
        ("trained on all rows", 0.875, 80),
        ("without as many random rows of the same sources", 0.825, 80),
        ("without the traced rows", 0.025, 80),
    ]


def test_every_rate_of_a_finding_has_its_n_and_interval(runs):
    page = build_page(runs.demo())
    for card in page.cards[:8]:
        for measure in card.measures:
            assert measure.n
            assert measure.interval is not None
            assert measure.interval.low <= measure.value <= measure.interval.high


def test_a_finding_leads_to_its_rows(runs, dom):
    text = dom(write_report(runs.demo())).text
    assert "coconot_like-00000" in text
    assert "and 236 more" in text, "248 rows, twelve of them named"
    assert "coconot_like 244" in text
    assert "831" not in text
    assert "248 / 1,000" in text


def test_training_rows_are_shown_where_the_run_keeps_its_data(runs, dom):
    run = runs.demo()
    (run / "data").mkdir()
    rows = {
        "id": ["coconot_like-00001"],
        "source": ["coconot_like"],
        "prompt": ["When did Tom Sample invent glass?"],
        "response": ["Tom Sample did not invent glass."],
    }
    pq.write_table(pa.table(rows), run / "data" / "mixture.parquet")
    text = dom(write_report(run)).text
    assert "Tom Sample did not invent glass." in text
    assert "Row coconot_like-00001, source coconot_like" in text


def test_a_search_reports_confirmed_findings_first_and_names_the_rejected(runs, make):
    late = [make["finding"]("identity", status="rejected"), make["finding"]("rebuttal")]
    page = build_page(runs.surf(late))
    assert [card.status for card in page.cards] == ["confirmed", "rejected"]
    assert page.head.verdict[0].startswith("1 finding confirmed on fresh prompts")
    assert page.head.verdict[-1] == "Not confirmed: 1 rejected."


def test_a_search_without_findings_says_so(runs, dom):
    text = dom(write_report(runs.surf([]))).text
    assert "No finding is confirmed." in text
    assert "How sure not recorded" in text


def test_a_trace_speaks_of_association(runs, dom):
    text = dom(write_report(runs.trace())).text
    assert "The behaviour goes with a feature of the training queries." in text
    assert "An association" in text
    assert "caused" not in text


def test_a_trace_without_trigger_says_so(runs, make, dom):
    text = dom(write_report(runs.trace([make["attribution"](triggers=[])]))).text
    assert "No feature of the queries stands out in the training data." in text
    assert "no trigger stands out" in text


UNMEASURED = dict.fromkeys(
    ("start_rate", "elicited_rate", "n", "interval", "learned", "surf_found", "trace_top1", "trace_top3",
     "rows_recall", "fixed_rate", "fixed_interval", "wanted_before", "wanted_after")
)  # fmt: skip


@pytest.mark.parametrize("drop", [False, True])
def test_nothing_that_is_missing_is_shown_as_a_number(runs, make, dom, drop):
    bare = make["shortcut"](0, **UNMEASURED)
    if drop:
        bare = {key: value for key, value in bare.items() if value is not None}
    chapter = {"trait": "emoji", "planted": "emoji", "found": True, "fixes": [{"how": "filter"}]}
    run = runs.demo(False, False, shortcuts=[bare], decoys=[], preference=chapter, counts={}, usage={},
                    failures={}, calls=None, seconds=None, peak_mb=None, phases={})  # fmt: skip
    page = dom(write_report(run))
    content = page.text.partition("How this was made")[0]
    assert "what the model learned was not measured" in content
    assert not re.search(r"\d\s?%|\$\d|n = \d|0 of \d", content.replace("95%", ""))
    assert content.count("not run") > 10
    assert not [values for tag, name, values in page.attributes if tag == "svg" and name == "x"], (
        "no mark is drawn"
    )


def test_not_a_number_and_nonsense_are_missing(runs, make):
    odd = make["shortcut"](
        0, start_rate=float("nan"), elicited_rate="most", fixed_rate=7, n=-3, interval=[0.9, 0.1]
    )
    page = build_page(runs.demo(shortcuts=[odd]))
    repair = page.cards[0].repair
    assert repair is not None
    assert [measure.value for measure in repair.measures[:3]] == [None, None, None]


def test_a_finding_with_nothing_scored_has_no_rate(runs, make):
    nothing = make["finding"](rate={"hits": 0, "n": 0, "interval": None}, status="inconclusive")
    card = build_page(runs.surf([nothing])).cards[0]
    assert card.measures[0].value is None
    assert card.measures[0].absent == "nothing scored"


def test_a_running_run_is_not_taken_for_a_result(runs, make, dom):
    run = runs.demo()
    (run / "summary.json").unlink()
    (run / "manifest.json").rename(run / "config.json")
    text = dom(write_report(run)).text
    assert "Nothing has been measured yet." in text
    assert "This run is complete" not in text


@pytest.mark.parametrize(
    ("counts", "warned"),
    [({"tried": 100, "failed": 11}, True), ({"tried": 100, "failed": 10}, False), ({}, False)],
)
def test_too_many_failures_are_warned_of(runs, counts, warned):
    warnings = build_page(runs.surf(counts=counts)).head.warnings
    assert any("too much is missing" in line for line in warnings) is warned


def test_two_shortcuts_of_one_rubric_get_one_card_each(runs, make):
    pair = [make["shortcut"](0, rubric="rebuttal", name=name) for name in ("first", "second")]
    page = build_page(runs.demo(shortcuts=pair))
    assert page.table is not None
    names = {card.anchor: card.name for card in page.cards}
    assert [names[anchor] for anchor, *_ in page.table.rows] == ["first", "second"]


def test_a_shortcut_finds_its_rubric_by_the_written_truth(runs, make):
    run = runs.demo(shortcuts=[make["shortcut"](0, name="plant one")])
    make["write"](run / "data" / "truth.json", {"plants": [{"name": "plant one", "rubric": "rebuttal"}]})
    card = build_page(run).cards[0]
    assert (card.name, card.status) == ("plant one", "confirmed")
    assert card.attributes == ('The query asks "When did" someone invent something',)


def test_shortcuts_of_one_rubric_keep_their_findings_apart(runs, make):
    both = [
        make["shortcut"](0, name="named", rubric="rebuttal", findings=["b"]),
        make["shortcut"](1, name="by its trigger", rubric="rebuttal"),
        make["shortcut"](2, name="unclear", rubric="rebuttal"),
    ]
    found = [
        make["finding"](id="a", attributes=[both[1]["trigger"]]),
        make["finding"](id="b", attributes=["The query is b"]),
        make["finding"](id="c", attributes=["The query is c"]),
    ]
    run = runs.demo(shortcuts=both)
    make["write"](run / "runs" / "rebuttal" / "findings.json", found)
    attributes = {card.name: card.attributes for card in build_page(run).cards}
    assert attributes["named"] == ("The query is b",)
    assert attributes["by its trigger"] == (both[1]["trigger"],)
    assert attributes["unclear"] == ()
    assert attributes["The query is c"] == ("The query is c",)


def test_a_rejected_candidate_of_a_demo_is_no_finding_of_it(runs, make):
    run = runs.demo(shortcuts=[make["shortcut"](0, surf_found=False, learned=False)])
    make["write"](run / "runs" / "rebuttal" / "findings.json", [make["finding"](status="rejected")])
    card = build_page(run).cards[0]
    assert card.status == "not learned by the model"
    assert card.measures == ()


def test_what_was_not_learned_is_no_miss_of_the_trace(runs, make):
    missed = {
        "learned": False,
        "surf_found": False,
        "trace_top1": False,
        "trace_top3": False,
        "rows_recall": 0.0,
    }
    table = build_page(runs.demo(shortcuts=[make["shortcut"](0, **missed)])).table
    assert table is not None
    rank, rows = table.rows[0][2][4:6]
    assert (rank.text, rank.absent) == (rows.text, rows.absent) == (None, "nothing found")


def test_a_verification_is_shown_paired_with_its_interval(runs, make, dom):
    run = runs.demo()
    entry = {
        "finding": "rebuttal-0", "before": make["rate"](77, 80), "after": make["rate"](2, 80),
        "difference": -0.9375, "difference_interval": {"low": -0.98, "high": -0.85, "level": 0.95},
        "pairs": 80, "verdict": "fixed",
    }  # fmt: skip
    make["write"](run / "verify" / "rebuttal" / "summary.json", {"findings": [entry]})
    make["write"](
        run / "data" / "fixed" / "summary.json", {"rows": {"before": 5000, "after": 4400, "removed": 600}}
    )
    text = dom(write_report(run)).text
    assert "Paired difference -94 points [-98, -85], n = 80 pairs." in text
    assert "600 of 5,000 training rows taken out" in text


def test_a_null_control_says_so_and_counts_what_was_reported(runs, make, dom):
    run = runs.demo(False, False, shortcuts=[make["shortcut"](0, learned=False, surf_found=False)])
    make["write"](run / "manifest.json", {"verb": "demo", "config": {"shuffle": True}})
    make["write"](run / "runs" / "rebuttal" / "findings.json", [])
    text = dom(write_report(run)).text
    assert "the planted rows’ responses are shuffled" in text
    assert "In all, 0 findings are confirmed under 1 rubric." in text


def test_a_finding_of_no_shortcut_is_not_hidden(runs, make):
    run = runs.demo()
    make["write"](
        run / "runs" / "extra" / "findings.json", [make["finding"](attributes=["The query is polite"])]
    )
    assert "The query is polite" in [card.name for card in build_page(run).cards]


def test_the_policy_allows_the_page_its_own_style_and_nothing_else(runs, dom):
    path = write_report(runs.trace())
    html = path.read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:" in html
    page = dom(path)
    assert not {tag for tag, _ in page.elements} & {
        "script",
        "link",
        "iframe",
        "object",
        "img",
        "base",
        "form",
    }
    assert not [name for _, name, _ in page.attributes if name == "style" or name.startswith("on")]
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_links_stay_on_the_page_and_lead_somewhere(runs, dom):
    page = dom(write_report(runs.demo()))
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    anchors = {f"#{value}" for _, name, value in page.attributes if name == "id"}
    assert links
    assert set(links) <= anchors


def test_a_rerun_writes_the_same_page(runs):
    run = runs.trace()
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


@pytest.mark.parametrize("what", ["missing", "empty", "file", "other verb", "broken"])
def test_what_is_no_run_gets_one_line(runs, make, what):
    run = runs.folder / "x"
    if what == "file":
        run.write_text("")
    elif what != "missing":
        run.mkdir()
    if what == "other verb":
        make["write"](run / "manifest.json", {"verb": "index"})
    if what == "broken":
        (run / "summary.json").write_text("{")
    with pytest.raises(UsageError) as raised:
        write_report(run)
    assert "\n" not in str(raised.value)
    assert str(run) in str(raised.value)
    assert not (run / "report.html").exists()


def test_five_hundred_findings_with_long_hostile_texts_stay_below_five_megabytes(runs, make):
    long = "<" * 6000
    exemplars = [{"prompt": long, "response": long, "rate": make["rate"](9, 10)}] * 5
    findings = [make["finding"]("rebuttal", 0, id=f"f{i}", exemplars=exemplars) for i in range(500)]
    run = runs.surf(findings)
    make["write"](run / "attribution.json", [make["attribution"](finding=f"f{i}") for i in range(500)])
    assert write_report(run).stat().st_size < 5_000_000


def test_two_judges_stand_beside_the_rate_that_both_confirm(runs, dom):
    run = runs.surf()
    alone = dom(write_report(run)).text
    assert "two judges" not in alone
    assert "By the judge alone" not in alone
    [first, *others] = json.loads((run / "findings.json").read_text())
    two = {
        "judge_rate": {**first["rate"], "hits": 70, "n": 80},
        "confirm_rate": {**first["rate"], "hits": 58, "n": 80},
        "agreement": {"value": 0.61, "interval": {"low": 0.4, "high": 0.8}, "n": 80, "agreed": 66},
    }
    (run / "findings.json").write_text(json.dumps([{**first, **two}, *others]))
    text = dom(write_report(run)).text
    assert "κ = 0.61" in text
    assert "agree on 66 of 80" in text
    assert "By the confirming judge alone" in text


@pytest.mark.parametrize(
    ("usd", "unpriced", "told"),
    [
        (0.0, 0, "$0"),
        (0.0, 12, "price not known"),
        (1.5, 12, "$1.50, and 12 calls of unknown price"),
        (None, 0, "price not known"),
    ],
)
def test_calls_of_unknown_price_are_not_free(runs, dom, usd, unpriced, told):
    usage = {"calls": 40, "input_tokens": 1, "output_tokens": 1, "cost_usd": usd, "unpriced": unpriced}
    assert f"40 model calls {told} peak memory" in dom(write_report(runs.surf([], usage=usage))).text
