"""One coefficient of a logistic of paired choices, many times over, beside numbers and intercepts that stay.

An audit asks for the same fit with another first column a thousand times. What is held is the same each time
and is read through two codes: writers enter through the kind of pair they make (who against whom), so that a
Newton step costs a few passes over the pairs and one small solution, however many writers there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from undertow.stats.logistic import PRIOR_SD, cluster_codes

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_STEPS = 60
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Opponents:
    """Intercepts: +1 for who wrote the chosen side, -1 for who wrote the rejected one."""

    kind: Codes
    """(N,) which kind of pair each is."""
    chosen: Codes
    """(P,) who wrote the chosen side of each kind; 0 is the reference and has no intercept."""
    rejected: Codes
    """(P,) who wrote the rejected side."""
    count: int
    """W + 1, the reference with them."""

    @classmethod
    def of(cls, chosen: Codes, rejected: Codes) -> Opponents:
        """Number the kinds of pairs; the writer of most sides becomes the reference.

        Args:
            chosen: (N,) number of who wrote the chosen side.
            rejected: (N,) the same of the rejected side.
        """
        sides = np.bincount(np.concatenate([chosen, rejected]))
        place = np.empty(len(sides), np.int64)
        place[np.argsort(-sides, kind="stable")] = np.arange(len(sides))
        count = len(sides)
        keys, kind = np.unique(place[chosen] * count + place[rejected], return_inverse=True)
        return cls(kind.astype(np.int64), keys // count, keys % count, count)

    def comparable(self) -> NDArray[np.bool_]:
        """(N,) pairs of writers each of whom was chosen over the other, directly or by way of others.

        On the other pairs the writers alone tell the label for sure, and no intercepts fit them best (Ford
        1957: strong connection of who beat whom).
        """
        from scipy import sparse
        from scipy.sparse.csgraph import connected_components

        beat = (np.ones(len(self.chosen)), (self.chosen, self.rejected))
        graph = sparse.csr_matrix(beat, shape=(self.count, self.count))
        _, part = connected_components(graph, directed=True, connection="strong")
        return np.asarray((part[self.chosen] == part[self.rejected])[self.kind], np.bool_)

    def among(self, rows: NDArray[np.bool_]) -> Opponents:
        """Return the same of some pairs, writers numbered anew."""
        kind = self.kind[rows]
        _, code = np.unique(np.concatenate([self.chosen[kind], self.rejected[kind]]), return_inverse=True)
        return Opponents.of(code[: len(kind)], code[len(kind) :])

    def spread(self, each: Floats) -> Floats:
        """Add what each kind (P,) has to its writers, (W,)."""
        return (self._sum(self.chosen, each) - self._sum(self.rejected, each))[1:]

    def curvature(self, each: Floats) -> Floats:
        """Σ weight x xᵀ over kinds with weights (P,), (W, W)."""
        across = np.bincount(
            self.chosen * self.count + self.rejected, weights=each, minlength=self.count**2
        ).reshape(self.count, self.count)
        sums = self._sum(self.chosen, each) + self._sum(self.rejected, each)
        return np.asarray(np.diag(sums) - across - across.T, np.float64)[1:, 1:]

    def gather(self, intercepts: Floats) -> Floats:
        """Difference of the intercepts (W,) in each kind, (P,)."""
        whole = np.concatenate([[0.0], intercepts])
        return np.asarray(whole[self.chosen] - whole[self.rejected], np.float64)

    def _sum(self, at: Codes, each: Floats) -> Floats:
        return np.asarray(np.bincount(at, weights=each, minlength=self.count), np.float64)


@dataclass(frozen=True, slots=True)
class First:
    """The first coefficient of a fit."""

    coef: float
    """Log-odds of being chosen per unit."""
    se: float
    """By clusters, CR1 with statsmodels' correction; NaN below two clusters."""
    model_se: float
    """From the curvature alone, pairs as independent: for a column of one sign, whose scores vanish."""
    beta: Floats
    """(1 + h + W,) all coefficients: concept, numbers, writers."""
    converged: bool
    """The gradient vanished."""


