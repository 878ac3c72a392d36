"""What a page is given: frozen, typed, and already decided.

Templates lay these out and compute nothing. Text is untrusted and raw here; the one way it reaches the
page is :func:`undertow.report.render.shown`, which every template expression passes through.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from markupsafe import Markup

from undertow.records import Interval

MeasureRole = Literal["start", "shortcut", "fixed", "control", "base"]
Tone = Literal["found", "good", "open", "plain"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A proportion as it is shown: with its n where one is known, and never a number where it is missing."""

    label: str
    """What was counted, in words."""
    role: MeasureRole
    """Which colour and mark it has in every strip and chart."""
    value: float | None
    """In [0, 1]; ``None`` when nothing was measured."""
    n: int | None = None
    """Scored trials; ``None`` when the run does not say."""
    hits: int | None = None
    """Trials with the behaviour; ``None`` when the run does not say."""
    interval: Interval | None = None
    """Confidence interval; ``None`` when the run does not say."""
    absent: str = "not run"
    """The words that stand where the value is missing."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of untrusted text, shortened to a bound on what it adds to the page."""

    text: str
    """Its first part, with control and bidi characters already visible."""
    cut: int
    """Characters left out at the end."""
    before: int = 0
    """Characters left out at the beginning."""
    marks: tuple[tuple[int, int], ...] = ()
    """Spans of ``text`` to mark, in order, none overlapping."""

    @property
    def pieces(self) -> tuple[tuple[str, bool], ...]:
        """``text`` in pieces, and whether each is marked."""
        edges = [0, *(edge for span in self.marks for edge in span), len(self.text)]
        parts = [(self.text[a:b], i % 2 == 1) for i, (a, b) in enumerate(pairwise(edges))]
        return tuple(part for part in parts if part[0])


@dataclass(frozen=True, slots=True)
class Exchange:
    """One prompt with its response, shown side by side."""

    prompt: Passage
    """The query."""
    response: Passage
    """The answer to it."""
    measure: Measure | None
    """How often this very prompt elicits the behaviour; ``None`` for a training row."""
    caption: str = ""
    """Row id and source of a training row."""
    heads: tuple[str, str] | None = None
    """What stands over the two texts; ``None``: prompt and response."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a table, or the words for its absence."""

    text: str | None
    """Formatted; ``None`` when missing."""
    absent: str = "not run"
    """The words that stand where the value is missing."""
    tone: Tone = "plain"
    """Weight of the cell."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure drawn twice, for wide and for narrow pages; the style sheet shows one."""

    wide: Markup
    """Sanitised SVG, about 720 px."""
    narrow: Markup
    """Sanitised SVG, about 340 px."""
    title: str
    """What it shows."""
    caption: str
    """How to read it, with n."""
    legend: tuple[tuple[MeasureRole, str], ...] = ()
    """Mark and what it stands for, in drawing order."""


@dataclass(frozen=True, slots=True)
class TriggerRow:
    """One query feature associated with the behaviour in the training data."""

    rank: int
    """From 1."""
    text: str
    """``The query …``."""
    label: str
    """Name of its cluster where that says something else; otherwise empty."""
    paper_hits: Cell
    """h(c) of k."""
    examples: Cell
    """Rows with feature and behaviour, of rows with the feature."""
    rate: Measure
    """P(behaviour | feature)."""
    base: Measure
    """P(behaviour) over the corpus."""
    lift: Cell
    """rate / base rate."""
    q: Cell
    """Benjamini–Hochberg."""
    within: Cell
    """Mantel–Haenszel odds ratio within sources."""
    sources: tuple[tuple[str, int], ...]
    """Source and rows, descending; the first few."""
    more_sources: int
    """Sources left out."""
    row_ids: tuple[str, ...]
    """The first ids of the rows with feature and behaviour."""
    more_rows: int
    """Ids left out."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A finding traced to the training data."""

    crux: tuple[tuple[str, Cell], ...]
    """Response attribute and its log-odds margin."""
    explanation: str
    """One sentence: an association until a retrain says otherwise."""
    triggers: tuple[TriggerRow, ...]
    """Best first."""
    more_triggers: int
    """Triggers left out."""
    chart: Chart | None
    """Rate against base rate by trigger."""
    rows: tuple[Exchange, ...]
    """A few of the training rows themselves."""
    truth: tuple[tuple[str, Cell], ...]
    """Agreement with a planted trigger, where one is known."""
    sensitivity: tuple[tuple[str, str], ...]
    """What changes under other k and thresholds."""


