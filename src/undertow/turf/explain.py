"""The attribution in one paragraph. It speaks of association: only an ablation or a retrain shows more."""

from __future__ import annotations

from collections.abc import Sequence

from undertow.records import Crux, Trigger

CAVEAT = "This is an association in the training data; an ablation or a retrain would have to show more."


def explain(crux: Sequence[Crux], triggers: Sequence[Trigger], violation: str, level: float) -> str:
    """Say what the model learned, with n, base rate, lift, q and sources (paper §4.1's form, its claim weakened).

    Args:
        crux: what the response does.
        triggers: best first; none is a result too.
        violation: the rubric's behaviour, or empty.
        level: false-discovery rate of the search.
    """
    does = predicate(crux[0].text, "The response ") if crux else ""
    if not crux:
        return "No trigger: no response attribute sets the violating responses apart."
    if not triggers:
        return (
            f"No trigger at q < {level:g}: no feature of the query goes with a response that {does} "
            "more often in the training data than the base rate does."
        )
    best = triggers[0]
    ends = f" – seen in the audit as: {violation.rstrip('.')}" if violation else ""
    lift = f", lift {best.lift:.1f}" if best.lift is not None else ""
    within = (
        f" Within sources the odds ratio is {best.within_source_or:.1f}."
        if best.within_source_or is not None
        else " No source holds both rows with and rows without the feature, or both behaviours, to compare within."
    )
    return (
        f"When the model sees a query that {predicate(best.text, 'The query ')}, it gives a response that "
        f"{does}{ends}. In the training data {best.examples:,} of {best.corpus:,} such rows do "
        f"({best.rate:.1%}, 95 % interval {best.rate_interval.low:.1%} to {best.rate_interval.high:.1%}), against "
        f"{best.base_rate:.2%} of all rows{lift}, q = {best.q:.1e}. {_sources(best)}{within} {CAVEAT}"
    )


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
