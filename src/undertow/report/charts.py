"""Charts as inline SVG: altair describes them, vl-convert draws them, :mod:`undertow.report.svg` cleans them.

Each is drawn for wide and for narrow pages, because text in a scaled-down drawing cannot be read. Colours are
Okabe and Ito's (vermilion, blue, grey), told apart by shape as well; the style sheet maps them to the theme
of the page, so nothing here knows light from dark. Nothing is fetched: data and fonts are local.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from undertow.records import Interval
from undertow.report.contexts import Chart, Measure, MeasureRole
from undertow.report.svg import sanitised
from undertow.report.words import percent
from undertow.text import safe_text

INK, MUTED, GRID = "#1d1d1b", "#6f6b64", "#e3dfd6"
COLOURS: dict[MeasureRole, str] = {
    "start": "#8a857c",
    "base": "#8a857c",
    "control": "#5b564e",
    "shortcut": "#d55e00",
    "fixed": "#0072b2",
}
SHAPES: dict[MeasureRole, str] = {
    "start": "diamond",
    "base": "diamond",
    "control": "triangle-up",
    "shortcut": "circle",
    "fixed": "square",
}
WIDE, NARROW = 720, 340
_LABEL = 40
_PADDING = {"left": 0, "right": 22, "top": 4, "bottom": 4}
"""The reader's font may be wider than the renderer's: room at the right."""
_BEST, _MEAN = "best so far", "mean of new candidates"


@dataclass(frozen=True, slots=True)
class IterationScore:
    """Scores of one iteration of the search."""

    iteration: int
    """From 0."""
    mean: float
    """Mean score over the scored candidates, in [0, 100]."""
    best: float
    """Highest score so far, in [0, 100]."""
    scored: int
    """Candidates with a score."""


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One place of a heat-map."""

    row: str
    """Label of its row."""
    column: str
    """Label of its column."""
    value: float | None
    """In [0, 1]; ``None`` where there is no number, which is drawn as no colour, never as 0."""
    absent: str = "missing"
    """The word that stands for the number: ``missing`` is hatched, any other is an empty frame."""


def heat_chart(cells: Sequence[HeatCell], title: str, caption: str) -> Chart | None:
    """Draw proportions as a table of shades with their numbers; rows and columns in order of appearance."""
    if not cells:
        return None
    rows, columns = (
        list(dict.fromkeys(names)) for names in zip(*((c.row, c.column) for c in cells), strict=True)
    )
    values = [
        {
            "row": _numbered(rows, cell.row), "column": _numbered(columns, cell.column), "value": cell.value,
            "label": cell.absent if cell.value is None else percent(cell.value),
            "hatched": cell.value is None and cell.absent == "missing",
        }
        for cell in cells
    ]  # fmt: skip
    return twice(lambda width: _heat(values, width), title, caption)


def _numbered(names: Sequence[str], name: str) -> str:
    """Number a label, so that two names that are cut alike stay two."""
    return f"{names.index(name) + 1}. {short(name)}"


def rates_chart(rows: Sequence[tuple[str, Sequence[Measure]]], names: dict[MeasureRole, str]) -> Chart | None:
    """Dots with intervals, a line for each measure of each row, on one scale from 0 to 100 %.

    Args:
        rows: name and its measures; measures without a value are left out, not drawn at zero.
        names: role → legend entry, in drawing order.

    Returns:
        ``None`` when no measure has a value.
    """
    dots = (_dot(short(name), measure, names) for name, some in rows for measure in some)
    values = [dot for dot in dots if dot is not None]
    if not values:
        return None
    order = [short(name) for name, _ in rows]
    sizes = sorted({value["n"] for value in values if value["n"]})
    caption = f"{_n_words(sizes)} Bars are 95% intervals; a mark that is absent was not measured."
    return twice(
        lambda width: _rates(values, order, names, width),
        "How often the behaviour appears",
        caption,
        [(role, name) for role, name in names.items() if any(v["series"] == name for v in values)],
    )


