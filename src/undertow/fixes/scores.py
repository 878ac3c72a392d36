"""How much each side of each pair shows each concept that a preference fix goes by.

Three sources, one shape: a pattern in the text, a column of differences, or the audit's activations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from undertow.data.preferences import CONTENT, PreferenceData, content_hashes
from undertow.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from undertow.preference.concepts import Activations

Floats = NDArray[np.float64]


class Target(BaseModel):
    """A concept that a fix aims at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Name of the concept: a column of scores, or what a pattern shall be called."""
    pattern: str | None = None
    """Regular expression; a response in which it is found shows the concept, there and nowhere else."""
    strength: float | None = Field(default=None, allow_inf_nan=False)
    """λ of this concept in ``shape``; ``None``: that of the fix."""


@dataclass(frozen=True)
class Scores:
    """How much N pairs show M concepts."""

    names: tuple[str, ...]
    """Concepts, in the order of the columns."""
    chosen: Floats
    """(N, M) how much the chosen response shows it; a difference stands here where above 0."""
    rejected: Floats
    """(N, M) the same of the rejected response."""

    @property
    def signed(self) -> Floats:
        """(N, M) u: 1 where the chosen side alone shows it, -1 where the rejected side alone does."""
        return np.asarray((self.chosen > 0) * 1.0 - (self.rejected > 0) * 1.0)

    @property
    def delta(self) -> Floats:
        """(N, M) Δs: difference of the two responses' scores, each z-scored over all 2N responses.

        Raises:
            UsageError: a concept is the same in all of them.
        """
        spread = np.concatenate([self.chosen, self.rejected]).std(axis=0)
        for name, value in zip(self.names, spread, strict=True):
            if not value > 0:
                raise UsageError(f"concept {name!r}: every response scores alike; nothing tells pairs apart")
        return np.asarray((self.chosen - self.rejected) / spread)


def score_pairs(table: pa.Table, targets: Sequence[Target], scores: pa.Table | None) -> Scores:
    """Score every pair on every concept.

    Args:
        table: Pairs with ``id``, ``chosen``, ``rejected``.
        targets: Concepts; those without a pattern are columns of ``scores``.
        scores: Columns ``id`` and, by concept NAME, s⁺ - s⁻, or ``NAME_chosen`` and ``NAME_rejected``: of a
            difference alone z-scores are those of its two parts.

    Raises:
        UsageError: a pattern that is none, a concept without scores, a pair without a finite one.
    """
    columns = [
        _pattern_column(table, t) if t.pattern else _score_column(table, t.name, scores) for t in targets
    ]
    chosen, rejected = (np.stack([each[side] for each in columns], axis=1) for side in (0, 1))
    return Scores(tuple(target.name for target in targets), chosen, rejected)


def compiled(target: Target) -> re.Pattern[str]:
    """Compile a target's pattern.

    Raises:
        UsageError: it is no regular expression.
    """
    try:
        return re.compile(target.pattern or "(?!)")
    except re.error as error:
        raise UsageError(f"concept {target.name!r}: {target.pattern!r} is no pattern ({error})") from None


def spans_of(texts: Sequence[str], pattern: re.Pattern[str]) -> list[list[tuple[int, int]]]:
    """Return where the pattern stands in each text, [start, end), empty matches left out."""
    return [[m.span() for m in pattern.finditer(text) if m.end() > m.start()] for text in texts]


def refuse_emptied(where: str, text: str, spans: Sequence[Sequence[int]]) -> None:
    """Refuse spans that leave nothing of ``text``.

    Raises:
        UsageError: they do.
    """
    left = list(text)
    for start, end in spans:
        left[start:end] = [" "] * (end - start)
    if spans and not "".join(left).strip():
        raise UsageError(f"{where}: the mask leaves nothing of its response; filter it instead")


def _pattern_column(table: pa.Table, target: Target) -> tuple[Floats, Floats]:
    pattern = compiled(target)
    sides = (
        [bool(pattern.search(text)) for text in table[side].to_pylist()] for side in ("chosen", "rejected")
    )
    chosen, rejected = (np.array(side, np.float64) for side in sides)
    return chosen, rejected


def _score_column(table: pa.Table, name: str, scores: pa.Table | None) -> tuple[Floats, Floats]:
    there = [each for each in scores.column_names if each != CONTENT] if scores is not None else []
    sides = [f"{name}_{side}" for side in ("chosen", "rejected")]
    if scores is not None and set(sides) <= set(there):
        chosen, rejected = (_finite(table, column, scores) for column in sides)
        return chosen, rejected
    if scores is None or name not in there:
        found = ", ".join(each for each in there if each != "id") or "none"
        raise UsageError(f"concept {name!r}: no such column of scores ({found}); give a pattern, NAME=REGEX")
    values = _finite(table, name, scores)
    return np.maximum(values, 0.0), np.maximum(-values, 0.0)


def _finite(table: pa.Table, name: str, scores: pa.Table) -> Floats:
    """Return a column of scores in the order of the pairs, (N,)."""
    import pyarrow.compute as pc

    at = pc.index_in(table["id"], value_set=scores["id"].cast("string").combine_chunks())
    values = np.array(scores[name].take(at).to_pylist(), np.float64)
    if not np.isfinite(values).all():
        row = table["id"][int((~np.isfinite(values)).argmax())].as_py()
        raise UsageError(f"concept {name!r}: pair {row!r} has no finite score")
    return values


def read_scores(path: Path, table: pa.Table) -> pa.Table:
    """Read a Parquet file of ``id`` and scores of pairs; without ``id`` its rows are the data's.

    Raises:
        UsageError: it cannot be read, or does not fit.
    """
    from undertow.store.tables import read_table

    scores = read_table(path)
    if "id" in scores.column_names:
        return scores
    if len(scores) != len(table):
        raise UsageError(f"{path}: {len(scores)} rows without id, for {len(table)} pairs; write their ids")
    return scores.append_column("id", table["id"])


def refuse_other_pairs(pairs: PreferenceData, scores: pa.Table, path: Path) -> None:
    """Refuse scores of other pairs than these; by their texts where an audit wrote the scores.

    Raises:
        UsageError: pairs that the scores do not know, or that have other texts there.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    at = pc.index_in(pairs.table["id"], value_set=scores["id"].cast(pa.string()).combine_chunks())
    of_audit = CONTENT in scores.column_names and pa.types.is_string(scores[CONTENT].type)
    if of_audit:
        same = pc.equal(scores[CONTENT].take(at), content_hashes(pairs.table))
        other = np.asarray(pc.fill_null(pc.invert(same), False), np.bool_)
        if other.any():
            _refuse_pairs(pairs, other, f"do not read as in {path}", of_audit)
    missing = np.asarray(pc.is_null(at), np.bool_)
    if missing.any():
        _refuse_pairs(pairs, missing, f"are not in {path}", of_audit)


