"""Keep of a drawn chart only what draws.

The charts hold untrusted names as text. They are XML-escaped by the renderer; this second fence rebuilds the
tree from a list of allowed elements and attributes, so that no script, style, link, font, image or event
handler can come through, whatever the renderer writes.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from markupsafe import Markup, escape

_ELEMENTS = frozenset({"svg", "g", "path", "rect", "line", "circle", "text", "tspan"})
_ATTRIBUTES = frozenset(
    {
        "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "dx", "dy", "width", "height", "transform",
        "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "opacity",
        "stroke-linecap", "text-anchor", "font-size", "font-weight", "font-style",
    }
)  # fmt: skip
_VALUE = re.compile(r"[#\w\s.,+%-]*")
_TRANSFORM = re.compile(r"(?:(?:translate|rotate|scale)\([\d\s.,+-]*\)\s*)*")
_LONG_NUMBER = re.compile(r"\d+\.\d{2,}")
_DEFAULTS = {
    ("opacity", "1"),
    ("fill-opacity", "1"),
    ("stroke-opacity", "1"),
    ("transform", "translate(0,0)"),
}


def sanitised(svg: str, css_class: str, label: str) -> Markup:
    """Rebuild an SVG from its allowed parts.

    Args:
        svg: what the renderer wrote.
        css_class: class of the root, ours.
        label: what a screen reader says, untrusted.
    """
    root = ElementTree.fromstring(svg)  # noqa: S314 - as above
    head = Markup('<svg xmlns="http://www.w3.org/2000/svg" class="{}" role="img" aria-label="{}"{}>').format(
        css_class, label, _size(root.get("viewBox", ""))
    )
    return head + Markup("").join(_kept(child) for child in root) + Markup("</svg>")


def _size(box: str) -> Markup:
    """View box and the size it is drawn at: a small figure stays small."""
    if not _VALUE.fullmatch(box):
        return Markup("")
    told = Markup(' viewBox="{}"').format(box)
    numbers = box.split()
    return told + Markup(' width="{}" height="{}"').format(*numbers[2:]) if len(numbers) == 4 else told


def _kept(element: ElementTree.Element) -> Markup:
    name = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    if name not in _ELEMENTS or element.get("display") == "none":
        return Markup("")
    inside = escape(element.text or "") if name in {"text", "tspan"} else Markup("")
    inside += Markup("").join(_kept(child) for child in element)
    if not inside and (name in {"g", "text", "tspan"} or _draws_nothing(element)):
        return Markup("")
    attributes = Markup("").join(_attribute(key, value) for key, value in element.attrib.items())
    if name == "g" and not attributes:
        return inside
    # ``name`` is one of _ELEMENTS; ``attributes`` and ``inside`` are escaped above.
    return Markup(f"<{name}{attributes}>{inside}</{name}>")  # noqa: S704


def _draws_nothing(element: ElementTree.Element) -> bool:
    return element.get("class") in {"background", "foreground"}


def _attribute(key: str, value: str) -> Markup:
    known = _TRANSFORM if key == "transform" else _VALUE
    if key not in _ATTRIBUTES or not known.fullmatch(value) or (key, value) in _DEFAULTS:
        return Markup("")
    rounded = _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.1f}", value)
    return Markup(' {}="{}"').format(key, rounded)
