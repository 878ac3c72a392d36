"""What a trace asks of models: the attributes of the failing queries, and the crux."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from undertow.errors import UsageError
from undertow.index.open import Index
from undertow.judging.rubric import Rubric
from undertow.records import Failure
from undertow.turf.config import TraceConfig
from undertow.turf.crux import ResolvedCrux, named_cruxes, worded_cruxes
from undertow.turf.judges import agree
from undertow.turf.panel import Panel
from undertow.turf.query import Failing, Query, described_features, failing_features

MOST_ASKED = 50
"""Failing queries of a finding that a model describes."""


@dataclass(frozen=True, slots=True)
class Queries:
    """The failing queries, read."""

    failing: Failing | None
    """Their features; ``None`` where no query could be described."""
    report: dict[str, object] = field(default_factory=dict)
    """Queries asked about and failed."""


def read_queries(index: Index, prompts: Sequence[Query], config: TraceConfig, panel: Panel | None) -> Queries:
    """Extract the failing queries' attributes as the index's were: by its local extractor, or by its model.

    Raises:
        UsageError: the index needs its model, and there is no panel to ask it.
    """
    if not index.model:
        return Queries(failing_features(index, prompts, config.majority))
    if panel is None:
        raise UsageError(f"{index.path}: its attributes are written by {index.model}, which a trace must ask")
    asked = list(prompts[:MOST_ASKED])
    described = panel.describe(asked)
    pairs = zip(asked, described, strict=True)
    good = [(query, each.sentences) for query, each in pairs if not each.failure]
    failures = _kinds(each.failure for each in described)
    report: dict[str, object] = {"queries": {"asked": len(asked), "described": len(good), **failures}}
    if not good:
        return Queries(None, report)
    queries, sentences = zip(*good, strict=True)
    return Queries(described_features(index, queries, sentences, config.majority), report)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The crux as the two judges see it."""

    cruxes: list[ResolvedCrux]
    """Best first; none where no response could be judged, or nothing in the index is near."""
    failed: bool
    """No response could be judged."""
    report: dict[str, object]
    """Responses asked about and failed, what was picked and of how many."""


def judged_cruxes(
    index: Index, responses: Sequence[str], rubric: Rubric, config: TraceConfig, panel: Panel
) -> Verdicts:
    """Let the two judges say which attributes of the violating responses are responsible (paper D.1.2)."""
    picks = panel.picks(responses, rubric)
    good = [each for each in picks if not isinstance(each, Failure)]
    failures = _kinds(each for each in picks if isinstance(each, Failure))
    picked = agree(good, index.embedder, config.cruxes)
    report: dict[str, object] = {
        "judges": {
            "responses": len(picks),
            "judged": len(good),
            **failures,
            "picked": list(map(asdict, picked)),
        }
    }
    cruxes: list[ResolvedCrux] = []
    for text in (each.text for each in picked):
        with suppress(UsageError):  # nothing of the index is near this one
            cruxes += worded_cruxes(index, [text]) if index.model else named_cruxes(index, [text], None)
    return Verdicts(list({each.attribute: each for each in cruxes[::-1]}.values())[::-1], not good, report)


def _kinds(failures: Iterable[Failure | None]) -> dict[str, object]:
    kinds = Counter(each.kind.value for each in failures if each)
    return {"failures": dict(kinds)} if kinds else {}
