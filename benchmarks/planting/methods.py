"""What is asked for the trigger of a case: ours, the candidate statistics, and three simpler methods.

Every method sees the same failing prompts and, where it needs a behaviour, the same crux: the response
attributes that set a dozen violating responses apart from plain ones. A method answers with row masks, best
first, and with the rows it holds responsible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import xlogy

from planting.corpora import Case, Corpus
from undertow.index.open import Index
from undertow.stats.enrichment import log_odds_dirichlet
from undertow.stats.intervals import wilson_bounds, wilson_lower
from undertow.turf.config import TraceConfig
from undertow.turf.counts import Counts
from undertow.turf.crux import ResolvedCrux, contrast_cruxes, weights
from undertow.turf.query import Held, failing_features, hold
from undertow.turf.trace import MOSTLY, _violating
from undertow.turf.triggers import rank

CONFIG = TraceConfig()
PRIOR = 0.1
"""Weight of the corpus in the prior of the log-odds."""
RIDGE = 1.0
"""Penalty of the ridge logistic."""
REGRESSED = 64
"""Features of highest G² that it is fitted on."""


@dataclass
class Answer:
    """What a method says."""

    masks: list[np.ndarray] = field(default_factory=list)
    """Rows of its triggers, best first, at most three; floats are weights of a sample."""
    texts: list[str] = field(default_factory=list)
    """What it calls them."""
    rows: np.ndarray | None = None
    """Rows it holds responsible."""
    named: bool = False
    """Whether it names a trigger at q < 0.05 (ours)."""


# The candidate statistics of a feature: x rows with both, M with it, n with the behaviour, of N.
Numbers = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]


def _wilson(x, M, n, N):
    return wilson_lower(x, M) - n / N


def _difference(x, M, n, N):
    rest = np.maximum(N - M, 1)
    return wilson_bounds(x, M)[0] - np.nan_to_num(wilson_bounds(n - x, rest)[1], nan=1.0)


def _log_odds(x, M, n, N):
    return log_odds_dirichlet(x, M - x, PRIOR * M, (float(n), float(N - n)), PRIOR * N)


def _g_squared(x, M, n, N):
    cells = ((x, M * n / N), (M - x, M * (N - n) / N), (n - x, (N - M) * n / N))
    cells += ((N - M - n + x, (N - M) * (N - n) / N),)
    g = 2 * sum(xlogy(a, a / np.maximum(e, 1e-12)) for a, e in cells)
    return np.where(x / np.maximum(M, 1) > n / N, g, -g)


def _phi(x, M, n, N):
    return (x * N - M * n) / np.sqrt(np.maximum(M * (N - M), 1) * float(max(n * (N - n), 1)))


STATISTICS: dict[str, Numbers] = {
    "Wilson lower bound": _wilson,
    "lower bound of difference": _difference,
    "log-odds z": _log_odds,
    "G²": _g_squared,
    "phi": _phi,
}


def ridge_logistic(index: Index, held: Held, crux: int = 0) -> np.ndarray:
    """Coefficients of a penalised logistic regression on the features of highest G², by Newton steps."""
    g = statistic("G²", index, held, crux)
    used = np.argsort(-g, kind="stable")[:REGRESSED]
    X = np.ones((index.n, len(used) + 1), np.float32)
    for column, feature in enumerate(used):
        X[:, column] = _mask(index, held, int(feature))
    y, w = held.behaviour_CN[crux].astype(np.float32), np.zeros(len(used) + 1)
    penalty = np.append(np.full(len(used), RIDGE), 1e-6)
    for _ in range(8):
        p = 1 / (1 + np.exp(-np.clip(X @ w.astype(np.float32), -30, 30)))
        gradient = X.T @ (p - y) + penalty * w
        hessian = (X.T * (p * (1 - p))) @ X + np.diag(penalty)
        w -= np.clip(np.linalg.solve(hessian, gradient), -3, 3)
    values = np.full(len(g), -np.inf)
    values[used] = w[:-1]
    return values


def statistic(name: str, index: Index, held: Held, crux: int = 0) -> np.ndarray:
    """(F,) values of one candidate, higher is better."""
    if name == "ridge logistic":
        return ridge_logistic(index, held, crux)
    counts: Counts = held.counts
    x, M = counts.both_CF[crux].astype(float), counts.feature_F.astype(float)
    values = STATISTICS[name](x, M, int(counts.behaviour_C[crux]), counts.rows)
    return np.where(counts.rows > M, values, -np.inf)  # what all rows have, tells nothing


NAMES = [*STATISTICS, "ridge logistic"]


def _mask(index: Index, held: Held, feature: int) -> np.ndarray:
    mask = np.zeros(index.n, bool)
    mask[held.failing.columns.rows_of(int(held.failing.features_F[feature]))] = True
    return mask


def by_features(index: Index, held: Held, order: Sequence[int]) -> Answer:
    order = list(order)[:3]
    masks = [_mask(index, held, i) for i in order]
    rows = masks[0] & held.behaviour_CN[0] if masks else None
    return Answer(masks, [held.failing.texts[i] for i in order], rows)


def ours(index: Index, held: Held) -> Answer:
    """What `undertow trace` says: its triggers, and the rows a fix would touch."""
    said = by_features(index, held, held.ranking.order)
    if not said.masks:
        return said
    counts, c = held.counts, held.ranking.crux
    decides = np.zeros(index.n, bool)
    for place, feature in enumerate(held.ranking.order):
        base = float(counts.base_C[c[place]])
        rate = counts.both_CF[c[place], feature] / max(int(counts.feature_F[feature]), 1)
        if place == 0 or (rate - base) / max(1 - base, 1e-9) >= MOSTLY:
            decides |= _mask(index, held, feature)
    return replace(said, rows=decides & _violating(held), named=True)


def thinned(name: str, index: Index, held: Held, cruxes: Sequence[ResolvedCrux]) -> Answer:
    """Our selection of independent, general triggers, ranked by another statistic."""
    values = np.stack([np.maximum(statistic(name, index, held, c), 0) for c in range(len(cruxes))])
    values /= np.maximum(values.max(axis=1, keepdims=True), 1e-12)
    evidence = replace(held.evidence, rise_CF=values)
    failing = held.failing
    ranking = rank(
        failing.columns, held.counts, evidence, held.behaviour_CN, weights(cruxes), failing.shares_F,
        failing.texts, failing.kinds, CONFIG,
    )  # fmt: skip
    return by_features(index, held, ranking.order)


def paper(index: Index, held: Held) -> Answer:
    """The query's features with most hits among the 1,000 retrieved pairs (paper §4.1, eq. 6)."""
    hits = held.hits[0][CONFIG.k]
    answer = by_features(index, held, np.argsort(-hits, kind="stable"))
    answer.rows = held.retrieved[0][CONFIG.k].pairs_N > 0
    return answer


