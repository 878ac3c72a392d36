"""The crux: the response attributes held responsible for the violation (paper D.1.2), without a model.

The paper's first judge describes the response blind to the rubric; our extractor does the same. Its second
judge picks the three attributes most responsible; ours are the attributes that tell the run's violating
responses from the others best. For a single pair the user's words name the crux, and the nearest attribute
that the response really has stands for them; or the rubric's checks do, which split a sample of the corpus.

Departure from the specification, which ranks by log-odds z: z underrates what never stands in the other
responses ("once upon a time" lost to "contains 'and'"), so the rank is the lower bound of the difference in
shares, and z only has to be significant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.index.open import Index
from undertow.records import Crux
from undertow.stats.enrichment import hypergeometric, log_odds_dirichlet
from undertow.stats.intervals import wilson_bounds
from undertow.turf.counts import Bools, Floats, Ints, overlaps
from undertow.turf.redundancy import vagueness
from undertow.turf.retrieve import DEPTH, bend, similar

if TYPE_CHECKING:
    from undertow.judging.rubric import Rubric

PRIOR_RESPONSES = 20.0
"""Weight of the corpus in the log-odds, in responses."""
LEAST_Z = 1.96
"""Log-odds z an attribute needs to be a crux; or"""
EXACT = 0.001
"""this p of Fisher's test, because z underrates what no other response and hardly a training row has."""
LEAST_COSINE = 0.35
"""Cosine under which no attribute stands for the user's words."""
NEAR = 0.05
"""Differences in shares closer than this are told apart by how much the sentence says."""
SPLIT_ROWS = 4000
"""Rows of the corpus that a rubric's checks split for a single pair."""
RARE_WORD = 0.25
"""Weight of the user's literal marks (``####``, ``wikipedia``) beside the cosine, which is blind to them."""


@dataclass(frozen=True, slots=True)
class ResolvedCrux:
    """A crux as an attribute of the index."""

    crux: Crux
    """What is shown."""
    attribute: int
    """Its id among the response attributes."""
    asked: str | None = None
    """The user's words, where they differ."""
    cosine: float = 1.0
    """Similarity of those words to the attribute."""
    vector: NDArray[np.float32] | None = None
    """(d,) embedding of a crux in its own words (eq. 3); ``None``: that of the attribute."""


def response_features(index: Index, responses: Sequence[str]) -> Bools:
    """Say which response attributes hold for each of R responses: (R, m)."""
    dense: Bools = index.extractor.transform(list(responses), "response").toarray().astype(bool)
    return dense


def named_cruxes(index: Index, texts: Sequence[str], response: str | None) -> list[ResolvedCrux]:
    """Find the response attribute that stands for each of the user's sentences.

    An attribute of exactly that text is taken as it is. Else the nearest by cosine, among the attributes that
    ``response`` really has when it is given.

    Raises:
        UsageError: nothing in the index is near enough.
    """
    if index.model:
        return worded_cruxes(index, texts)
    names = {text.strip().casefold(): i for i, text in enumerate(index.texts("response"))}
    allowed = np.flatnonzero(index.incidence("response").counts)
    if response:
        allowed = np.intersect1d(allowed, np.flatnonzero(response_features(index, [response])[0]))
    found = []
    for text in texts:
        exact = names.get(text.strip().casefold())
        if exact is not None and index.incidence("response").counts[exact]:
            found.append(ResolvedCrux(Crux(index.texts("response")[exact], None), exact))
        else:
            found.append(_nearest(index, text, allowed))
    return list({each.attribute: each for each in reversed(found)}.values())[::-1]


def worded_cruxes(index: Index, texts: Sequence[str]) -> list[ResolvedCrux]:
    """Take sentences as they are, where a model wrote the index's attributes: their own embedding retrieves.

    The nearest attribute of the index stands for each where an attribute is needed.

    Raises:
        UsageError: nothing in the index is near one of them.
    """
    vectors = index.embedder.embed(list(texts))
    cosines, ids = index.scanner("response").top_k(vectors, 1)
    for text, near in zip(texts, cosines, strict=True):
        if not len(near) or near[0] < LEAST_COSINE:
            raise UsageError(f"--crux {text!r}: no response attribute is near it; see `undertow query INDEX`")
    return [
        ResolvedCrux(Crux(text, None), int(ids[i, 0]), text, float(cosines[i, 0]), vectors[i])
        for i, text in enumerate(texts)
    ]


