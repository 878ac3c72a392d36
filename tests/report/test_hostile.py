"""Untrusted text adds no element, no attribute and no address to a page, and hides nothing."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import payloads
from undertow.records import Interval
from undertow.report.build import build_page, write_report
from undertow.report.charts import IterationScore, lift_chart, rates_chart, score_chart
from undertow.report.contexts import Measure
from undertow.report.render import render
from undertow.report.svg import sanitised

PAYLOADS, HIDDEN, Skeleton = payloads.PAYLOADS, payloads.HIDDEN, payloads.Skeleton
KEPT = {"id", "finding", "status", "verb", "tool", "schema_version"}


def poisoned(value: Any, payload: str) -> Any:
    """Put the payload in the place of every text and of every key that is data."""
    if isinstance(value, dict):
        keys_are_data = (
            all(not isinstance(inner, dict | list) for inner in value.values()) and "text" not in value
        )
        named = {"general_chat", "truncated", "python", "data", "paper_trigger"} & value.keys()
        return {
            f"{payload}{i}" if keys_are_data and named else key: inner
            if key in KEPT
            else poisoned(inner, payload)
            for i, (key, inner) in enumerate(value.items())
        }
    if isinstance(value, list):
        return [poisoned(inner, payload) for inner in value]
    return payload if isinstance(value, str) else value


def surf_run(runs, make, payloads):
    findings, attributions = [], []
    for i, payload in enumerate(payloads):
        findings.append(poisoned(make["finding"](id=f"f{i}", reason="reason"), payload))
        attributions.append(poisoned(make["attribution"](finding=f"f{i}"), payload))
    run = runs.surf(findings, failures={payloads[0]: 3}, target=payloads[1], rubric=payloads[2])
    make["write"](run / "attribution.json", attributions)
    return run


@pytest.mark.usefixtures("without_charts")
def test_hostile_texts_change_no_element_attribute_or_address(runs, make, dom):
    plain = dom(write_report(surf_run(runs, make, ["harmless words"] * len(PAYLOADS))))
    path = write_report(surf_run(runs, make, PAYLOADS))
    hostile = dom(path)
    assert Counter(hostile.elements) == Counter(plain.elements)
    assert hostile.addresses == plain.addresses
    assert hostile.comments == plain.comments == 0
    assert not HIDDEN.search(path.read_text(encoding="utf-8").replace("\n", ""))


@pytest.mark.usefixtures("without_charts")
def test_hostile_texts_are_all_there_to_read(runs, make, dom):
    text = dom(write_report(surf_run(runs, make, PAYLOADS))).text
    for payload in PAYLOADS:
        seen = HIDDEN.sub("", payload).replace("\ud800", "")
        longest = max(re.split(r"[\s]+", re.sub(HIDDEN, " ", payload).replace("\ud800", " ")), key=len)
        assert longest in text, seen
    assert "\\u202e" in text
    assert "\\x1b[31m" in text
    assert "1337" not in text, "no template ran"


KINDS = (
    "demo",
    "surf",
    "trace",
    "prefs",
    "context",
    "grid",
    "robustness",
    "shift",
    "ablation",
    "matrix",
    "verify",
)
KEYS_OF_DATA = {"failures", "phases", "dropped", "seeds", "inputs", "versions", "config", "sources"}


OURS = KEPT | {"context", "transform", "measure", "measures", "direction", "pipeline", "example_ids"}


def rewritten(value: Any, say: Iterator[str]) -> Any:
    """Put the next text in the place of every text, and of every key that is not ours."""
    if isinstance(value, dict):
        return {
            key: {next(say): rewritten(each, say) for each in inner.values()}
            if key in KEYS_OF_DATA and isinstance(inner, dict)
            else inner
            if key in OURS
            else rewritten(inner, say)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [rewritten(inner, say) for inner in value]
    return next(say) if isinstance(value, str) else value


def page_of(runs, kind: str, texts: list[str], start: int = 0, brief: bool = True) -> Any:
    """The page of a run of ``kind`` in which the texts stand in turn, beginning with one of them."""
    say = itertools.cycle([*texts[start:], *texts[:start]])
    made = {"demo": runs.demo, "surf": runs.surf, "trace": runs.trace, "prefs": runs.prefs,
            "verify": runs.verify}  # fmt: skip
    run = made[kind]() if kind in made else runs.study(kind)
    for file in sorted(run.rglob("*.json")):
        file.write_text(json.dumps(rewritten(json.loads(file.read_text()), say)))
    if kind == "prefs":
        runs.pairs(run, texts[start].encode("utf-8", "replace").decode())
    return Skeleton(render(build_page(run, brief)))


def harmless(texts: list[str]) -> list[str]:
    """As many texts, as long and as different."""
    return [f"w{i:02d}" + "w" * (len(text) - 3) for i, text in enumerate(texts)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_of_any_kind_gains_an_element_attribute_or_address(runs, kind):
    for start in range(0, len(PAYLOADS), 12):
        hostile = page_of(runs, kind, PAYLOADS, start)
        plain = page_of(runs, kind, harmless(PAYLOADS), start)
        assert hostile.elements == plain.elements, start
        assert hostile.addresses == plain.addresses
        assert hostile.comments == 0
        assert not HIDDEN.search(hostile.html.replace("\n", ""))


@pytest.mark.parametrize("kind", ["prefs", "context", "verify", "demo"])
def test_with_its_charts_too(runs, kind):
    hostile = page_of(runs, kind, PAYLOADS, brief=False)
    plain = page_of(runs, kind, harmless(PAYLOADS), brief=False)
    assert "svg" in {tag for tag, _ in hostile.elements}
    assert set(hostile.elements) == set(plain.elements)
    assert hostile.addresses == plain.addresses
    assert not HIDDEN.search(hostile.html.replace("\n", ""))


@pytest.mark.parametrize("kind", ["surf", "prefs", "robustness", "matrix", "verify"])
def test_a_megabyte_in_every_tenth_place_stays_a_page(runs, kind):
    texts = [payloads.LONG if i % 10 == 4 else f"text {i}" for i in range(30)]
    page, plain = page_of(runs, kind, texts), page_of(runs, kind, harmless(texts))
    assert len(page.html) < 5_000_000
    assert page.elements == plain.elements


def charts(names):
    span = Interval(0.4, 0.6)
    rows = [(name, Measure("", "shortcut", 0.5, 20, 10, span)) for name in names]
    lifts = lift_chart(rows[::2], 0.1, 900)
    rates = rates_chart([(name, [measure]) for name, measure in rows[1::2]], {"shortcut": "after"})
    assert lifts is not None
    assert rates is not None
    return [lifts.wide, lifts.narrow, rates.wide, rates.narrow]


def test_hostile_names_in_charts_add_nothing_that_draws_or_fetches():
    allowed = {"svg", "g", "path", "rect", "line", "circle", "text", "tspan"}
    for drawn in charts(PAYLOADS):
        tags = set(re.findall(r"<(\w+)", drawn))
        assert tags <= allowed
        attributes = set(re.findall(r"\s([\w:-]+)=\"", re.sub(r">[^<]*<", "><", drawn)))
        assert not [
            name for name in attributes if name.startswith("on") or name in {"href", "style", "xlink:href"}
        ]
        assert "url(" not in re.sub(r">[^<]*<", "><", drawn)
        assert not HIDDEN.search(drawn)


def test_the_svg_fence_keeps_only_what_draws():
    dirty = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'viewBox="0 0 9 9" onload="x">'
        "<script>x</script><style>x</style><image xlink:href='http://evil.example'/>"
        "<a xlink:href='javascript:x'><text>inside a link</text></a><foreignObject><p>x</p></foreignObject>"
        '<rect width="1.23456" height="2" fill="url(#x)" style="fill:red" onclick="x"/>'
        '<text x="1">A &lt;b&gt;</text>'
        "</svg>"
    )
    clean = sanitised(dirty, "wide", 'label "quoted"')
    assert clean == (
        '<svg xmlns="http://www.w3.org/2000/svg" class="wide" role="img" aria-label="label &#34;quoted&#34;" '
        'viewBox="0 0 9 9" width="9" height="9"><rect width="1.2" height="2"></rect>'
        '<text x="1">A &lt;b&gt;</text></svg>'
    )


def test_a_chart_draws_no_mark_for_what_is_missing():
    missing = Measure("", "shortcut", None)
    assert rates_chart([("a", [missing])], {"shortcut": "after"}) is None
    assert lift_chart([("a", missing)], 0.1, 10) is None
    assert score_chart([IterationScore(0, 10.0, 20.0, 5)], 70) is None


def test_a_chart_has_labelled_axes_and_n_in_its_caption():
    scores = [IterationScore(i, 10.0 * i, 20.0 * i, 50) for i in range(3)]
    chart = score_chart(scores, 70)
    assert chart is not None
    for label in ("Iteration", "Judged score"):
        assert f">{label}<" in chart.wide
    assert "n = 150" in chart.caption
    assert [chart.wide.count(f">{tick}</text>") for tick in ("0", "1", "2")] == [2, 1, 1], "0 is on both axes"
    assert [entry for _, entry in chart.legend] == ["best so far", "mean of new candidates"]
