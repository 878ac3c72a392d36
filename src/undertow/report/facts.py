"""What every page says about its run: how much is missing, what it cost, what it was told."""

from __future__ import annotations

from collections.abc import Sequence

from undertow.report import words
from undertow.report.contexts import Fact, Measure, Phase
from undertow.report.reading import Fields, fields, finite, number, text, whole
from undertow.report.runs import Run

FAILURE_LIMIT = 0.1
"""Share of failed calls above which a run concludes nothing."""

GLOSSARY = (
    ("Rate", "Share of scored answers that show the behaviour. Failed calls are in no rate."),
    ("Interval", "95% confidence interval (Wilson), in brackets."),
    ("Base rate", "The same share without the trigger: over prompts, or rows, drawn at random."),
    ("Control", "The same prompts on a model that should not have the behaviour: the floor of chance."),
    ("Lift", "Rate over base rate."),
    ("q", "Expected share of false ones among triggers as strong (Benjamini–Hochberg)."),
    (
        "Odds ratio within sources",
        "Mantel–Haenszel, by source. About 1: the data set goes with the behaviour, not the feature.",
    ),
    ("Paper’s hits", "How many of the k training answers nearest to the behaviour come with the feature."),
)


def failures(run: Run) -> Fact:
    """Tell how much is missing, and why."""
    counts = fields(run.summary.get("counts"))
    tried, failed = whole(counts, "tried"), whole(counts, "failed")
    if not tried or failed is None:
        return Fact("What is missing", None)
    share = words.percent(failed / tried)
    kinds = fields(run.summary.get("failures"))
    confirming = fields(run.summary.get("confirmation"))
    asked, lost = whole(confirming, "tried"), whole(confirming, "failed")
    why = [f"{n:,} {name}" for name in kinds if (n := whole(kinds, name))]
    return Fact(
        "What is missing",
        f"{share} failed",
        (
            f"{words.count(failed)} of {words.count(tried)} tried",
            *(["; ".join(why)] if why else []),
            *(
                [f"confirmation: {words.count(lost)} of {words.count(asked)}"]
                if asked and lost is not None
                else []
            ),
        ),
    )


def sureness(measures: Sequence[Measure], what: str) -> Fact:
    """Tell n and the widest interval behind a page's rates; ``what`` says what was counted."""
    sizes = sorted({measure.n for measure in measures if measure.n})
    if not sizes:
        return Fact("How sure", None)
    n = f"n = {sizes[0]:,}" if len(sizes) == 1 else f"n = {sizes[0]:,} to {sizes[-1]:,}"
    widest = max((m.interval.high - m.interval.low for m in measures if m.interval), default=None)
    if widest is None:
        return Fact("How sure", n, (what,))
    return Fact("How sure", n, (what, f"95% intervals; the widest spans {100 * widest:.0f} points"))


def cost(run: Run) -> Fact:
    """Tell calls, time, money and memory."""
    usage = fields(run.summary.get("usage"))
    calls = whole(run.summary, "calls")
    calls = whole(usage, "calls") if calls is None else calls
    seconds, usd, peak = (
        number(run.summary, "seconds"),
        number(usage, "cost_usd"),
        number(run.summary, "peak_mb"),
    )
    detail = [
        f"{words.count(calls)} model calls" if calls is not None else "calls not recorded",
        _price(usd, whole(usage, "unpriced") or 0),
        *([f"peak memory {words.memory(peak)}"] if peak is not None else []),
    ]
    return Fact("What it cost", None if seconds is None else words.duration(seconds), tuple(detail))


def _price(usd: float | None, unpriced: int) -> str:
    """Tell what was spent; calls of unknown price are not free."""
    if usd is None or (unpriced and usd == 0):
        return "price not known"
    return words.money(usd) + (
        f", and {words.counted(unpriced, 'call')} of unknown price" if unpriced else ""
    )


def warnings(run: Run) -> tuple[str, ...]:
    """Tell what weakens the verdict."""
    lines = []
    if run.status == "running":
        lines.append(
            "This run has not ended. What follows is what it holds so far; run the same command to go on."
        )
    elif run.status != "complete":
        lines.append(f"This run is {run.status}: take what follows as a lead, not as a result.")
    counts = fields(run.summary.get("counts"))
    tried, failed = whole(counts, "tried"), whole(counts, "failed")
    if tried and failed is not None and failed / tried > FAILURE_LIMIT:
        lines.append(
            f"{words.percent(failed / tried)} of the calls failed, more than {words.percent(FAILURE_LIMIT)}: "
            "too much is missing to conclude."
        )
    return tuple(lines)


def phases(run: Run) -> tuple[Phase, ...]:
    """Tell where the time went."""
    given = run.summary.get("phases")
    steps = [(str(name), finite(seconds)) for name, seconds in fields(given).items()]
    timed = [(name, seconds) for name, seconds in steps if seconds is not None and seconds >= 0]
    total = sum(seconds for _, seconds in timed)
    made, before = [], 0.0
    for name, seconds in timed:
        made.append(Phase(name, seconds, before / total if total else 0.0, seconds / total if total else 0.0))
        before += seconds
    return tuple(made)


def provenance(run: Run) -> tuple[tuple[str, str], ...]:
    """List what is needed to run it again."""
    lines = [("Run directory", run.path.name), ("Verb", text(run.manifest, "verb") or run.kind)]
    lines += [("Status", run.status)]
    for title, key in (("Seeds", "seeds"), ("Versions", "versions"), ("Inputs (content hash)", "inputs")):
        lines += [(title, _flat(fields(run.manifest.get(key))))]
    lines += [("Configuration", _flat(run.config))]
    return tuple((term, value) for term, value in lines if value)


def _flat(of: Fields) -> str:
    return " · ".join(
        f"{key} {_plain(value)}" for key, value in of.items() if value not in (None, "", [], {})
    )


def _plain(value: object) -> str:
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return str(value["name"])
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items()) + ")"
    if isinstance(value, list):
        return ", ".join(_plain(inner) for inner in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
