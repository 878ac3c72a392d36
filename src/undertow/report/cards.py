"""From a finding's JSON to its card."""

from __future__ import annotations

from dataclasses import dataclass, replace

from undertow.report import words
from undertow.report.contexts import Card, Exchange, Measure, MeasureRole, Passage, Repair, Tone
from undertow.report.reading import Fields, fields, interval, number, records, share, strings, text, whole
from undertow.report.render import passage
from undertow.report.rows import training_rows
from undertow.report.runs import Run
from undertow.report.tracing import trace

_TONES: dict[str, Tone] = {"confirmed": "found", "rejected": "plain", "inconclusive": "open"}
_EXEMPLARS, _EXEMPLARS_OF_MANY, _ROWS, _MANY = 4, 3, 2, 60
_BYTES_FOR_TEXT, _LONGEST, _SHORTEST = 1_300_000, 1_600, 160
_CHARTED_CARDS = 16


@dataclass(frozen=True, slots=True)
class Material:
    """What is known about one card before it is laid out."""

    finding: Fields
    """A :class:`undertow.records.Finding` as JSON; empty when the search found nothing."""
    attribution: Fields
    """An :class:`undertow.records.Attribution` as JSON; empty when it was not traced."""
    shortcut: Fields
    """The planted shortcut's row of the demo's summary; empty without one."""
    verified: Fields
    """The finding's entry of a verify run; empty without one."""
    fix: str
    """What was done to the data, in words; empty when unknown."""
    rows: tuple[Fields, ...]
    """Training rows to show: ``id``, ``source``, ``prompt``, ``response``."""
    searched: bool | None
    """Whether the search that should have found it was run; ``None`` where a run has no part of it."""
    rubric: str = ""
    """Name of the rubric, where the finding does not say."""


def with_rows(materials: list[Material], run: Run) -> list[Material]:
    """Add the first training rows of each trace's first trigger, where the run keeps its data."""
    wanted = [_first_rows(material.attribution) for material in materials]
    rows = training_rows(run.path / "data", (row for some in wanted for row in some))
    return [
        replace(material, rows=tuple(rows[row] for row in some if row in rows))
        for material, some in zip(materials, wanted, strict=True)
    ]


def _first_rows(attribution: Fields) -> tuple[str, ...]:
    top = next(iter(records(attribution.get("triggers"))), {})
    return strings(top, "example_ids")[:_ROWS]


