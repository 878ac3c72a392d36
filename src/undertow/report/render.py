"""Lay a page out as one self-contained file: templates, the style sheet and the policy that seals them.

Every template expression passes through :func:`shown` before Jinja escapes it, so no text reaches the page
with a control, bidi or invisible character in it, and none as markup. The content security policy allows
nothing but this page's own style sheet, by hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from undertow.report import words
from undertow.report.contexts import Measure, Page, Passage
from undertow.text import safe_text

_LONGEST = 2_000
"""Characters of any one text on the page; long ones are cut where they are known to be long, by passage."""


def shown(value: object) -> object:
    """Make the control characters of a text visible and bound its length; markup is ours and stays."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    safe = safe_text(value[: _LONGEST + 1])
    return safe if len(safe) <= _LONGEST else f"{safe[:_LONGEST]}…"


def whole(text: str) -> Markup:
    """Escape a text that is bounded already, such as a passage's, without a second bound."""
    return escape(safe_text(text))


def passage(text: str, limit: int, spans: Sequence[tuple[int, int]] = ()) -> Passage:
    """Shorten an untrusted text to ``limit`` characters *as written on the page*, escapes included.

    Bounding what is written, not what is read, keeps the size of a page bounded for hostile text too.

    Args:
        text: whatever it is.
        limit: bytes on the page.
        spans: of ``text``, in order, to be marked; a text in which the first is far on begins near it.
    """
    start = _opening(text, limit, spans)
    edges = sorted({start, len(text), *(min(max(edge, start), len(text)) for span in spans for edge in span)})
    parts = [(safe_text(text[a:b]), any(x <= a < y for x, y in spans)) for a, b in pairwise(edges)]
    kept, marks, room, cut = "", [], limit, 0
    for safe, marked in parts:
        fits = _fitting(safe, room)
        room -= len(escape(safe[:fits]).encode())
        if marked and fits:
            marks.append((len(kept), len(kept) + fits))
        kept, cut = kept + safe[:fits], cut + len(safe) - fits
        room = room if fits == len(safe) else 0
    return Passage(kept, cut, start, tuple(marks))


def _opening(text: str, limit: int, spans: Sequence[tuple[int, int]]) -> int:
    """Where a text begins on the page: at a word a little before the first span, where that is far on."""
    first = spans[0][0] if spans else 0
    if first <= limit // 2:
        return 0
    back = first - limit // 4
    space = text.find(" ", back, first)
    return back if space < 0 else space + 1


def _fitting(safe: str, room: int) -> int:
    """Count the characters of ``safe`` that fit."""
    if len(escape(safe).encode()) <= room:
        return len(safe)
    for kept, character in enumerate(safe):
        room -= len(escape(character).encode())
        if room < 0:
            return kept
    return len(safe)


def render(page: Page) -> str:
    """Write the page as HTML."""
    environment = page_environment()
    style = environment.get_template("style.css").render()
    return environment.get_template("page.html.j2").render(
        page=page,
        # Ours: a template of this package without any expression.
        style=Markup(style),  # noqa: S704
        policy=Markup(content_policy(style)),  # noqa: S704 - ours, and its quotes stay as they are
    )


def content_policy(style: str) -> str:
    """Build the content security policy of a page whose only style element holds ``style``."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


@cache
def page_environment(*packages: str) -> Environment:
    """Make the environment of our templates, before which those of ``packages`` come."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "undertow.report")]),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=words.percent,
        span=words.span,
        count=words.count,
        counted=words.counted,
        duration=words.duration,
        whole=whole,
    )
    environment.globals.update(at=_at, here=_here)
    environment.tests["measured"] = lambda measure: isinstance(measure, Measure)
    return environment


def _here(anchor: str) -> str:
    """Address a card of this very page."""
    return f"#{anchor}"


def _at(share: float) -> str:
    """Place a proportion on a strip."""
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"