def grams(text: str) -> set[str]:
    """All runs of one to three words."""
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + n]) for n in (1, 2, 3) for i in range(len(words) - n + 1)}


def shared_grams(prompts: Sequence[str]) -> list[str]:
    """Runs of words that more than half of the prompts have."""
    seen: dict[str, int] = {}
    for prompt in prompts:
        for gram in grams(prompt):
            seen[gram] = seen.get(gram, 0) + 1
    return sorted(gram for gram, n in seen.items() if n > len(prompts) / 2)


def gram_rows(prompts: Sequence[str], wanted: set[str]) -> dict[str, np.ndarray]:
    """Rows of each wanted run of words."""
    found: dict[str, list[int]] = {gram: [] for gram in wanted}
    for row, prompt in enumerate(prompts):
        for gram in grams(prompt) & wanted:
            found[gram].append(row)
    return {gram: np.array(rows, np.int64) for gram, rows in found.items()}


def keywords(n: int, mine: Sequence[str], rows_of: dict[str, np.ndarray], behaviour: np.ndarray) -> Answer:
    """The query's words and phrases by Dirichlet log-odds z in rows with the behaviour against the others."""
    mine = [gram for gram in mine if len(rows_of[gram])]
    if not mine:
        return Answer()
    M = np.array([len(rows_of[gram]) for gram in mine], float)
    x = np.array([behaviour[rows_of[gram]].sum() for gram in mine], float)
    z = _log_odds(x, M, int(behaviour.sum()), n)
    order = np.lexsort((np.arange(len(z)), [-len(gram) for gram in mine], -z))[:3]
    masks = []
    for i in order:
        mask = np.zeros(n, bool)
        mask[rows_of[mine[i]]] = True
        masks.append(mask)
    return Answer(masks, [mine[i] for i in order], masks[0] & behaviour)


