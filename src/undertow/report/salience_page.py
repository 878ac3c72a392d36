"""The charts of a salience study: ranking, arrows from feature to feature, combinations, sweeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from undertow.records import Interval
from undertow.report.charts import COLOURS, GRID, INK, data, short, twice
from undertow.report.contexts import Chart
from undertow.report.reading import Fields, fields, flag, interval, number, records, text
from undertow.report.runs import Run
from undertow.report.study_charts import Effect, Place, dose_chart, effect_chart

_TURN = {"aa": "ab", "ab": "aa", "ba": "bb", "bb": "ba"}
_SAID = {
    "aa": "both features as in A",
    "ab": "the first as in A, the second as in B",
    "ba": "the first as in B, the second as in A",
    "bb": "both features as in B",
}


@dataclass(frozen=True, slots=True)
class Arrow:
    """One compared pair."""

    winner: str
    """Feature with the larger effect."""
    loser: str
    """The other."""
    decided: bool
    """The interval excludes 0."""


def salience_charts(run: Run) -> tuple[Chart, ...]:
    """Draw what the study has: a ranking with its pairs, a sweep, or system prompts."""
    if sweep := records(run.summary.get("sweep")):
        charts = [_sweep_chart(sweep)]
    elif systems := records(run.summary.get("systems")):
        charts = [_system_chart(systems)]
    else:
        charts = [*_rankings(run), _arrows(run), _combinations(records(run.summary.get("cells")))]
    return tuple(chart for chart in charts if chart is not None)


def _rankings(run: Run) -> list[Chart | None]:
    models = fields(run.summary.get("models"))
    each = {name.rstrip("/").rpartition("/")[2]: records(models[name]) for name in models}
    whole = {"": records(run.summary.get("ranking"))}
    drawn = whole | (each if len(each) > 1 else {})
    return [_ranking(ranking, model) for model, ranking in drawn.items()]


def _ranking(ranking: Sequence[Fields], model: str) -> Chart | None:
    effects = [
        Effect(text(row, "feature"), found, *_bounds(interval(row, "interval")))
        for row in ranking
        if (found := number(row, "theta")) is not None
    ]
    title = f"{model}: its own ranking" if model else "How much the model listens to each feature"
    return effect_chart(
        effects, title, "Bradley–Terry score, log-odds of winning",
        "From all pairs × behaviours; the scores sum to 0. Bars are 95% intervals.",
    )  # fmt: skip


def _bounds(span: Interval | None) -> tuple[float | None, float | None]:
    return (span.low, span.high) if span else (None, None)


def _arrows(run: Run) -> Chart | None:
    order = [text(row, "feature") for row in records(run.summary.get("ranking"))]
    arrows = []
    for pair in records(run.summary.get("pairs")):
        value, span = number(pair, "value"), interval(pair, "interval")
        if value is None:
            continue
        names = (text(pair, "first"), text(pair, "second"))
        winner, loser = names if value > 0 else names[::-1]
        arrows.append(Arrow(winner, loser, span is not None and not span.low <= 0 <= span.high))
    return arrow_chart(order, arrows) if len(order) > 2 and arrows else None


def arrow_chart(order: Sequence[str], arrows: Sequence[Arrow]) -> Chart:
    """Draw the features on a circle, best at the top, and an arrow from the winner of each pair."""
    turns = {name: 2 * math.pi * k / len(order) for k, name in enumerate(order)}
    places = {name: (math.sin(turn), math.cos(turn)) for name, turn in turns.items()}
    return twice(
        lambda width: _circle(places, arrows, width), "Which feature wins each pair",
        "Clockwise from the top by score. An arrow goes from the feature with the larger effect; "
        "dashed without a head: undecided, its interval holds 0. A pair that lacks a comparison has no line.",
    )  # fmt: skip


def _circle(places: dict[str, tuple[float, float]], arrows: Sequence[Arrow], width: int) -> Any:
    import altair as alt

    side = min(width - 40, 420)
    ends = [(places[a.winner], places[a.loser], a.decided) for a in arrows]
    lines = [{"x": a[0], "y": a[1], "x2": b[0], "y2": b[1], "decided": decided} for a, b, decided in ends]
    heads = [
        {"x": (a[0] + 4 * b[0]) / 5, "y": (a[1] + 4 * b[1]) / 5,
         "angle": math.degrees(math.atan2(b[0] - a[0], b[1] - a[1])) % 360}
        for a, b, decided in ends if decided
    ]  # fmt: skip
    nodes = [
        {"name": short(n, 18), "x": x, "y": y, "out": x * 1.24, "high": y * 1.14}
        for n, (x, y) in places.items()
    ]
    scale = alt.Scale(domain=[-1.5, 1.5])
    x, y = (alt.X("x:Q", axis=None, scale=scale), alt.Y("y:Q", axis=None, scale=scale))
    dash = alt.condition("datum.decided", alt.value([1, 0]), alt.value([3, 4]))
    base = alt.Chart(data(lines)).encode(x=x, y=y, x2="x2:Q", y2="y2:Q", strokeDash=dash)
    layers = [
        base.mark_rule(strokeWidth=1.2, opacity=0.45, color=COLOURS["fixed"]),
        alt.Chart(data(heads))
        .mark_point(shape="triangle", filled=True, size=46, opacity=0.9, color=COLOURS["fixed"])
        .encode(x=x, y=y, angle=alt.Angle("angle:Q", scale=None)),
        alt.Chart(data(nodes))
        .mark_point(filled=True, size=70, opacity=1, color=COLOURS["shortcut"], stroke=GRID)
        .encode(x=x, y=y),
        alt.Chart(data(nodes))
        .mark_text(fontSize=12, color=INK)
        .encode(
            x=alt.X("out:Q", axis=None, scale=scale),
            y=alt.Y("high:Q", axis=None, scale=scale),
            text="name:N",
        ),
    ]
    return alt.layer(*layers).properties(width=side, height=side)


def _combinations(cells: Sequence[Fields]) -> Chart | None:
    """Mean elicitation of both behaviours in each combination, turned so that A means A for both features."""
    found: dict[tuple[str, int], list[float]] = {}
    known = [cell for cell in cells if flag(cell, "crossed") is not None]
    for cell in known:
        elicited = fields(cell.get("elicited"))
        for combination in _SAID:
            shown = elicited.get(_TURN[combination] if flag(cell, "crossed") else combination)
            for k, value in enumerate(shown if isinstance(shown, list) else ()):
                found.setdefault((combination, k), []).append(float(value))
    effects = [
        Effect(f"{_SAID[combination]}: {'A' if k == 0 else 'B'}'s behaviour", sum(v) / len(v), None, None)
        for (combination, k), v in found.items()
    ]
    return effect_chart(
        effects, "Elicitation in the four combinations", "Rate, mean over all comparisons",
        f"{len(known)} comparisons; trained were the first and the last combination. In the other two the "
        "features disagree: a model that listens to one alone shows that one's behaviour.",
    )  # fmt: skip


def system_rows(systems: Sequence[Fields]) -> tuple[Fields, ...]:
    """Give each effect of a study of system prompts its own row."""
    names = {"system": "system prompt", "dropped": "system prompt left out", "other": "other feature"}
    return tuple(
        {"kind": text(row, "kind"), "in training": "yes" if flag(row, "trained") else "only afterwards",
         "effect": name, **fields(row.get(part))}
        for row in systems
        for part, name in names.items()
        if fields(row.get(part))
    )  # fmt: skip


def _system_chart(systems: Sequence[Fields]) -> Chart | None:
    effects = [
        Effect(
            f"{text(row, 'kind')}, {text(row, 'in training')}: {text(row, 'effect')}", value,
            *_bounds(interval(row, "interval")),
        )
        for row in system_rows(systems)
        if (value := number(row, "value")) is not None
    ]  # fmt: skip
    return effect_chart(
        effects, "Effect of a system prompt and of the other feature", "Main effect on the margin",
        "In training: yes, or only afterwards. Mean over behaviours; bars are 95% intervals over runs.",
    )  # fmt: skip


def _sweep_chart(sweep: Sequence[Fields]) -> Chart | None:
    """Draw presence against p and converse against 1 − q: where they meet, only predictiveness counts."""
    places = []
    for row in sweep:
        share, found = number(row, "share"), number(row, "value")
        if share is not None and found is not None:
            converse = text(row, "sweep") == "converse"
            name = "in B too (at 1 − q)" if converse else "in A (at p)"
            places.append(
                Place(name, 1 - share if converse else share, found, *_bounds(interval(row, "interval")))
            )
    return dose_chart(
        sorted(places, key=lambda place: (place.series, place.x)), "The feature's part of the effect",
        "Share p of rows of A with the feature; 1 − q for rows of B",
        "Main effect of the feature over the sum of both; bars are 95% intervals over runs.",
    )  # fmt: skip