def lift_chart(rows: Sequence[tuple[str, Measure]], base: float | None, n: int | None) -> Chart | None:
    """P(behaviour | feature) with its interval for each query feature, beside the corpus's base rate.

    Args:
        rows: feature text and its rate, best first; those without a value are left out.
        base: P(behaviour) over the corpus.
        n: rows in the corpus.
    """
    values = [
        {
            "feature": f"{rank}. {short(text, 84)}", "brief": f"{rank}. {short(text, 38)}", "rate": m.value,
            "low": m.interval.low if m.interval else None, "high": m.interval.high if m.interval else None,
            "lift": f"×{m.value / base:.3g}" if base else "",
        }
        for rank, (text, m) in enumerate(rows, 1)
        if m.value is not None
    ]  # fmt: skip
    if not values:
        return None
    corpus = f" over {n:,} training rows" if n else ""
    sizes = sorted({measure.n for _, measure in rows if measure.n})
    caption = f"{_n_words(sizes, 'rows with the feature')} Bars are 95% intervals."
    if base is not None:
        caption += (
            f" The dashed line is the base rate{corpus}, {100 * base:.2g}%; at the right, the lift over it."
        )
    return twice(
        lambda width: _lift(values, base, width), "How often the behaviour follows each feature", caption
    )


def score_chart(scores: Sequence[IterationScore], threshold: float | None) -> Chart | None:
    """Mean and best score by iteration of the search; ``None`` with fewer than two iterations."""
    if len(scores) < 2:
        return None
    values = [
        {"iteration": s.iteration, "score": score, "series": series}
        for s in scores
        for series, score in ((_BEST, s.best), (_MEAN, s.mean))
    ]
    caption = f"n = {sum(s.scored for s in scores):,} scored candidates; failures are in no mean."
    if threshold is not None:
        caption += f" The dashed line is the violation threshold, {threshold:g}."
    legend: list[tuple[MeasureRole, str]] = [("shortcut", _BEST), ("fixed", _MEAN)]
    return twice(lambda width: _scores(values, threshold, width), "Score by iteration", caption, legend)


def short(text: str, limit: int = _LABEL) -> str:
    """Make an untrusted text a one-line label."""
    line = " ".join(safe_text(text[: 4 * limit]).split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def _n_words(sizes: Sequence[int], of: str = "answers each") -> str:
    if not sizes:
        return "n is not recorded."
    return f"n = {sizes[0]:,} {of}." if len(sizes) == 1 else f"n = {sizes[0]:,}–{sizes[-1]:,} {of}."


def _dot(name: str, measure: Measure, names: dict[MeasureRole, str]) -> dict[str, Any] | None:
    if measure.value is None or measure.role not in names:
        return None
    span: Interval | None = measure.interval
    return {
        "name": name, "series": names[measure.role], "rate": measure.value, "n": measure.n,
        "low": span.low if span else None, "high": span.high if span else None,
    }  # fmt: skip


def _rates(values: list[dict[str, Any]], order: list[str], names: dict[MeasureRole, str], width: int) -> Any:
    import altair as alt

    roles, entries, room = list(names), list(names.values()), label_room(order, width)
    y = alt.Y(
        "name:N", sort=order, title=None,
        axis=alt.Axis(
            labelAlign="left", labelPadding=room, minExtent=room, labelLimit=room - 8, ticks=False,
            domain=False,
            labelFontSize=12, labelColor=INK, grid=True, gridOpacity=0.8, bandPosition=0,
        ),
        scale=alt.Scale(paddingInner=0, paddingOuter=0),
    )  # fmt: skip
    offset = alt.YOffset("series:N", sort=entries, scale=alt.Scale(domain=entries, paddingOuter=0.4))
    colour = alt.Color(
        "series:N", scale=alt.Scale(domain=entries, range=[COLOURS[r] for r in roles]), legend=None
    )
    shape = alt.Shape(
        "series:N", scale=alt.Scale(domain=entries, range=[SHAPES[r] for r in roles]), legend=None
    )
    base = alt.Chart(data(values)).encode(y=y, yOffset=offset)
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2.5, opacity=0.55)
    axis = "Share of answers that show the behaviour" if width == WIDE else "Share of answers"
    bars = bars.encode(x=_percent_axis("low:Q", axis, width), x2="high:Q", color=colour)
    dots = base.mark_point(filled=True, size=62, opacity=1)
    dots = dots.encode(x=_percent_axis("rate:Q", axis, width), color=colour, shape=shape)
    return alt.layer(bars, dots).properties(width=width - room - 30, height=alt.Step(12))


