"""Probes of a policy's residual stream: a concept that examples with and without it define.

A linear probe's score of a text is the largest over its response tokens of ⟨h, v⟩ + b, and that is what it
is trained by: difference of means of the tokens that score highest, or a logistic of the (smoothly) largest
score. An attention probe's score is its logit. A direction fitted to mean vectors would not do: one token of
a hundred hardly moves a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undertow.errors import UsageError
from undertow.preference.concepts import Activations, Concept
from undertow.preference.policy import Exchange, Policy, exchanges_of
from undertow.progress import SILENT, Progress

if TYPE_CHECKING:
    from undertow.data.preferences import PreferenceData

Floats = NDArray[np.float32]
Kind = Literal["means", "logistic", "attention"]

LEAST_EXAMPLES = 8
"""Examples that each class needs."""
QUIET = 0.95
"""Quantile of the scores of held-out examples without the concept above which it counts as shown [R]."""
FULL = 0.9
"""Quantile of the scores of held-out examples with it that counts as 1 [R]."""
ATTENTION_STEPS = 300
RIDGE = 1e-2
ROUNDS = 4
"""Times that the difference of means is taken."""


@dataclass(frozen=True)
class Probe:
    """A trained probe of one layer."""

    kind: Kind
    """How it was trained."""
    layer: int
    """Block whose output it reads, from 0."""
    direction: Floats
    """v, (d,)."""
    bias: float
    """b."""
    query: Floats | None
    """q of the attention probe, (d,): tokens weigh softmax(⟨h, q⟩)."""
    auc: float
    """Of held-out examples; what the layer was chosen by."""
    auc_error: float
    """Standard error that an AUC of 0.5 would have on as many examples (Mann-Whitney)."""
    low: float
    """Score that counts as 0."""
    high: float
    """Score that counts as 1."""

    @property
    def beyond_chance(self) -> bool:
        """Whether the AUC is two standard errors above 0.5."""
        return self.auc > 0.5 + 2 * self.auc_error

    def score(self, vectors: Floats, texts: NDArray[np.int64], n: int) -> Floats:
        """Score of n texts from their tokens' vectors (T, d); -inf for a text without tokens, (n,)."""
        logits = vectors @ self.direction + np.float32(self.bias)
        out = np.full(n, -np.inf, np.float32)
        if self.query is None:
            np.maximum.at(out, texts, logits)
            return out
        return _attended(logits, vectors @ self.query, texts, n)

    def shown(self, scores: Floats) -> Floats:
        """Scores as activations in [0, 1]."""
        share = (scores - self.low) / max(self.high - self.low, 1e-6)
        return np.asarray(np.clip(np.nan_to_num(share, neginf=0.0), 0, 1), np.float32)


def _attended(logits: Floats, weights: Floats, texts: NDArray[np.int64], n: int) -> Floats:
    most = np.full(n, -np.inf, np.float32)
    np.maximum.at(most, texts, weights)
    size = np.exp(weights - most[texts])
    total, sums = np.zeros(n), np.zeros(n)
    np.add.at(total, texts, size)
    np.add.at(sums, texts, size * logits)
    return np.where(total > 0, sums / np.maximum(total, 1e-12), -np.inf).astype(np.float32)


@dataclass(frozen=True)
class _Tokens:
    """Response tokens of some texts at one layer."""

    vectors: Floats
    texts: NDArray[np.int64]
    n: int

    def means(self) -> Floats:
        sums = np.zeros((self.n, self.vectors.shape[1]), np.float32)
        np.add.at(sums, self.texts, self.vectors)
        counts = np.maximum(np.bincount(self.texts, minlength=self.n), 1)
        return np.asarray(sums / counts[:, None], np.float32)

    def highest(self, scores: Floats) -> NDArray[np.int64]:
        """Which token of each text scores highest, (n,)."""
        order = np.lexsort((scores, self.texts))
        return order[np.flatnonzero(np.diff(self.texts[order], append=self.n))]

    def some(self, texts: NDArray[np.int64]) -> _Tokens:
        place = np.full(self.n, -1)
        place[texts] = np.arange(len(texts))
        kept = place[self.texts] >= 0
        return _Tokens(self.vectors[kept], place[self.texts[kept]], len(texts))