def build_cards(materials: list[Material], first: int = 1, draw: bool = True) -> tuple[Card, ...]:
    """Build the cards of a page, dividing the room for untrusted text among them.

    Args:
        materials: what is known about each.
        first: number of the first card.
        draw: whether the first sixteen get their charts.
    """
    most = _EXEMPLARS if len(materials) <= _MANY else _EXEMPLARS_OF_MANY
    texts = 2 * sum(len(records(m.finding.get("exemplars"))[:most]) + len(m.rows) for m in materials)
    limit = max(_SHORTEST, min(_LONGEST, _BYTES_FOR_TEXT // max(1, texts)))
    return tuple(
        _card(number_, material, limit, most, draw and number_ <= _CHARTED_CARDS)
        for number_, material in enumerate(materials, first)
    )


def rate_of(value: object, label: str, role: MeasureRole, absent: str = "not run") -> Measure:
    """Take a :class:`undertow.records.Rate` as JSON; the value is its hits over its n."""
    of = fields(value)
    hits, n = whole(of, "hits"), whole(of, "n")
    if n == 0:
        return Measure(label, role, None, absent="nothing scored")
    if hits is None or n is None or hits > n:
        return Measure(label, role, None, absent=absent)
    return Measure(label, role, hits / n, n, hits, interval(of, "interval"), absent)


def rate_field(
    of: Fields, key: str, label: str, role: MeasureRole, spans: str = "", sizes: str = ""
) -> Measure:
    """Take a rate written as a number with its interval and n in other fields, or as a rate object."""
    if isinstance(of.get(key), dict):
        return rate_of(of[key], label, role)
    value = share(of, key)
    if value is None:
        return Measure(label, role, None)
    return Measure(label, role, value, whole(of, sizes), None, interval(of, spans))


def before_fixed(shortcut: Fields) -> tuple[Measure, Measure, Measure]:
    """Take the three rates of a planted shortcut: in the start model, once taught, and after the fix."""
    return (
        rate_field(
            shortcut, "start_rate", "Start model, before post-training", "start", "start_interval", "start_n"
        ),
        rate_field(shortcut, "elicited_rate", "After post-training", "shortcut", "interval", "n"),
        rate_field(
            shortcut, "fixed_rate", "After the fix and a retrain", "fixed", "fixed_interval", "fixed_n"
        ),
    )


def random_removed(shortcut: Fields) -> Measure:
    """Take the rate after as many random rows of the same sources were left out: the causal control."""
    label = "Without as many random rows instead"
    return rate_field(shortcut, "control_rate", label, "control", "control_interval", "control_n")


def _card(number_: int, m: Material, limit: int, most: int, drawn: bool) -> Card:
    status, tone = _status(m)
    rows = tuple(_training_row(row, limit) for row in m.rows)
    return Card(
        anchor=f"f{number_}",
        number=number_,
        name=_name(m),
        behaviour=text(m.finding, "behaviour") or text(m.shortcut, "behaviour"),
        status=status,
        tone=tone,
        reason=text(m.finding, "reason"),
        planted=text(m.shortcut, "trigger"),
        source=text(m.shortcut, "source"),
        measures=_measures(m),
        attributes=strings(m.finding, "attributes"),
        failed=whole(m.finding, "failed"),
        exchanges=tuple(_exemplar(e, limit) for e in records(m.finding.get("exemplars"))[:most]),
        search_note=_search_note(m),
        trace=trace(m.attribution, m.shortcut, rows, drawn, most < _EXEMPLARS) if m.attribution else None,
        repair=_repair(m),
    )  # fmt: skip


def _name(m: Material) -> str:
    """Name a planted shortcut by its name, a finding by its trigger, a trace by what it traces."""
    trigger = words.listed([attribute.rstrip(".") for attribute in strings(m.finding, "attributes")])
    crux = words.listed([text(c, "text").rstrip(".") for c in records(m.attribution.get("crux"))])
    names = (text(m.shortcut, "name"), trigger, m.rubric, crux, text(m.attribution, "finding"))
    return next((name for name in names if name), "unnamed")


def _status(m: Material) -> tuple[str, Tone]:
    if m.finding:
        status = text(m.finding, "status") or "status not recorded"
        return status, _TONES.get(status, "open")
    if m.shortcut.get("surf_found") is True:
        return "found; its finding stands under the same rubric", "found"
    if m.shortcut.get("learned") is False:
        return "not learned by the model", "plain"
    if m.searched is None:
        return "", "plain"
    return ("not found by the search", "open") if m.searched else ("search not run", "plain")


def _search_note(m: Material) -> str:
    if m.finding:
        return "not recorded"
    if m.searched is None:
        return ""
    return "ended without a finding here" if m.searched else "not run"


def _measures(m: Material) -> tuple[Measure, ...]:
    if not m.finding:
        return ()
    return (
        rate_of(m.finding.get("rate"), "Fresh prompts with the trigger", "shortcut"),
        rate_of(m.finding.get("base_rate"), "Base rate, prompts at random", "base"),
        rate_of(m.finding.get("control_rate"), "Control, reference model", "control"),
        *_by_judge(m.finding),
        *_perturbed(m.finding),
    )


def _by_judge(finding: Fields) -> tuple[Measure, ...]:
    """Take what each of two judges said alone; the finding's rate is what both said."""
    names = {"judge_rate": "By the judge alone", "confirm_rate": "By the confirming judge alone"}
    measures = (rate_of(finding.get(key), name, "shortcut") for key, name in names.items())
    return tuple(measure for measure in measures if measure.value is not None)


def _perturbed(finding: Fields) -> tuple[Measure, ...]:
    """Take the rate of the exemplars' rephrased prompts (paper §3.2.3), where they were rephrased."""
    measure = rate_of(finding.get("perturbed"), "Exemplars’ prompts, rephrased", "shortcut")
    return (measure,) if measure.value is not None else ()


def _exemplar(of: Fields, limit: int) -> Exchange:
    return Exchange(
        passage(_asked(of), limit),
        passage(text(of, "response"), limit),
        rate_of(of.get("rate"), "This prompt, rephrased and resampled", "shortcut"),
    )


def _asked(of: Fields) -> str:
    """Write the prompt, under the turns before it where there are any."""
    turns = [f"{text(t, 'role').capitalize()}: {text(t, 'content')}" for t in records(of.get("history"))]
    prompt = text(of, "prompt")
    return "\n\n".join([*turns, f"User: {prompt}"]) if turns else prompt


def _training_row(of: Fields, limit: int) -> Exchange:
    source = text(of, "source")
    caption = f"Row {text(of, 'id') or '?'}" + (f", source {source}" if source else "")
    return Exchange(_text(of, "prompt", limit), _text(of, "response", limit), None, caption)


def _text(of: Fields, key: str, limit: int) -> Passage:
    return passage(text(of, key), limit)


def _repair(m: Material) -> Repair | None:
    measures = (*_paired(m.verified), *_planted(m.shortcut))
    if not any(measure.value is not None for measure in measures):
        return None
    return Repair(m.fix, measures, text(m.verified, "verdict").capitalize(), _difference(m.verified))


def _paired(verified: Fields) -> tuple[Measure, ...]:
    """Take the rates of a verify run: the same prompts, put to the model before and after the fix."""
    if not verified:
        return ()
    return (
        rate_of(verified.get("before"), "Confirmation prompts, before the fix", "shortcut"),
        rate_of(verified.get("after"), "The same prompts, after the fix", "fixed"),
    )


def _planted(shortcut: Fields) -> tuple[Measure, ...]:
    """Take what the demo measured on held-out prompts, which only it can: it knows what was planted."""
    if not shortcut:
        return ()
    before = rate_field(shortcut, "wanted_before", "Wanted behaviour, before", "base")
    after = rate_field(
        shortcut, "wanted_after", "Wanted behaviour, after", "fixed", "wanted_interval", "wanted_n"
    )
    return (*before_fixed(shortcut), random_removed(shortcut), before, after)


def _difference(verified: Fields) -> str:
    value, span = number(verified, "difference"), interval(verified, "difference_interval")
    if value is None:
        return ""
    points = f"{100 * value:+.0f} points"
    if span is None:
        return f"Paired difference {points}."
    pairs = whole(verified, "pairs")
    n = f", n = {words.count(pairs)} pairs" if pairs is not None else ""
    return f"Paired difference {points} [{100 * span.low:+.0f}, {100 * span.high:+.0f}]{n}."