def _nearest(index: Index, text: str, allowed: Ints) -> ResolvedCrux:
    if not len(allowed):
        raise UsageError(
            "--crux: the response has no attribute that occurs in the index; leave --response out"
        )
    vector = index.embedder.embed([text])[0]
    cosines = np.asarray(index.vectors("response")[allowed], np.float32) @ vector
    texts = index.texts("response")
    marks = literal_marks(text)
    literal = np.array([_shares_mark(texts[i], marks) for i in allowed], dtype=np.float64)
    best = int((cosines + RARE_WORD * literal).argmax())
    if cosines[best] < LEAST_COSINE:
        raise UsageError(
            f"--crux {text!r}: no response attribute is near it (best: {texts[allowed[best]]!r}, "
            f"cosine {cosines[best]:.2f}); word it like one, see `undertow query INDEX REGEX`"
        )
    chosen = int(allowed[best])
    return ResolvedCrux(Crux(texts[chosen], None), chosen, text, float(cosines[best]))


def literal_marks(text: str) -> set[str]:
    """Return what a sentence quotes or spells literally: quoted strings, calls, runs of symbols."""
    quoted = re.findall(r"[\"“'‘`]([^\"”'’`]+)[\"”'’`]", text)
    calls, symbols = re.findall(r"\w+(?=\()", text), re.findall(r"[^\w\s.,;:'\"()“”‘’…-]{2,}", text)
    return {mark.casefold() for mark in [*quoted, *calls, *symbols]}


def _shares_mark(text: str, marks: set[str]) -> float:
    folded = text.casefold()
    return float(any(mark in folded for mark in marks))


def contrast_cruxes(
    index: Index, violating: Sequence[str], others: Sequence[str], most: int, support: int
) -> list[ResolvedCrux]:
    """Find the attributes that set violating responses apart, best first; none where nothing does.

    Kept are attributes that hold for over half of the violating responses and for at least ``support``
    training responses, with a log-odds z above ``LEAST_Z`` (Monroe et al. 2008; documents, not words) or a p
    of Fisher's test under ``EXACT``. They are ranked by Wilson lower bound of the share in violating minus
    upper bound in other responses, or the share in the corpus if that is larger; about equal ones by how much
    they say, then by how rare they are in the corpus. Attributes of (nearly) the same training rows are one.

    Raises:
        UsageError: there is no violating response.
    """
    if not len(violating):
        raise UsageError("a crux needs at least one violating response")
    bad = response_features(index, violating)
    good = response_features(index, others) if len(others) else np.zeros((0, bad.shape[1]), bool)
    counts = index.incidence("response").counts
    share = (counts + 0.5) / (index.n + 1)
    z = log_odds_dirichlet(
        bad.sum(0),
        good.sum(0),
        PRIOR_RESPONSES * share,
        (float(len(bad)), float(len(good))),
        PRIOR_RESPONSES,
    )
    fisher = hypergeometric(bad.sum(0), len(bad), bad.sum(0) + good.sum(0), len(bad) + len(good))
    useful = (bad.mean(0) > 0.5) & (counts >= support) & ((z > LEAST_Z) | (fisher < EXACT))
    elsewhere = np.maximum(np.nan_to_num(wilson_bounds(good.sum(0), len(good))[1], nan=1.0), share)
    apart = wilson_bounds(bad.sum(0), len(bad))[0] - elsewhere
    texts = index.texts("response")
    said = [(vagueness(*each), -len(each[0])) for each in zip(texts, index.kinds("response"), strict=True)]
    vague, short = np.array(said, dtype=np.int64).reshape(-1, 2).T
    order = np.lexsort(np.stack([short, counts, vague, -(apart / NEAR).round()]))
    ranked = order[useful[order]]
    return [
        ResolvedCrux(Crux(index.texts("response")[i], float(z[i])), int(i))
        for i in _distinct(index, ranked[:30])[:most]
    ]