def _lift(values: list[dict[str, Any]], base: float | None, width: int) -> Any:
    import altair as alt

    label, plot = ("feature" if width == WIDE else "brief"), width - 90
    axis = "Share of training rows with the feature that show the behaviour"
    axis = axis if width == WIDE else "Share of the feature’s rows"
    rows = alt.Chart(data(values)).encode(y=alt.Y(f"{label}:N", sort=None, axis=None))
    spans = rows.transform_filter("isValid(datum.low)")
    spans = spans.mark_rule(strokeWidth=3, opacity=0.5, color=COLOURS["shortcut"])
    dots = rows.mark_point(filled=True, size=62, opacity=1, color=COLOURS["shortcut"])
    names = rows.mark_text(align="left", dy=-13, fontSize=12, color=INK)
    lifts = rows.mark_text(align="left", dx=14, fontSize=12, fontWeight="bold", color=INK)
    layers = [
        spans.encode(x=_percent_axis("low:Q", axis, width, grid=False), x2="high:Q"),
        dots.encode(x=_percent_axis("rate:Q", axis, width, grid=False)),
        names.encode(x=alt.value(0), text=f"{label}:N"),
        lifts.encode(x=alt.value(plot), text="lift:N"),
    ]
    if base is not None:
        rule = alt.Chart(data([{"base": base}])).mark_rule(strokeDash=[4, 3], strokeWidth=1.5, color=MUTED)
        layers.insert(0, rule.encode(x=_percent_axis("base:Q", axis, width, grid=False)))
    return alt.layer(*layers).properties(width=plot, height=alt.Step(44))