def _refuse_pairs(pairs: PreferenceData, bad: NDArray[np.bool_], how: str, of_audit: bool) -> None:
    first = pairs.table["id"][int(bad.argmax())].as_py()
    what = "not the data this audit read" if of_audit else "not the pairs that were scored"
    mend = "give that data, or what a fix made of it" if of_audit else "score every pair, by its id"
    raise UsageError(
        f"{pairs.path}: {what}: {bad.sum():,} of {len(pairs):,} pairs {how}, first pair {first!r}; {mend}"
    )


def activation_scores(table: pa.Table, found: Activations, names: Sequence[str]) -> pa.Table:
    """Return the audit's concepts ``names`` as the table that ``score_pairs`` reads."""
    import pyarrow as pa

    at = {concept.name: column for column, concept in enumerate(found.concepts)}
    missing = [name for name in names if name not in at]
    if missing:
        raise UsageError(f"concept {missing[0]!r}: not among the {len(at)} concepts of the audit")
    sides = {"chosen": found.chosen.tocsc(), "rejected": found.rejected.tocsc()}
    columns = {
        f"{name}_{side}": values[:, [at[name]]].toarray().ravel().astype(np.float64)
        for name in names
        for side, values in sides.items()
    }
    return pa.table({"id": table["id"], **columns})