class Choices:
    """N pairs and what is held of them in every fit."""

    def __init__(
        self,
        clusters: ArrayLike,
        numbers: Floats | None = None,
        opponents: Opponents | None = None,
        prior_sd: float = PRIOR_SD,
    ) -> None:
        """Prepare.

        Args:
            clusters: (N,) name of each pair's cluster.
            numbers: (N, h) differences that are held, chosen - rejected.
            opponents: who wrote which side.
            prior_sd: of the normal prior on every coefficient.
        """
        self._code, self._clusters = cluster_codes(clusters)
        self._n = len(self._code)
        self._numbers = np.zeros((0, self._n)) if numbers is None else np.ascontiguousarray(numbers.T)
        self._opponents = opponents
        self._ridge = 1 / prior_sd**2
        self._h = len(self._numbers)
        self._width = 1 + self._h + (opponents.count - 1 if opponents else 0)
        self._alone: Floats | None = None

    def first(self, rows: Codes, values: Floats) -> First:
        """Fit a column that is ``values`` at ``rows`` and 0 elsewhere, beside what is held.

        The fit is that of :func:`undertow.stats.logistic.fit_choices`, whose source and conventions hold.
        """
        if self._width == 1:
            return self._narrowed(rows)._fit(np.arange(len(rows)), values, self._n, self._clusters)
        return self._fit(rows, values, self._n, self._clusters)

    def around(self, rows: Codes, values: Floats, beta: Floats, drop: float) -> tuple[float, float]:
        """Where the penalised likelihood of the first coefficient alone is ``drop`` below its best.

        For a column of one sign, of which a Wald interval says nothing (Hauck & Donner 1977). The other
        coefficients stay as fitted; rows of one cluster count as one.

        Args:
            rows: as in :meth:`first`.
            values: as in :meth:`first`.
            beta: of the fit.
            drop: half of a χ² quantile with one degree of freedom.
        """
        from scipy.optimize import brentq, minimize_scalar

        held = self._along(beta, rows, values)[rows] - beta[0] * values
        share = len(np.unique(self._code[rows])) / len(rows)

        def lost(b: float) -> float:
            return share * float(np.logaddexp(0, -(held + b * values)).sum()) + self._ridge * b * b / 2

        far = 20 / self._ridge**0.5
        best = minimize_scalar(lost, bounds=(-far, far), method="bounded", options={"xatol": 1e-8})

        def over(b: float) -> float:
            return lost(b) - float(best.fun) - drop

        return float(brentq(over, -far, best.x)), float(brentq(over, best.x, far))

    def _narrowed(self, rows: Codes) -> Choices:
        """Only the rows that the column touches: with nothing held the others say nothing."""
        return Choices(self._code[rows], prior_sd=self._ridge**-0.5)

    def _start(self) -> Floats:
        """Coefficients of what is held, alone: every fit begins there."""
        if self._alone is None:
            nothing = np.zeros(0, np.int64), np.zeros(0)
            self._alone = np.zeros(self._width)
            self._alone = self._fit(*nothing, self._n, self._clusters).beta
        return self._alone

    def _fit(self, rows: Codes, values: Floats, n: int, clusters: int) -> First:
        beta = np.zeros(self._width) if self._width == 1 else self._start().copy()
        scores = self._along(beta, rows, values)
        loss, p = self._state(scores, beta)
        converged = False
        for _ in range(_STEPS):
            gradient = self._pulled(p, rows, values) - self._ridge * beta
            information = self._information(p * (1 - p), rows, values)
            step = np.asarray(np.linalg.solve(information, gradient), np.float64)
            converged = float(gradient @ step) < _TOLERANCE
            if converged:
                # taken all the same: it squares the error, so that where this stops hangs on no last bit
                beta, scores = beta + step, scores + self._along(step, rows, values)
                p = self._state(scores, beta)[1]
                break
            along = self._along(step, rows, values)
            for halving in range(30):
                part = 0.5**halving
                reached, moved = self._state(scores + part * along, beta + part * step)
                if reached <= loss:
                    beta, scores, loss, p = beta + part * step, scores + part * along, reached, moved
                    break
        inverse = np.linalg.inv(self._information(p * (1 - p), rows, values))
        bread = np.asarray(inverse[0], np.float64)
        se = self._robust(bread, p, rows, values, n, clusters)
        return First(float(beta[0]), se, float(np.sqrt(bread[0])), beta, converged)

    def _along(self, beta: Floats, rows: Codes, values: Floats) -> Floats:
        """x·β of every pair, (N,)."""
        scores = beta[1 : 1 + self._h] @ self._numbers if self._h else np.zeros(self._n)
        if self._opponents:
            scores = scores + self._opponents.gather(beta[1 + self._h :])[self._opponents.kind]
        scores[rows] += beta[0] * values
        return np.asarray(scores, np.float64)

    def _state(self, scores: Floats, beta: Floats) -> tuple[float, Floats]:
        """Loss, and the probability that the other side is chosen (N,)."""
        small = np.exp(-np.abs(scores))
        # log(1 + e⁻ˢ), a third of the time of logaddexp
        loss = float(np.log(1 + small).sum() - np.minimum(scores, 0).sum())
        p = np.where(scores >= 0, small, 1.0) / (1 + small)
        return loss + self._ridge * float(beta @ beta) / 2, p

    def _pulled(self, each: Floats, rows: Codes, values: Floats) -> Floats:
        """Xᵀ · each, (1 + h + W,)."""
        parts = [np.array([values @ each[rows]]), self._numbers @ each]
        if self._opponents:
            parts.append(self._opponents.spread(self._kinds(each)))
        return np.concatenate(parts)

    def _kinds(self, each: Floats) -> Floats:
        opponents = self._opponents
        assert opponents is not None  # noqa: S101 - asked only where there are writers
        sums = np.bincount(opponents.kind, weights=each, minlength=len(opponents.chosen))
        return np.asarray(sums, np.float64)

    def _information(self, weight: Floats, rows: Codes, values: Floats) -> Floats:
        found = np.zeros((self._width, self._width))
        found[0] = self._crossed(weight[rows] * values, rows, values)
        for i, number in enumerate(self._numbers, 1):
            found[i] = self._pulled(weight * number, rows, values)
        if self._opponents:
            held = slice(1 + self._h, None)
            found[held, held] = self._opponents.curvature(self._kinds(weight))
            found[held, : 1 + self._h] = found[: 1 + self._h, held].T
        found[np.diag_indices(self._width)] += self._ridge
        return found

    def _crossed(self, each: Floats, rows: Codes, values: Floats) -> Floats:
        """Xᵀ · each where ``each`` is of ``rows`` alone, (1 + h + W,)."""
        parts = [np.array([values @ each]), self._numbers[:, rows] @ each]
        if self._opponents:
            kinds = len(self._opponents.chosen)
            sums = np.bincount(self._opponents.kind[rows], weights=each, minlength=kinds)
            parts.append(self._opponents.spread(np.asarray(sums, np.float64)))
        return np.concatenate(parts)

    def _robust(self, bread: Floats, p: Floats, rows: Codes, values: Floats, n: int, clusters: int) -> float:
        """√ of the first of bread · meat · bread (Liang & Zeger 1986), from each cluster's influence."""
        if clusters < 2 or n <= self._width:
            return float("nan")
        sums = np.bincount(self._code, weights=self._along(bread, rows, values) * p)
        correction = clusters / (clusters - 1) * (n - 1) / (n - self._width)
        return float(np.sqrt(correction * (sums @ sums)))
