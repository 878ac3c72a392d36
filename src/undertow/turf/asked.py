"""What a trace asks of models: the attributes of the failing queries, and the crux."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.index.open import Index
from undertow.judging.rubric import Rubric
from undertow.models.base import Embedder
from undertow.records import Crux, Failure
from undertow.stats.enrichment import log_odds_dirichlet
from undertow.stats.intervals import wilson_bounds
from undertow.turf.config import TraceConfig
from undertow.turf.crux import LEAST_Z, PRIOR_RESPONSES, ResolvedCrux, named_cruxes, worded_cruxes
from undertow.turf.judges import SAME, agree
from undertow.turf.panel import Panel
from undertow.turf.query import Failing, Query, described_features, failing_features

MOST_ASKED = 50
"""Failing queries of a finding that a model describes."""
MOST_CONTRASTED = 20
"""Violating responses, and others, that it describes to tell them apart."""
Vectors = NDArray[np.float32]


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


def contrasted_cruxes(
    index: Index, violating: Sequence[str], others: Sequence[str], config: TraceConfig, panel: Panel
) -> Verdicts:
    """Find what sets violating responses apart in the words of the index's model, without judges.

    The model describes some of both, blind. A sentence of a violating response holds for every response with
    a sentence that means about the same (:data:`~undertow.turf.judges.SAME`); ranked as
    :func:`~undertow.turf.crux.contrast_cruxes` ranks, by the lower bound of the difference in shares.
    """
    shown = [
        list(each[:: max(1, len(each) // MOST_CONTRASTED)][:MOST_CONTRASTED]) for each in (violating, others)
    ]
    described = panel.describe_responses([*shown[0], *shown[1]])
    bad, good = (
        [each.sentences for each in part if not each.failure]
        for part in (described[: len(shown[0])], described[len(shown[0]) :])
    )
    failures = _kinds(each.failure for each in described)
    report: dict[str, object] = {
        "contrast": {"violating": len(bad), "others": len(good), **failures},
    }
    picked = apart(bad, good, index.embedder, config.cruxes)
    cruxes: list[ResolvedCrux] = []
    for crux in picked:
        with suppress(UsageError):  # nothing of the index is near this one
            cruxes += [replace(each, crux=crux) for each in worded_cruxes(index, [crux.text])]
    return Verdicts(list({each.attribute: each for each in cruxes[::-1]}.values())[::-1], not bad, report)


def apart(
    bad: Sequence[Sequence[str]], good: Sequence[Sequence[str]], embedder: Embedder, most: int
) -> list[Crux]:
    """Rank the sentences of violating responses by how much more often they hold there than in the others."""
    texts = list(dict.fromkeys(text for sentences in bad for text in sentences))
    if not texts:
        return []
    vectors = embedder.embed(texts)
    held = [_holding(vectors, sentences, embedder) for sentences in (*bad, *good)]
    x, y = np.sum(held[: len(bad)], axis=0), np.sum(held[len(bad) :], axis=0) + np.zeros(len(texts))
    prior = PRIOR_RESPONSES * (x + y + 0.5) / (len(held) + 1)
    z = log_odds_dirichlet(x, y, prior, (float(len(bad)), float(len(good))), PRIOR_RESPONSES)
    gap = wilson_bounds(x, len(bad))[0] - np.nan_to_num(wilson_bounds(y, len(good))[1], nan=1.0)
    kept: list[int] = []
    for i in np.lexsort((-np.array([len(text) for text in texts]), -z, -gap.round(6))):
        new = not kept or float((vectors[kept] @ vectors[i]).max()) < SAME
        if 2 * x[i] > len(bad) and z[i] > LEAST_Z and new:
            kept.append(int(i))
    return [Crux(texts[i], float(z[i])) for i in kept[:most]]


def _holding(vectors: Vectors, sentences: Sequence[str], embedder: Embedder) -> NDArray[np.int64]:
    """Say which of T sentences a response has, in some wording, (T,)."""
    if not sentences:
        return np.zeros(len(vectors), np.int64)
    near = (vectors @ embedder.embed(list(sentences)).T).max(axis=1)
    held: NDArray[np.int64] = (near >= SAME).astype(np.int64)
    return held


def _kinds(failures: Iterable[Failure | None]) -> dict[str, object]:
    kinds = Counter(each.kind.value for each in failures if each)
    return {"failures": dict(kinds)} if kinds else {}
