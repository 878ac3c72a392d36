"""Untrusted text adds no element, no attribute and no address to a page, and hides nothing."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from undertow.records import Interval
from undertow.report.build import write_report
from undertow.report.charts import IterationScore, lift_chart, rates_chart, score_chart
from undertow.report.contexts import Measure
from undertow.report.svg import sanitised

PAYLOADS = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '" onfocus="alert(1)" autofocus="',
    "` onerror=alert(1)",
    "<svg onload=alert(1)>",
    "<svg><script href='data:,alert(1)'/></svg>",
    "<svg><foreignObject><iframe src=javascript:alert(1)></foreignObject></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src=1 onerror=alert(1)>'>",
    "</text><image href='http://evil.example/x.png'/>",
    "]]><script>alert(1)</script>",
    "<!-- --!><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml-stylesheet href='http://evil.example/x.css'?>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<base href=http://evil.example/>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=data:text/html,x>",
    "<form action=http://evil.example><button formaction=javascript:alert(1)>",
    "<a href=javascript:alert(1)>click</a>",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "http://evil.example/?q=secret",
    "{{ 7 * 7 }}{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "${7*7} #{7*7} <%= 7*7 %>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "<\x00script>alert(1)</script>",
    "\u2028<script>alert(1)</script>\u2029",
    "\u202egnp.exe\u202c \u2066x\u2069",
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "a\u200bb\ufeffc\u00add",
    "\U000e0041\U000e0042hidden tags",
    "\ud800 lone surrogate",
    "url(javascript:alert(1)); background: url(//evil.example)",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "<style>*{background:url(//evil.example)}</style>",
    "<plaintext>",
    "<details open ontoggle=alert(1)>",
    "<template><script>alert(1)</script></template>",
    "\x08\x7f\x9b31m",
]
KEPT = {"id", "finding", "status", "verb", "tool", "schema_version"}
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\U000e0000-\U000e0fff]")  # fmt: skip  # noqa: E501


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
    assert "49" not in text.partition("How this was made")[0].replace("49 of", ""), "no template ran"


@pytest.mark.usefixtures("without_charts")
@pytest.mark.parametrize("payload", [PAYLOADS[0], PAYLOADS[4], PAYLOADS[33]])
def test_hostile_names_in_a_demo_change_nothing(runs, make, dom, payload):
    def page(text):
        changes = {
            "shortcuts": [make["shortcut"](0, name=text, trigger=text, behaviour=text, source=text)],
            "decoys": [{"name": text, "false_finding": True}],
            "phases": {text: 3.0},
            "failures": {text: 7},
        }
        run = runs.demo(False, False, **changes)
        make["write"](
            run / "manifest.json", {"verb": "demo", "config": {"world": text, text: text}, "seeds": {text: 1}}
        )
        return dom(write_report(run))

    hostile, plain = page(payload), page("harmless words")
    assert Counter(hostile.elements) == Counter(plain.elements)
    assert hostile.addresses == plain.addresses


def charts(names):
    span = Interval(0.4, 0.6)
    rows = [(name, Measure("", "shortcut", 0.5, 20, 10, span)) for name in names]
    lifts = lift_chart(rows, 0.1, 900)
    rates = rates_chart([(name, [measure]) for name, measure in rows], {"shortcut": "after"})
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
        'viewBox="0 0 9 9"><rect width="1.2" height="2"></rect><text x="1">A &lt;b&gt;</text></svg>'
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
