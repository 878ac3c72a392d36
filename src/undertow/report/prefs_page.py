"""The page of a preference audit: what pairs reward, what explains it, and what fixes would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from undertow.preference.highlight import fires_at
from undertow.report import facts, words
from undertow.report.charts import COLOURS, INK, MUTED, SHAPES, data, label_room, short, twice
from undertow.report.contexts import Card, Cell, Chart, Exchange, Fact, Head, MeasureRole, Page, Table
from undertow.report.reading import Fields, fields, flag, interval, number, records, strings, text, whole
from undertow.report.render import passage
from undertow.report.runs import Run
from undertow.store.tables import read_table

_CONCEPTS, _WORDINGS, _HYPOTHESES, _CONCEPT_CARDS, _EXAMPLES, _FIXES, _NAMED = 50, 20, 20, 8, 2, 40, 6
_CHARTED = 16
_STRATA = 6
_LIMIT = 900
_HELD: tuple[tuple[str, str, MeasureRole], ...] = (
    ("coef", "alone", "start"),
    ("coef_length", "length held", "shortcut"),
    ("coef_length_identity", "length and writers held", "fixed"),
)
_GLOSSARY = (
    ("Δ of a concept", "Share of pairs where only chosen shows it, less those where only rejected does."),
    ("Log-odds", "How much likelier the side that shows it is chosen: a logistic of the pairs."),
    ("Length, writers held", "The same with the length difference, and an intercept a writer, beside it."),
    ("Δ of a hypothesis", "Mean disparity inside the group less outside; by prompts: in deviations."),
    ("Label-swap floor", "With chosen and rejected swapped at random, 19 of 20 largest Δ are below it."),
    ("Confirmed", "Found on half of the prompts, held on the other half (q), equal signs, above the floor."),
    ("Gathered", "Statements that rest on the same pairs (cosine of 0.6 or more) stand under the first."),
    ("Marked", "Where the concept fires. What no pattern finds, like length, is not marked."),
    ("Interval", "95%, each prompt one observation, however many pairs it has."),
)  # fmt: skip


def prefs_page(run: Run, brief: bool = False) -> Page:
    """Build the page of an audit; ``brief``: without charts."""
    concepts, hypotheses = records(run.summary.get("concepts")), records(run.summary.get("hypotheses"))
    found = [c for c in concepts if flag(c, "confirmed")]
    held = [h for h in hypotheses if flag(h, "confirmed")]
    told = fields(run.summary.get("data"))
    pairs, prompts = (words.counted(whole(told, key) or 0, key[:-1]) for key in ("pairs", "prompts"))
    subject = f"{pairs} on {prompts}"
    explained = (*_explained(found), *_writers(run), *_gathered(found))
    texts = _examples(run.path)
    cards = [
        *(_card(h, held, texts) for h in _heads(held)[:_HYPOTHESES]),
        *(_concept_card(c, found, texts) for c in _stays(found)[:_CONCEPT_CARDS]),
    ]
    return Page(
        head=Head(
            title="undertow prefs",
            kind="preference audit",
            subject=subject,
            status=run.status,
            verdict=_verdict(concepts, found, held),
            warnings=facts.warnings(run),
            facts=(
                Fact("What was audited", subject, _left_out(told)),
                Fact("Length", _shown(concepts[0], "delta") if concepts else None, ("longer less shorter",)),
                Fact("Confirmed concepts", words.count(len(found)), explained),
                Fact("Confirmed hypotheses", words.count(len(held)), (*_floors(run), *_gathered(held))),
                facts.cost(run),
            ),
        ),
        charts=() if brief else tuple(chart for chart in (effects_chart(found),) if chart),
        table=_concept_table(found) if concepts else None,
        cards=tuple(replace(card, anchor=f"h{i}", number=i) for i, card in enumerate(cards, 1)),
        controls=_fix_table(records(run.summary.get("predicted"))),
        controls_note=_CONTROL,
        phases=(),
        provenance=facts.provenance(run),
        glossary=_GLOSSARY,
    )  # fmt: skip


_CONTROL = (
    "What each fix would do to what these pairs reward, before any training: the weight of each pair at the "
    "first step, times what it shows. A prediction, not a result."
)


def _verdict(concepts: Sequence[Fields], found: Sequence[Fields], held: Sequence[Fields]) -> tuple[str, ...]:
    if not concepts:
        return ("The audit has not ended; nothing is recorded yet.",)
    names = words.listed([text(c, "name") for c in _stays(found)[:4]])
    first = _of_length(concepts[0])
    rest = (
        f"Beyond length{_and_writers(found)}, these stay: {names}."
        if names
        else "No named concept stays beyond it."
    )
    return (
        first,
        rest,
        f"{words.counted(len(held), 'hypothesis', 'hypotheses')} on groups of prompts or responses held.",
    )


def _of_length(length: Fields) -> str:
    delta = number(length, "delta")
    if not flag(length, "confirmed"):
        return f"Length does not tell chosen from rejected: Δ {_shown(length, 'delta') or 'not recorded'}."
    longer = "longer" if (delta or 0) > 0 else "shorter"
    return f"The chosen response is the {longer} one: {_signed(delta)} of pairs, net."


def _stays(found: Sequence[Fields]) -> list[Fields]:
    """Named concepts that neither length nor writers explain, one of those that rest on the same pairs."""
    named = [c for c in found if ": " not in text(c, "name") and not _is_length(c)]
    return _heads([c for c in named if _why(c) == "neither"])


def _heads(of: Sequence[Fields]) -> list[Fields]:
    """Statements that stand under no other of these; audits without gathering have heads alone."""
    names = {_name(each) for each in of}
    return [
        each for each in of if text(each, "alike") in ("", _name(each)) or text(each, "alike") not in names
    ]


def _name(of: Fields) -> str:
    return text(of, "id") or text(of, "name")


def _under(head: Fields, of: Sequence[Fields]) -> list[Fields]:
    """Statements that rest on the same pairs as ``head``."""
    return [each for each in of if each is not head and text(each, "alike") == _name(head)]


def _gathered(of: Sequence[Fields]) -> tuple[str, ...]:
    heads = len(_heads(of))
    return (f"{heads} after gathering those on the same pairs",) if heads < len(of) else ()


def _and_writers(found: Sequence[Fields]) -> str:
    return " and writers" if any(number(c, "coef_length_identity") is not None for c in found) else ""


def _signed(value: float | None) -> str:
    return "not recorded" if value is None else f"{100 * value:+.0f}%"


def _shown(of: Fields, key: str) -> str | None:
    value, span = number(of, key), interval(of, "interval")
    if value is None:
        return None
    return f"{value:+.2f}" + (f" [{span.low:+.2f}, {span.high:+.2f}]" if span else "")


def _left_out(told: Fields) -> tuple[str, ...]:
    dropped = fields(told.get("dropped"))
    return tuple(f"{whole(dropped, reason) or 0:,} × {reason}" for reason in dropped)


def _explained(found: Sequence[Fields]) -> tuple[str, ...]:
    by_length = sum(flag(c, "length_explained") is True for c in found)
    by_writer = sum(flag(c, "identity_explained") is True for c in found)
    return (f"{by_length} explained by length", f"{by_writer} by who wrote it")


def _writers(run: Run) -> tuple[str, ...]:
    told = fields(run.summary.get("writers"))
    held, pairs = whole(told, "held_on"), whole(told, "pairs")
    if held is None or pairs is None or held == pairs:
        return ()
    return (f"writers held on {held:,} of {pairs:,} pairs: on the others they tell the label",)


def _floors(run: Run) -> tuple[str, ...]:
    floors = fields(run.summary.get("null_floors"))
    kinds = (("global", "by responses"), ("local", "by prompts"))
    return tuple(f"floor {name}: {v:.2f}" for key, name in kinds if (v := number(floors, key)) is not None)


def effects_chart(concepts: Sequence[Fields]) -> Chart | None:
    """Log-odds of each concept raw, with length held, with length and writers held, with intervals."""
    named = [c for c in concepts if ": " not in text(c, "name")][:_CHARTED]
    values = [
        {"name": short(text(c, "name")), "series": name, "value": value, "low": span.low, "high": span.high}
        for c in named
        for key, name, _ in _HELD
        if (value := number(c, key)) is not None and (span := interval(c, f"{key}_interval")) is not None
    ]
    if not values:
        return None
    order = [short(text(c, "name")) for c in named]
    held = [(role, name) for key, name, role in _HELD if any(v["series"] == name for v in values)]
    return twice(
        lambda width: _effects(values, order, held, width),
        "What makes a response be chosen, and what explains it",
        "Log-odds for the side that shows the concept; dashed: no effect. Bars are 95% intervals, clustered "
        f"by prompt. {_sized(named)}",
        held,
    )


def _sized(concepts: Sequence[Fields]) -> str:
    sizes = sorted({n for c in concepts if (n := whole(c, "n"))})
    return f"n = {sizes[0]:,} to {sizes[-1]:,} pairs a concept." if sizes else "n is not recorded."


def _effects(
    values: list[dict[str, Any]], order: list[str], held: list[tuple[MeasureRole, str]], width: int
) -> Any:
    import altair as alt

    entries, room = [name for _, name in held], label_room(order, width)
    axis = alt.Axis(
        labelAlign="left", labelPadding=room, minExtent=room, labelLimit=room - 8, ticks=False, domain=False,
        labelFontSize=12, labelColor=INK, grid=True, gridOpacity=0.8, bandPosition=0,
    )  # fmt: skip
    y = alt.Y("name:N", sort=order, title=None, axis=axis, scale=alt.Scale(paddingInner=0, paddingOuter=0))
    offset = alt.YOffset("series:N", sort=entries, scale=alt.Scale(domain=entries, paddingOuter=0.4))
    colours, shapes = [COLOURS[role] for role, _ in held], [SHAPES[role] for role, _ in held]
    colour = alt.Color("series:N", scale=alt.Scale(domain=entries, range=colours), legend=None)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=entries, range=shapes), legend=None)
    x = alt.X("low:Q", title="Log-odds of being chosen", axis=alt.Axis(tickCount=6, grid=True))
    base = alt.Chart(data(values)).encode(y=y, yOffset=offset)
    zero = alt.Chart(data([{"zero": 0}])).mark_rule(strokeDash=[4, 3], strokeWidth=1.5, color=MUTED)
    bars = base.mark_rule(strokeWidth=2.5, opacity=0.55).encode(x=x, x2="high:Q", color=colour)
    dots = base.mark_point(filled=True, size=62, opacity=1).encode(x="value:Q", color=colour, shape=shape)
    none = zero.encode(x="zero:Q")
    return alt.layer(none, bars, dots).properties(width=width - room - 30, height=alt.Step(12))


def _concept_table(found: Sequence[Fields]) -> Table:
    """Named concepts before mined wordings; of statements on the same pairs the first."""
    heads = _heads(found)
    wordings = sorted((c for c in heads if ": " in text(c, "name")), key=lambda c: _why(c) != "neither")
    shown = [*(c for c in heads if c not in wordings), *wordings[:_WORDINGS]][:_CONCEPTS]
    rows = tuple(row for c in shown for row in (_concept_row(c, found), *_strata_rows(c)))
    more = f" {len(found) - len(shown)} more are in summary.json." if len(found) > len(shown) else ""
    return Table(
        "Concepts over all pairs",
        (
            "Concept",
            "Δ",
            "Log-odds",
            "Length held",
            "And writers held",
            "Pairs / prompts",
            "What explains it",
        ),
        rows,
        f"Confirmed ones, length first. Pairs are those whose sides differ in the concept.{more}",
    )


def _concept_row(c: Fields, found: Sequence[Fields]) -> tuple[str, str, tuple[Cell, ...]]:
    held = (Cell(_coefficient(c, key), _unknown(c, key)) for key, _, _ in _HELD)
    sizes = Cell(f"{whole(c, 'n') or 0:,} / {whole(c, 'n_prompts') or 0:,}")
    name = text(c, "name") + _also(_under(c, found))
    return ("", name, (Cell(_shown(c, "delta"), "not recorded"), *held, sizes, Cell(_why(c))))


def _unknown(c: Fields, key: str) -> str:
    return "does not apply" if _is_length(c) and key == "coef_length" else "not known"


def _strata_rows(c: Fields) -> list[tuple[str, str, tuple[Cell, ...]]]:
    """One line for each stratum of a concept, the largest ones."""
    strata = records(c.get("strata"))[:_STRATA]
    return [
        ("", f"· {text(c, 'name')} within {text(s, 'name')}",
         (Cell(_shown(s, "delta"), "not recorded"), *(Cell("") for _ in _HELD),
          Cell(words.counted(whole(s, "n") or 0, "pair")), Cell("")))
        for s in strata
    ]  # fmt: skip


def _coefficient(c: Fields, key: str) -> str | None:
    value, span = number(c, key), interval(c, f"{key}_interval")
    if value is None:
        return None
    return f"{value:+.2f}" + (f" [{span.low:+.2f}, {span.high:+.2f}]" if span else "")


def _is_length(c: Fields) -> bool:
    return text(c, "name") == "length"


def _why(c: Fields) -> str:
    if _is_length(c):
        return "the writer" if flag(c, "identity_explained") else ""
    if flag(c, "length_explained"):
        return "length"
    return "the writer" if flag(c, "identity_explained") else "neither"


def _also(under: Sequence[Fields]) -> str:
    if not under:
        return ""
    names = [text(each, "name").removeprefix("word: ") for each in under[:3]]
    more = f" and {len(under) - 3} more" if len(under) > 3 else ""
    return f" (with {', '.join(names)}{more})"


def _card(h: Fields, held: Sequence[Fields], texts: dict[str, dict[str, str]]) -> Card:
    direction, concept, group = text(h, "direction"), text(h, "text"), text(h, "prompt_group")
    delta, low = _shown(h, "delta") or "not recorded", number(h, "delta_min")
    q = number(h, "q")
    where = "On prompts like" if text(h, "pipeline") == "local" else "Where responses show"
    length = "; length explains it" if flag(h, "length_explained") else ""
    told = f"Δ {delta}, smaller half {low:.2f}, q {q:.2g}, " if low is not None and q is not None else ""
    return _shown_card(
        f"{direction}: {text(h, 'concept')}",
        f"{where} “{group}”, training will push {direction}: {concept}",
        f"confirmed{length}",
        f"{told}{_size(h)}.{_same_pairs(_under(h, held))}",
        _pairs(h, text(h, "concept"), texts),
    )


def _concept_card(c: Fields, found: Sequence[Fields], texts: dict[str, dict[str, str]]) -> Card:
    """One of the concepts that stay, over all pairs."""
    direction = "towards" if (number(c, "delta") or 0) > 0 else "away from"
    under = [text(each, "name") for each in _under(c, found)]
    more = f" On the same pairs: {words.listed(under[:_NAMED])}." if under else ""
    return _shown_card(
        f"{direction}: {text(c, 'name')}",
        f"Everywhere, training will push {direction}: {text(c, 'text')}",
        "confirmed",
        f"Δ {_shown(c, 'delta') or 'not recorded'}, {_size(c)} differ in it.{more}",
        _pairs(c, text(c, "name"), texts),
    )


def _size(of: Fields) -> str:
    pairs = words.counted(whole(of, "n") or 0, "pair")
    return f"{pairs} on {words.counted(whole(of, 'n_prompts') or 0, 'prompt')}"


def _same_pairs(under: Sequence[Fields]) -> str:
    told = [f"{text(h, 'direction')} {text(h, 'concept')} ({text(h, 'prompt_group')})" for h in under]
    if not told:
        return ""
    more = f"; and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return f" The same pairs also say: {'; '.join(told[:_NAMED])}{more}."


def _shown_card(name: str, behaviour: str, status: str, reason: str, pairs: tuple[Exchange, ...]) -> Card:
    return Card(
        anchor="", number=0, name=name, behaviour=behaviour, status=status,
        tone="found" if status == "confirmed" else "open", reason=reason, planted="", source="", measures=(),
        attributes=(), failed=None, exchanges=pairs, search_note="no example pair is kept", trace=None,
        repair=None,
    )  # fmt: skip


def _pairs(of: Fields, concept: str, texts: dict[str, dict[str, str]]) -> tuple[Exchange, ...]:
    known = [i for i in strings(of, "example_ids") if i in texts]
    return tuple(_pair(texts[i], i, concept) for i in known[:_EXAMPLES])


def _pair(row: dict[str, str], name: str, concept: str) -> Exchange:
    sides = [passage(row[side], _LIMIT, fires_at(concept, row[side])) for side in ("chosen", "rejected")]
    caption = f"Pair {name}, prompt: {short(row['prompt'], 300)}"
    return Exchange(sides[0], sides[1], None, caption, ("Chosen", "Rejected"))


def _examples(run: Path) -> dict[str, dict[str, str]]:
    path = run / "examples.parquet"
    return {row["id"]: row for row in read_table(path).to_pylist()} if path.is_file() else {}


def _fix_table(predicted: Sequence[Fields]) -> Table | None:
    rows = tuple(
        (
            "",
            f"{text(p, 'how')} {number(p, 'strength'):g} on {text(p, 'target')}",
            (
                Cell(words.count(whole(p, "pairs") or 0)),
                Cell(_change(p, "before", "after")),
                Cell(_change(p, "length_before", "length_after")),
                Cell(text(p, "most_moved_other") + " " + _change(p, "other_before", "other_after")),
            ),
        )
        for p in predicted[:_FIXES]
    )
    heads = ("Fix", "Pairs touched", "What is rewarded of it", "Of length", "What else moves most")
    return Table("Predicted effect of fixes", heads, rows, "Shares as Δ above.") if rows else None


def _change(p: Fields, before: str, after: str) -> str:
    a, b = number(p, before), number(p, after)
    return "not recorded" if a is None or b is None else f"{a:+.3f} → {b:+.3f}"