@dataclass(frozen=True, slots=True)
class Repair:
    """The fix and what a retrained model does."""

    how: str
    """The fix in words."""
    measures: tuple[Measure, ...]
    """The behaviour before and after, the wanted behaviour before and after."""
    verdict: str
    """``fixed``, ``reduced``, ``unchanged``, … or empty."""
    difference: str
    """Change with its interval, or empty."""


@dataclass(frozen=True, slots=True)
class Card:
    """One finding from behaviour to fix."""

    anchor: str
    """Element id, made by us."""
    number: int
    """From 1."""
    name: str
    """Short name."""
    behaviour: str
    """What the model does."""
    status: str
    """One word or two."""
    tone: Tone
    """How the status is coloured."""
    reason: str
    """Why the status is what it is, or empty."""
    planted: str
    """The planted trigger, where one is known."""
    source: str
    """The planted source, where one is known."""
    measures: tuple[Measure, ...]
    """Rates on one scale."""
    attributes: tuple[str, ...]
    """Minimal trigger."""
    failed: int | None
    """Confirmation samples that are missing."""
    exchanges: tuple[Exchange, ...]
    """Exemplars, best first."""
    search_note: str
    """Said where there are no exemplars: the search was not run, or found nothing."""
    trace: Trace | None
    """``None`` when the trace was not run."""
    repair: Repair | None
    """``None`` when no fix was tried."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One of the few things the first screen answers."""

    term: str
    """The question."""
    value: str | None
    """The answer; ``None`` when the run does not hold it."""
    detail: tuple[str, ...] = ()
    """Smaller lines below."""
    absent: str = "not recorded"
    """The words that stand where the value is missing."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the overview, one row a finding."""

    title: str
    """Heading."""
    columns: tuple[str, ...]
    """Heads; the first column is a link to the card."""
    rows: tuple[tuple[str, str, tuple[Cell | Measure, ...]], ...]
    """Anchor (may be empty), name and the other cells."""
    note: str
    """How to read it."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A step of the run and what it took."""

    name: str
    """Step."""
    seconds: float
    """Wall clock."""
    start: float
    """Share of the whole before it, in [0, 1]."""
    share: float
    """Its own share, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of a page with a heading of its own."""

    anchor: str
    """Element id, made by us."""
    title: str
    """Heading."""
    sentences: tuple[str, ...]
    """What it says, in words."""
    chart: Chart | None
    """A figure, where there is one."""
    table: Table | None
    """Its numbers."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first screen: what was audited, what was found, how sure, what it cost."""

    title: str
    """Of the browser's tab."""
    kind: str
    """Verb in words."""
    subject: str
    """What was audited."""
    status: str
    """Status of the run."""
    verdict: tuple[str, ...]
    """The finding in sentences; the first is the headline."""
    warnings: tuple[str, ...]
    """What weakens the verdict."""
    facts: tuple[Fact, ...]
    """The few things it answers."""


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the report says."""

    head: Head
    """First screen."""
    charts: tuple[Chart, ...]
    """Overview."""
    table: Table | None
    """Overview."""
    cards: tuple[Card, ...]
    """One a finding."""
    controls: Table | None
    """Decoys and nulls; ``None`` when none was run."""
    controls_note: str
    """What they say, or that there are none."""
    phases: tuple[Phase, ...]
    """Where the time went."""
    provenance: tuple[tuple[str, str], ...]
    """What is needed to run it again."""
    glossary: tuple[tuple[str, str], ...]
    """Words of the page."""
    chapters: tuple[Chapter, ...] = ()
    """Further parts, between the cards and the controls."""
