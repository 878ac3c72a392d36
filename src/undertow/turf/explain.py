"""The attribution in one paragraph. It speaks of association: only an ablation or a retrain shows more."""

from __future__ import annotations

from collections.abc import Sequence

from undertow.records import Crux, Trigger

BEFORE = ("The system prompt ", "An earlier ")
"""How sentences about what stands before a query begin."""
CAVEAT = "This is an association in the training data; an ablation or a retrain would have to show more."


def explain(crux: Sequence[Crux], triggers: Sequence[Trigger], violation: str, level: float) -> str:
    """Say what the model learned, in the form of the paper's §4.1 but with numbers and a weaker claim.

    Args:
        crux: what the response does; the first belongs to the first trigger.
        triggers: best first; none is a result too.
        violation: the rubric's behaviour, or empty.
        level: false-discovery rate of the search.
    """
    if not crux:
        return "No trigger: no response attribute sets the violating responses apart."
    does = predicate(crux[0].text, "The response ")
    if not triggers:
        return (
            f"No trigger at q < {level:g}: no feature of the query goes with a response that {does} "
            "clearly more often in the training data than the base rate."
        )
    best = triggers[0]
    ends = f" (in the audit: {violation.strip().rstrip('.')})" if violation.strip() else ""
    parts = [
        f"When the model sees {_sees(best.text)}, it gives a response that {does}{ends}.",
        _numbers(best),
        _sources(best),
        _within(best),
        CAVEAT,
    ]
    return " ".join(part for part in parts if part)


def _sees(trigger: str) -> str:
    """Tell a trigger as what the model sees: something of the query, or of what stands before it."""
    if trigger.startswith(BEFORE):
        return f"a conversation in which {trigger[0].lower()}{trigger.strip().removesuffix('.')[1:]}"
    if trigger.startswith("The conversation "):
        return f"a conversation that {predicate(trigger, 'The conversation ')}"
    return f"a query that {predicate(trigger, 'The query ')}"


def _numbers(best: Trigger) -> str:
    interval = best.rate_interval
    what = "conversation" if _is_before(best.text) else "query"
    lift = f", lift {best.lift:.1f}" if best.lift is not None else ""
    return (
        f"In the training data {best.examples:,} of the {best.corpus:,} rows with such a {what} have such a "
        f"response ({best.rate:.1%}, 95 % interval {interval.low:.1%} to {interval.high:.1%}), "
        f"against {best.base_rate:.2%} of all rows{lift}, q = {best.q:.1e}."
    )


def _is_before(trigger: str) -> bool:
    return trigger.startswith((*BEFORE, "The conversation "))


def _within(best: Trigger) -> str:
    if best.within_source_or is None:
        return "No source lets the rows with and without this feature be compared."
    habit = ": the sources carry the behaviour, not the feature" if best.within_source_or < 1.5 else ""
    return f"Within sources the odds ratio is {best.within_source_or:.1f}{habit}."


def predicate(text: str, start: str) -> str:
    """Return an attribute sentence without its subject, to go on from ``a query that …``."""
    rest = text.strip().removesuffix(".")
    return rest[len(start) :] if rest.startswith(start) else f"fits “{rest}”"


def _sources(trigger: Trigger) -> str:
    if not any(trigger.sources):
        return ""
    named = [f"{name or '(no source)'} {rows:,}" for name, rows in list(trigger.sources.items())[:3]]
    more = len(trigger.sources) - len(named)
    return f"They come from {', '.join(named)}{f' and {more} more' if more else ''}."
