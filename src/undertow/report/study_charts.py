"""Charts of the studies: effects with intervals on a free scale, rates along a dose, a grid of places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from undertow.report.charts import COLOURS, GRID, INK, MUTED, WIDE, data, short, twice
from undertow.report.contexts import Chart

SERIES = (COLOURS["shortcut"], COLOURS["fixed"], "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", COLOURS["start"])
"""Okabe and Ito's colours; further series repeat them with other marks."""
MARKS = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")


@dataclass(frozen=True, slots=True)
class Effect:
    """One value with its interval."""

    label: str
    """Its row."""
    value: float
    """Where the mark stands."""
    low: float | None
    """Lower bound."""
    high: float | None
    """Upper bound."""


@dataclass(frozen=True, slots=True)
class Place:
    """One point of a dose curve."""

    series: str
    """Its line."""
    x: float
    """The dose."""
    value: float
    """The rate."""
    low: float | None
    """Lower bound."""
    high: float | None
    """Upper bound."""


@dataclass(frozen=True, slots=True)
class Square:
    """One place of a grid of two numbers."""

    row: int
    """First axis."""
    column: int
    """Second axis."""
    value: float | None
    """In [0, 1]; ``None`` is hatched as missing by leaving it empty with a frame."""


def effect_chart(effects: Sequence[Effect], title: str, axis: str, caption: str) -> Chart | None:
    """Draw values with intervals beside the line of no effect; in the order given."""
    if not effects:
        return None
    values = [
        {"name": f"{k}. {short(e.label, 42)}", "brief": f"{k}. {short(e.label, 20)}", "value": e.value,
         "low": e.low, "high": e.high}
        for k, e in enumerate(effects, 1)
    ]  # fmt: skip
    return twice(lambda width: _effects(values, axis, width), title, caption)


def _effects(values: list[dict[str, Any]], axis: str, width: int) -> Any:
    import altair as alt

    label = "name" if width == WIDE else "brief"
    room = min(7 * max(len(value[label]) for value in values) + 12, width // 2)
    y = alt.Y(
        f"{label}:N", sort=None, title=None,
        axis=alt.Axis(
            labelAlign="left", labelPadding=room, minExtent=room, labelLimit=room - 8, ticks=False,
            domain=False, labelFontSize=12, labelColor=INK, grid=False,
        ),
    )  # fmt: skip
    x = alt.X("value:Q", title=axis, axis=alt.Axis(tickCount=5), scale=alt.Scale(zero=True, nice=True))
    base = alt.Chart(data(values)).encode(y=y)
    spans = base.transform_filter("isValid(datum.low)").mark_rule(
        strokeWidth=2.5, opacity=0.55, color=COLOURS["shortcut"]
    )
    dots = base.mark_point(filled=True, size=62, opacity=1, color=COLOURS["shortcut"])
    zero = alt.Chart(data([{"zero": 0}])).mark_rule(strokeDash=[4, 3], color=MUTED).encode(x="zero:Q")
    layers = [zero, spans.encode(x=alt.X("low:Q", title=axis), x2="high:Q"), dots.encode(x=x)]
    return alt.layer(*layers).properties(width=width - room - 30, height=alt.Step(26))


def dose_chart(places: Sequence[Place], title: str, axis: str, caption: str) -> Chart | None:
    """Draw a rate along a dose, a line a series, each mark with its interval."""
    if not places:
        return None
    names = list(dict.fromkeys(place.series for place in places))
    values = [
        {"series": short(p.series, 30), "x": p.x, "value": p.value, "low": p.low, "high": p.high}
        for p in places
    ]
    return twice(lambda width: _doses(values, [short(n, 30) for n in names], axis, width), title, caption)


def _doses(values: list[dict[str, Any]], names: list[str], axis: str, width: int) -> Any:
    import altair as alt

    colours = [SERIES[k % len(SERIES)] for k in range(len(names))]
    marks = [MARKS[(k + k // len(SERIES)) % len(MARKS)] for k in range(len(names))]
    legend = alt.Legend(
        orient="top", title=None, columns=1 if width != WIDE else 3, labelColor=INK, labelFontSize=12,
        labelLimit=width - 60, symbolOpacity=1, columnPadding=24,
    )  # fmt: skip
    colour = alt.Color("series:N", scale=alt.Scale(domain=names, range=colours), legend=legend)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=names, range=marks), legend=legend)
    x = alt.X("x:Q", title=axis, axis=alt.Axis(grid=False, tickCount=6))
    share = alt.Y("value:Q", title="Rate", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    base = alt.Chart(data(values)).encode(x=x, color=colour)
    spans = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2, opacity=0.4)
    layers = [
        spans.encode(y=alt.Y("low:Q", title="Rate"), y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y=share),
        base.mark_point(filled=True, size=56, opacity=1).encode(y=share, shape=shape),
    ]
    return alt.layer(*layers).properties(width=width - 70, height=230)


def grid_chart(squares: Sequence[Square], title: str, axes: tuple[str, str], caption: str) -> Chart | None:
    """Draw a share in every place of a grid; rows are the first axis."""
    if not squares:
        return None
    values = [
        {"row": s.row, "column": s.column, "value": s.value,
         "label": "" if s.value is None else f"{100 * s.value:.0f}"}
        for s in squares
    ]  # fmt: skip
    return twice(lambda width: _grid(values, axes, width), title, caption)


def _grid(values: list[dict[str, Any]], axes: tuple[str, str], width: int) -> Any:
    import altair as alt

    columns = len({value["column"] for value in values})
    side = max(6, min(44, (width - 70) // columns))
    plain = alt.Axis(labelAngle=0, grid=False, ticks=False, domain=False, labelOverlap=True)
    base = alt.Chart(data(values)).encode(
        x=alt.X("column:O", title=axes[1], axis=plain), y=alt.Y("row:O", title=axes[0], axis=plain)
    )
    shade = alt.Opacity("value:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.04, 0.8]))
    layers = [
        base.mark_rect(stroke=GRID, fillOpacity=0),
        base.transform_filter("isValid(datum.value)")
        .mark_rect(color=COLOURS["shortcut"])
        .encode(opacity=shade),
    ]
    if side >= 24:
        layers.append(base.mark_text(fontSize=10, color=INK).encode(text="label:N"))
    return alt.layer(*layers).properties(width=alt.Step(side), height=alt.Step(min(side, 30)))