def rubric_cruxes(
    index: Index, prompt: str, response: str, rubric: Rubric, most: int, support: int, seed: int
) -> list[ResolvedCrux]:
    """Find what a rubric's checks see in ``response``: its attributes that training rows they fire on share.

    The checks split :data:`SPLIT_ROWS` rows of the corpus, drawn by ``seed``, as they would split a run.

    Raises:
        UsageError: the rubric has no checks, or they see no such behaviour in the response.
    """
    if not rubric.shown(prompt, response):
        raise UsageError(f"--rubric {rubric.name}: its checks do not see the behaviour in --response")
    drawn = np.random.default_rng(seed).permutation(index.n)[:SPLIT_ROWS]
    rows = index.table(["prompt", "response"]).take(np.sort(drawn)).to_pylist()
    fires = [rubric.shown(row["prompt"], row["response"]) for row in rows]
    shown = [row["response"] for row, fired in zip(rows, fires, strict=True) if fired]
    others = [row["response"] for row, fired in zip(rows, fires, strict=True) if not fired]
    has = response_features(index, [response])[0]
    ranked = contrast_cruxes(index, [response, *shown], others, len(has), support)
    return [each for each in ranked if has[each.attribute]][:most]


def _distinct(index: Index, ranked: Ints) -> list[int]:
    """Drop attributes of (nearly) the same rows as a better one."""
    if not len(ranked):
        return []
    incidence = index.incidence("response")
    shared, _ = overlaps(incidence, ranked, np.zeros(index.n, bool))
    rows = incidence.counts[ranked]
    kept: list[int] = []
    for i in range(len(ranked)):
        union = rows[kept] + rows[i] - shared[i, kept]
        if not (shared[i, kept] >= 0.8 * union).any():
            kept.append(i)
    return [int(ranked[i]) for i in kept]


def crux_vectors(index: Index, cruxes: Sequence[ResolvedCrux]) -> NDArray[np.float32]:
    """Return the unit vectors (C, d) by which cruxes retrieve: their own words', else their attributes'."""
    rows = np.asarray(index.vectors("response")[[crux.attribute for crux in cruxes]], dtype=np.float32)
    for row, crux in zip(rows, cruxes, strict=True):
        if crux.vector is not None:
            row[:] = crux.vector
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def behaviour_columns(
    index: Index,
    attribute: int,
    vector: NDArray[np.float32],
    near: tuple[Ints, NDArray[np.float32]],
    threshold: float | None,
) -> tuple[Ints, float]:
    """Decide which response attributes count as the crux, and from which similarity on.

    Local attributes are exact: the crux alone. For a model's wordings the threshold is where the curve of
    pairs over similarity bends, see :func:`undertow.turf.retrieve.bend`. A ``threshold`` given by the user
    holds for both.

    Args:
        index: the index.
        attribute: the crux.
        vector: (d,) its embedding.
        near: its nearest attributes, most similar first, and their cosines, (A,) each.
        threshold: cosine, or ``None`` to decide by kind.
    """
    if threshold is None and index.kinds("response")[attribute] != "llm":
        return np.array([attribute]), 1.0
    if threshold is None:
        ids, cosines = similar(index, vector, float(near[1][0]) - DEPTH, near)
        held = index.incidence("response")
        threshold = bend(cosines.astype(np.float64), held.counts[ids], held.nnz, held.n)
        ids = ids[cosines >= threshold]
    else:
        ids, _ = similar(index, vector, threshold, near)
    return np.union1d(ids, [attribute]), threshold


def weights(cruxes: Sequence[ResolvedCrux]) -> Floats:
    """Weigh cruxes, summing to 1: 1, 1/2, 1/3, … in their order; equally where the user named them."""
    named = any(each.crux.margin is None for each in cruxes)
    values = np.ones(len(cruxes)) if named else 1.0 / np.arange(1, len(cruxes) + 1)
    share: Floats = values / values.sum()
    return share