def train_probe(
    policy: Policy,
    exchanges: Sequence[Exchange],
    shows: Sequence[bool],
    kind: Kind = "logistic",
    layers: Sequence[int] | None = None,
    seed: int = 0,
) -> Probe:
    """Train on examples of a concept and examples without it; a third is held out to choose the layer.

    Args:
        policy: whose residual stream is read.
        exchanges: examples.
        shows: whether each shows the concept.
        kind: of probe.
        layers: to choose from; default: all.
        seed: of the split.

    Raises:
        UsageError: too few examples of a class, or examples without response tokens.
    """
    labels = np.asarray(shows, np.bool_)
    if min(labels.sum(), (~labels).sum()) < LEAST_EXAMPLES:
        raise UsageError(f"a probe needs {LEAST_EXAMPLES} examples with the concept and as many without it")
    if any(each.start >= len(each.tokens) for each in exchanges):
        raise UsageError("a probe's example has no response tokens; leave out empty responses")
    train, held = _split(labels, seed)
    chosen = range(policy.layers) if layers is None else layers
    read = _read(policy, exchanges, chosen)
    probes = [_fit(kind, layer, read[layer], labels, train, held, seed) for layer in chosen]
    return max(probes, key=_auc_of)


def _auc_of(probe: Probe) -> float:
    return probe.auc