def _scores(values: list[dict[str, Any]], threshold: float | None, width: int) -> Any:
    import altair as alt

    entries = [_BEST, _MEAN]
    iterations = sorted({value["iteration"] for value in values})
    ticks = iterations[:: -(-len(iterations) // 10)]
    colour = alt.Color(
        "series:N", legend=None,
        scale=alt.Scale(domain=entries, range=[COLOURS["shortcut"], COLOURS["fixed"]]),
    )  # fmt: skip
    x = alt.X("iteration:Q", title="Iteration", axis=alt.Axis(values=ticks, grid=False, format="d"))
    y = alt.Y("score:Q", title="Judged score", scale=alt.Scale(domain=[0, 100]))
    base = alt.Chart(data(values)).encode(x=x, y=y, color=colour)
    shape = alt.Shape("series:N", legend=None, scale=alt.Scale(domain=entries, range=["circle", "square"]))
    layers = [
        base.mark_line(strokeWidth=2),
        base.mark_point(filled=True, size=44, opacity=1).encode(shape=shape),
    ]
    if threshold is not None:
        rule = alt.Chart(data([{"threshold": threshold}]))
        layers.append(rule.mark_rule(strokeDash=[4, 3], color=MUTED).encode(y="threshold:Q"))
    return alt.layer(*layers).properties(width=width - 60, height=200)


def _heat(values: list[dict[str, Any]], width: int) -> Any:
    import altair as alt

    rows, columns = (list(dict.fromkeys(value[key] for value in values)) for key in ("row", "column"))
    room, height = label_room(rows, width), 34
    wide = min(120, (width - room - 30) // len(columns))
    angle = 0 if all(8 * len(name) < wide for name in columns) else -40
    across = alt.Axis(
        orient="top", labelAngle=angle, labelLimit=130, grid=False, ticks=False, domain=False, labelColor=INK
    )
    down = alt.Axis(
        labelAlign="left", labelPadding=room, minExtent=room, labelLimit=room - 8, grid=False, ticks=False,
        domain=False, labelColor=INK, labelFontSize=12,
    )  # fmt: skip
    base = alt.Chart(data(values)).encode(
        x=alt.X("column:N", sort=columns, title=None, axis=across),
        y=alt.Y("row:N", sort=rows, title=None, axis=down),
    )
    shade = alt.Opacity("value:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.04, 0.8]))
    hatch = _hatching(wide - 2, height - 2)
    layers = [
        base.mark_rect(stroke=GRID, fillOpacity=0),
        base.transform_filter("isValid(datum.value)")
        .mark_rect(color=COLOURS["shortcut"])
        .encode(opacity=shade),
        base.transform_filter("datum.hatched").mark_point(
            shape=hatch, size=4, stroke=MUTED, strokeWidth=1, opacity=0.55
        ),
    ]
    fits = [value for value in values if 6.4 * len(value["label"]) <= wide]
    words = alt.Chart(data(fits)).encode(x=base.encoding.x, y=base.encoding.y, text="label:N")
    layers.append(words.mark_text(fontSize=12 if wide >= 56 else 10, color=INK))
    return alt.layer(*layers).properties(width=wide * len(columns), height=height * len(rows))


def _hatching(width: float, height: float) -> str:
    """Draw slanted lines over a box around the origin, as a point's path; at size 4 a unit is a pixel."""
    lines = []
    step, across = 7, width / 2 + height / 2
    for k in range(int(2 * across / step) + 1):
        c = -across + k * step
        left, right = max(-width / 2, c - height / 2), min(width / 2, c + height / 2)
        if left < right:
            lines.append(f"M{left:.1f},{c - left:.1f}L{right:.1f},{c - right:.1f}")
    return "".join(lines)


def data(values: list[dict[str, Any]]) -> Any:
    """Give values to altair, in the chart itself."""
    import altair as alt

    return alt.InlineData(values=values)


def _percent_axis(field: str, title: str, width: int, grid: bool = True) -> Any:
    import altair as alt

    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1] if width == WIDE else [0, 0.5, 1]
    axis = alt.Axis(
        format="%", values=ticks, grid=grid, titleAlign="left", titleAnchor="start", titlePadding=8
    )
    return alt.X(field, title=title, scale=alt.Scale(domain=[0, 1]), axis=axis)


def label_room(labels: Iterable[str], width: int) -> int:
    """Width of the label column: the reader's font may be wider than the renderer's, so there is slack."""
    longest = max((len(label) for label in labels), default=0)
    return min(8 * longest + 12, int(0.42 * width))


def twice(
    draw: Callable[[int], Any], title: str, caption: str, legend: Sequence[tuple[MeasureRole, str]] = ()
) -> Chart:
    """Draw a figure for wide and for narrow pages; ``draw`` maps a width in px to an altair chart."""
    return Chart(
        legend=tuple(legend),
        wide=sanitised(_svg(draw(WIDE)), "wide", f"{title}. {caption}"),
        narrow=sanitised(_svg(draw(NARROW)), "narrow", f"{title}. {caption}"),
        title=title,
        caption=caption,
    )


def _svg(chart: Any) -> str:
    import vl_convert

    quiet = {"labelColor": MUTED, "titleColor": MUTED, "titleFontWeight": "normal", "titleFontSize": 12,
             "labelFontSize": 11}  # fmt: skip
    chart = (
        chart.configure(background="transparent", font="sans-serif", padding=_PADDING)
        .configure_view(stroke=None)
        .configure_axis(**quiet, gridColor=GRID, domainColor=GRID, tickColor=GRID)
    )
    drawn: str = vl_convert.vegalite_to_svg(chart.to_dict(), allowed_base_urls=[])
    return drawn