class Neighbours:
    """Nearest prompts by the embedding of the whole query, estimated on a weighted sample of the rows.

    All else here reads every row; embedding every prompt would take half an hour. A sampled row stands for
    ``weight`` rows, so that shares of planted rows among the nearest are estimated without bias.
    """

    PER_CASE, REST = 60, 1200

    def __init__(self, corpus: Corpus, embedder) -> None:
        ids = np.array(corpus.table["id"].to_pylist())
        rng = np.random.default_rng(0)
        left, parts = np.ones(len(ids), bool), []
        for case in corpus.cases:
            rows = np.flatnonzero(np.isin(ids, list(case.trigger_ids)) & left)
            parts.append((rows, self.PER_CASE))
            left[rows] = False
        parts.append((np.flatnonzero(left), self.REST))
        drawn = [
            (rng.permutation(rows)[:most], len(rows) / max(min(len(rows), most), 1)) for rows, most in parts
        ]
        self.rows = np.concatenate([rows for rows, _ in drawn])
        self.weight = np.concatenate([np.full(len(rows), weight) for rows, weight in drawn])
        prompts = corpus.table["prompt"].to_pylist()
        self.n, self.embedder = len(ids), embedder
        self.vectors = embedder.embed([prompts[i][:1000] for i in self.rows])

    def answer(self, prompts: Sequence[str], size: int) -> Answer:
        """The nearest rows, as many as were planted (which no user knows); then half and twice as many."""
        centre = self.embedder.embed([prompt[:1000] for prompt in prompts]).mean(axis=0)
        order = np.argsort(-(self.vectors @ centre), kind="stable")
        reached = np.cumsum(self.weight[order])
        masks = []
        for wanted in (size, size / 2, size * 2):
            mask = np.zeros(self.n)
            near = order[: max(1, int(np.searchsorted(reached, wanted)))]
            mask[self.rows[near]] = self.weight[near]
            masks.append(mask)
        return Answer(masks, ["nearest"] * 3, masks[0])


def jaccard(mask: np.ndarray, truth: np.ndarray) -> float:
    """Overlap of rows; a weighted mask stands for rows of the whole corpus."""
    both = float(mask[truth].sum())
    return both / max(float(mask.sum()) + float(truth.sum()) - both, 1e-9)


def cases(
    corpus: Corpus, index: Index, neighbours: Neighbours | None, queries: Sequence[int]
) -> Iterator[tuple[Case, int, dict[str, Answer]]]:
    """Ask every method about every case, with one failing query and with several."""
    prompts = corpus.table["prompt"].to_pylist()
    wanted = {q: {case.name: shared_grams(case.prompts[:q]) for case in corpus.cases} for q in queries}
    every = {gram for by_case in wanted.values() for mine in by_case.values() for gram in mine}
    rows_of = gram_rows(prompts, every) if neighbours else {}
    for case in corpus.cases:
        cruxes = contrast_cruxes(index, case.violating, corpus.others, CONFIG.cruxes, CONFIG.support)
        for q in queries:
            if not cruxes:
                yield case, q, {}
                continue
            held = hold(index, failing_features(index, case.prompts[:q], CONFIG.majority), cruxes, CONFIG)
            answers = {"ours": ours(index, held)}
            if neighbours:
                answers["paper score"] = paper(index, held)
                answers["keyword log-odds"] = keywords(
                    len(prompts), wanted[q][case.name], rows_of, held.behaviour_CN[0]
                )
                answers["query kNN"] = neighbours.answer(case.prompts[:q], len(case.trigger_ids))
                for name in NAMES:
                    values = statistic(name, index, held)
                    answers[name] = by_features(index, held, np.argsort(-values, kind="stable"))
                    answers[f"{name}, thinned"] = thinned(name, index, held, cruxes)
            yield case, q, answers