def _split(labels: NDArray[np.bool_], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two thirds and one third of either class."""
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(np.flatnonzero(labels == value)) for value in (True, False)]
    cuts = [len(part) * 2 // 3 for part in parts]
    train = np.concatenate([part[:cut] for part, cut in zip(parts, cuts, strict=True)])
    return np.sort(train), np.sort(np.setdiff1d(np.arange(len(labels)), train))


def _read(policy: Policy, exchanges: Sequence[Exchange], layers: Sequence[int]) -> dict[int, _Tokens]:
    rows: list[NDArray[np.int64]] = []
    vectors: dict[int, list[Floats]] = {layer: [] for layer in layers}
    for stream in policy.read(exchanges, layers):
        rows.append(stream.rows[stream.response])
        for layer in layers:
            vectors[layer].append(stream.vectors[layer][stream.response])
    texts = np.concatenate(rows)
    return {layer: _Tokens(np.concatenate(parts), texts, len(exchanges)) for layer, parts in vectors.items()}


def _fit(
    kind: Kind, layer: int, tokens: _Tokens, labels: NDArray[np.bool_], train: NDArray[np.int64],
    held: NDArray[np.int64], seed: int,
) -> Probe:  # fmt: skip
    part = tokens.some(train)
    direction, bias, query = FITS[kind](part, labels[train], seed)
    draft = Probe(kind, layer, direction, bias, query, 0.0, 0.0, 0.0, 1.0)
    scores = draft.score(tokens.vectors, tokens.texts, tokens.n)
    low = float(np.quantile(scores[held][~labels[held]], QUIET))
    high = max(float(np.quantile(scores[held][labels[held]], FULL)), low + 1e-6)
    found, error = auc(scores[held], labels[held]), _auc_error(labels[held])
    return Probe(kind, layer, direction, bias, query, found, error, low, high)


def _auc_error(labels: NDArray[np.bool_]) -> float:
    one, other = int(labels.sum()), int((~labels).sum())
    return float(np.sqrt((one + other + 1) / (12 * one * other)))


def auc(scores: Floats, labels: NDArray[np.bool_]) -> float:
    """Chance that a positive scores above a negative; ties count half."""
    from scipy.stats import rankdata

    positive, negative = int(labels.sum()), int((~labels).sum())
    ranks = rankdata(scores)[labels].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


_Fit = tuple[Floats, float, Floats | None]


def _by_means(tokens: _Tokens, labels: NDArray[np.bool_], _seed: int) -> _Fit:
    """Σ⁻¹(μ⁺ - μ⁻), first of whole texts, then of the token of each text that scores highest.

    Σ is that of the tokens without the concept; without it the words that differ by chance drown a word that
    stands once in a text.
    """
    quiet = tokens.vectors[~labels[tokens.texts]]
    spread = np.cov(quiet.T.astype(np.float64)).reshape(tokens.vectors.shape[1], -1)
    spread += RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread))
    witnesses = tokens.means()
    for _ in range(ROUNDS):
        one, other = witnesses[labels].mean(axis=0), witnesses[~labels].mean(axis=0)
        direction = np.linalg.solve(spread, (one - other).astype(np.float64)).astype(np.float32)
        witnesses = tokens.vectors[tokens.highest(tokens.vectors @ direction)]
    direction = direction / max(float(np.linalg.norm(direction)), 1e-9)
    return direction, -float((one + other) @ direction / 2), None


def _by_logistic(tokens: _Tokens, labels: NDArray[np.bool_], _seed: int) -> _Fit:
    """Ridge-penalised logistic of log Σ exp(⟨h, v⟩ + b) over tokens: the largest, smoothly."""
    x, centre, spread = _standardised(tokens.vectors)
    w = _fitted(x, tokens.texts, labels)
    return _in_own_units(w, centre, spread)


def _by_attention(tokens: _Tokens, labels: NDArray[np.bool_], seed: int) -> _Fit:
    """softmax(⟨h, q⟩)-weighted ⟨h, v⟩ + b, by Adam from the logistic probe of the largest token."""
    import torch

    x, centre, spread = _standardised(tokens.vectors)
    begin = _fitted(x, tokens.texts, labels)
    h, texts = torch.from_numpy(x), torch.from_numpy(tokens.texts)
    y = torch.from_numpy(labels.astype(np.float32))
    v, q, b = (torch.tensor(each, requires_grad=True) for each in (begin[:-1], begin[:-1], begin[-1]))
    adam = torch.optim.Adam([v, q, b], lr=1e-2)
    for _ in range(ATTENTION_STEPS):
        weights = h @ q
        size = torch.exp(weights - weights.max().detach())
        total = torch.zeros(tokens.n).index_add(0, texts, size)
        logits = torch.zeros(tokens.n).index_add(0, texts, size * (h @ v + b)) / total.clamp_min(1e-30)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
        loss = loss + RIDGE * (v.square().sum() + q.square().sum()) / 2
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    learned = np.append(v.detach().numpy(), float(b.detach()))
    direction, bias, _ = _in_own_units(learned, centre, spread)
    return direction, bias, (q.detach().numpy() / spread).astype(np.float32)


def _standardised(vectors: Floats) -> tuple[Floats, Floats, Floats]:
    centre, spread = vectors.mean(axis=0), vectors.std(axis=0) + np.float32(1e-6)
    return (vectors - centre) / spread, centre, spread


def _in_own_units(w: NDArray[np.floating], centre: Floats, spread: Floats) -> _Fit:
    direction = (w[:-1] / spread).astype(np.float32)
    return direction, float(w[-1] - centre @ direction), None


def _largest(scores: Floats, texts: NDArray[np.int64], n: int) -> tuple[Floats, Floats]:
    """Log Σ exp of each text's token scores, and each token's share in it."""
    most = np.full(n, -np.inf, np.float32)
    np.maximum.at(most, texts, scores)
    size = np.exp(scores - most[texts])
    total = np.bincount(texts, size, minlength=n)
    return (most + np.log(total)).astype(np.float32), (size / total[texts]).astype(np.float32)


def _fitted(x: Floats, texts: NDArray[np.int64], labels: NDArray[np.bool_]) -> Floats:
    """Weights and, last, the bias."""
    from scipy.optimize import minimize
    from scipy.special import expit

    y = np.where(labels, 1.0, -1.0).astype(np.float32)

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores, shares = _largest(x @ w[:-1].astype(np.float32) + np.float32(w[-1]), texts, len(y))
        value = float(np.logaddexp(0, -y * scores).mean()) + RIDGE * float(w[:-1] @ w[:-1]) / 2
        by = -y * expit(-y * scores) / len(y)
        pull = by[texts] * shares
        return value, np.append(x.T @ pull + RIDGE * w[:-1], pull.sum()).astype(np.float64)

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B")
    return np.asarray(found.x, np.float32)


FITS: dict[Kind, Callable[[_Tokens, NDArray[np.bool_], int], _Fit]] = {
    "means": _by_means,
    "logistic": _by_logistic,
    "attention": _by_attention,
}


def probe_concepts(
    data: PreferenceData, policy: Policy, probes: dict[str, Probe], progress: Progress = SILENT
) -> Activations:
    """Score both sides of every pair by each probe; each distinct exchange is read once.

    Args:
        data: n pairs.
        policy: the model that the probes were trained on.
        probes: concept → probe.
        progress: hears about exchanges.
    """
    exchanges, (chosen, rejected) = exchanges_of(data, policy)
    layers = sorted({probe.layer for probe in probes.values()})
    shown = np.zeros((len(exchanges), len(probes)), np.float32)
    with progress.task("read the policy", len(exchanges)) as task:
        for stream in policy.read(exchanges, layers):
            rows, texts = np.unique(stream.rows, return_inverse=True)
            said = stream.response
            for column, probe in enumerate(probes.values()):
                scores = probe.score(stream.vectors[probe.layer][said], texts[said], len(rows))
                shown[rows, column] = probe.shown(scores)
            task.advance(len(rows))
    return Activations(
        probes_concepts(probes), *(sparse.csr_matrix(shown[side]) for side in (chosen, rejected))
    )


def probes_concepts(probes: dict[str, Probe]) -> tuple[Concept, ...]:
    """Name what probes look for, in their order."""
    return tuple(
        Concept(f"probe {name}", f"The response shows {name} (probe of layer {probe.layer}).", "probe")
        for name, probe in probes.items()
    )
