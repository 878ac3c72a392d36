"""Which phrases and templates of a corpus become attributes.

Templates (openings, closings, labels, …) are kept by how many rows hold them. Word n-grams are kept when
they are over-represented in one source (Dirichlet log-odds, Monroe et al. 2008) or, beyond what the source
explains, in one response type. N-grams that stand in exactly the same rows are merged into the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from undertow.attributes.hashtable import sorted_unique
from undertow.attributes.streams import MAX_GRAM, Occurrences, Words, gram_hashes

MIN_Z = 4.0
"""Smallest z of an n-gram in a source or response type."""
PER_SOURCE, PER_TYPE = 150, 120
"""N-grams kept for one source and for one response type."""
MAX_SHARE = 0.5
"""N-grams in more of the rows say nothing."""
HEAD_WORDS, TAIL_WORDS = 250, 150
"""Words at the start and end of a row that phrases are mined from; all of its words are searched for them."""
PRIOR = 0.1
"""Weight of the corpus in the Dirichlet prior of the log-odds."""
BLOCK = 32
"""Response types whose counts are dense at once."""
PIECE = 200_000
"""Words looked up at once."""
WORKERS = 2
"""Threads; SciPy and NumPy release the interpreter lock."""


def least_rows(n: int) -> int:
    """Rows that something must stand in: 5, fewer in tiny corpora, one in 10,000 in large ones."""
    return max(min(5, max(2, n // 20)), round(n / 10_000))


@dataclass(frozen=True)
class Mined:
    """Hashes that became attributes, each with one place where it stands."""

    hashes: NDArray[np.uint64]
    """(M,)."""
    at: NDArray[np.int64]
    """Position of one occurrence in the mined stream, (M,)."""
    counts: NDArray[np.int64]
    """Rows that hold it, (M,)."""


def encode(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Number distinct hashes in order of appearance: (number of each, distinct hashes)."""
    encoded = pa.array(hashes, pa.uint64()).dictionary_encode()
    return np.asarray(encoded.indices).astype(np.int64), np.asarray(encoded.dictionary)


def _row_counts(rows: NDArray[np.int64], ids: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    pairs = sorted_unique(ids * (int(rows.max(initial=0)) + 1) + rows)
    return np.bincount(pairs // (int(rows.max(initial=0)) + 1), minlength=width)


def mine_templates(found: Occurrences, least: int, cap: int) -> Mined:
    """Keep what stands in at least ``least`` rows.

    Of templates with the same rows the longest stays, and those that end where a sentence or line does.
    """
    ids, distinct = encode(found.hashes)
    counts = _row_counts(found.rows.astype(np.int64), ids, len(distinct))
    keep = counts >= least
    if found.parents is not None and len(distinct):
        whole = np.zeros(len(distinct), np.bool_)
        whole[ids] = found.whole
        keep &= whole | ~_explained(found, ids, distinct, counts)
    chosen = np.flatnonzero(keep)
    chosen = chosen[np.lexsort((chosen, -counts[chosen]))][:cap]
    first = np.zeros(len(distinct), np.int64)
    first[ids[::-1]] = np.arange(len(ids))[::-1]
    return Mined(distinct[chosen], first[chosen], counts[chosen])


def _explained(
    found: Occurrences, ids: NDArray[np.int64], distinct: NDArray[np.uint64], counts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which templates have a one token longer one in all of their rows."""
    order = np.argsort(distinct)
    assert found.parents is not None  # noqa: S101 - narrowed by the caller
    slot = np.minimum(np.searchsorted(distinct[order], found.parents), len(order) - 1)
    parent = order[slot]
    is_child = distinct[parent] == found.parents
    longest = np.zeros(len(distinct), np.int64)
    np.maximum.at(longest, parent[is_child], counts[ids[is_child]])
    return longest >= counts


@dataclass(frozen=True)
class Grams:
    """Distinct n-grams of a corpus and the rows that hold them."""

    hashes: NDArray[np.uint64]
    """(G,)."""
    at: NDArray[np.int64]
    """Word at which one of its occurrences begins, (G,)."""
    orders: NDArray[np.int8]
    """Words in it, (G,)."""
    rows: sparse.csr_matrix
    """Boolean incidence as float32, (G, n)."""


def collect_grams(stream: Words, n: int, least: int) -> Grams:
    """All n-grams of one to four words in at least ``least`` rows and at most half of them.

    A longer n-gram is only looked at where both of its shorter ones are frequent enough.
    """
    alive = np.ones(len(stream.hashes), np.bool_)
    shorter = stream.hashes
    parts: list[Grams] = []
    for order in range(1, MAX_GRAM + 1):
        grams, whole = gram_hashes(stream, order, shorter)
        at = np.flatnonzero(
            whole & (alive[: len(grams)] if order == 1 else alive[: len(grams)] & alive[1:][: len(grams)])
        )
        ids, distinct = encode(grams[at])
        often = np.bincount(ids, minlength=len(distinct)) >= least
        kept = often[ids]
        alive = np.zeros(len(grams), np.bool_)
        alive[at[kept]] = True
        parts.append(_incidence(ids[kept], at[kept], distinct, stream, n, order, least))
        shorter = grams
    return Grams(
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.at for part in parts]),
        np.concatenate([part.orders for part in parts]),
        sparse.vstack([part.rows for part in parts], format="csr"),
    )


def _incidence(
    ids: NDArray[np.int64],
    at: NDArray[np.int64],
    distinct: NDArray[np.uint64],
    stream: Words,
    n: int,
    order: int,
    least: int,
) -> Grams:
    bits = max(1, n - 1).bit_length()
    pairs = sorted_unique((ids << bits) | stream.rows[at])
    gram, row = pairs >> bits, (pairs & ((1 << bits) - 1)).astype(np.int32)
    counts = np.bincount(gram, minlength=len(distinct))
    chosen = (counts >= least) & (counts <= max(least, MAX_SHARE * n))
    kept = chosen[gram]
    pointer = np.zeros(int(chosen.sum()) + 1, np.int64)
    np.cumsum(counts[chosen], out=pointer[1:])
    ones = np.ones(int(kept.sum()), np.float32)
    first = np.zeros(len(distinct), np.int64)
    first[ids[::-1]] = at[::-1]
    rows = sparse.csr_matrix((ones, row[kept], pointer), shape=(len(pointer) - 1, n))
    return Grams(distinct[chosen], first[chosen], np.full(len(pointer) - 1, order, np.int8), rows)


def row_signatures(grams: Grams) -> NDArray[np.uint64]:
    """A number for each n-gram that is equal where the rows are equal, (G,)."""
    labels = np.random.default_rng(0).integers(1, 1 << 63, grams.rows.shape[1], np.uint64)
    if not len(grams.hashes):
        return np.zeros(0, np.uint64)
    return np.add.reduceat(labels[grams.rows.indices], grams.rows.indptr[:-1])


def merge_same_rows(grams: Grams, signatures: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Numbers of the n-grams that remain when those with identical rows become the longest of them."""
    order = np.lexsort((grams.at, -grams.orders.astype(np.int64), signatures))
    first = np.ones(len(order), np.bool_)
    first[1:] = signatures[order][1:] != signatures[order][:-1]
    return np.sort(order[first])


def select_grams(
    grams: Grams, sources: NDArray[np.int64], types: sparse.csr_matrix, least: int, cap: int
) -> NDArray[np.int64]:
    """Numbers of the n-grams over-represented in a source or a response type.

    Of n-grams with identical rows the longest is taken, and the single words, which other texts may share.

    Args:
        grams: G candidates over n rows.
        sources: Source number of each row, (n,).
        types: Response type incidence, (n, t).
        least: Rows that an n-gram must share with the group.
        cap: Most n-grams, single words of the same rows not counted; the highest z stay.
    """
    signatures = row_signatures(grams)
    kept = merge_same_rows(grams, signatures)
    if not len(kept):
        return kept
    rows = grams.rows[kept]
    n = rows.shape[1]
    width = int(sources.max(initial=0)) + 1
    one_hot = sparse.csr_matrix((np.ones(n, np.float32), (np.arange(n), sources)), shape=(n, width))
    totals = np.asarray(rows.sum(axis=1), np.float32).ravel()
    by_source = (rows @ one_hot).toarray()
    best = np.full(len(kept), -np.inf)
    sizes = np.asarray(one_hot.sum(axis=0)).ravel()
    if width > 1:
        for source in range(width):
            some = np.flatnonzero(by_source[:, source] >= least)
            z = _source_z(by_source[some, source], totals[some], int(sizes[source]), n)
            _keep_best(best, some, z, PER_SOURCE)
    base = np.asarray((one_hot.T @ types).todense()) / np.maximum(sizes[:, None], 1)

    def enriched(start: int) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        hits = rows @ types[:, start : start + BLOCK].toarray()
        expected = by_source @ base[:, start : start + BLOCK]
        found = []
        for column in range(hits.shape[1]):
            some = np.flatnonzero((hits[:, column] >= least) & (hits[:, column] > expected[:, column]))
            found.append((some, type_z(hits[some, column], expected[some, column], totals[some])))
        return found

    with ThreadPoolExecutor(WORKERS) as pool:
        for found in pool.map(enriched, range(0, types.shape[1], BLOCK)):
            for some, z in found:
                _keep_best(best, some, z, PER_TYPE)
    chosen = np.flatnonzero(np.isfinite(best))
    chosen = chosen[np.lexsort((chosen, -best[chosen]))][:cap]
    single = (grams.orders == 1) & np.isin(signatures, signatures[kept[chosen]])
    return np.union1d(kept[chosen], np.flatnonzero(single))


def _keep_best(best: NDArray[np.float64], at: NDArray[np.int64], z: NDArray[np.float64], cap: int) -> None:
    order = np.lexsort((at, -z))[:cap]
    order = order[z[order] >= MIN_Z]
    best[at[order]] = np.maximum(best[at[order]], z[order])


def _source_z(
    inside: NDArray[np.float32], totals: NDArray[np.float32], rows: int, n: int
) -> NDArray[np.float64]:
    """Dirichlet log-odds z of n-grams in one source of ``rows`` of the n rows; counts are of rows."""
    from undertow.stats.enrichment import log_odds_dirichlet

    counts, prior = inside.astype(np.float64), PRIOR * totals.astype(np.float64)
    return log_odds_dirichlet(counts, totals - counts, prior, (float(rows), float(n - rows)), PRIOR * n)


def type_z(
    hits: NDArray[np.float32], expected: NDArray[np.float32], totals: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Signed root of the binomial deviance of ``hits`` of ``totals`` rows against the expected number.

    The expectation is summed over sources, so it asks what the n-gram says beyond its source (the idea of
    Cochran–Mantel–Haenszel), and an n-gram that stands only in rows of the type is not underrated, as the
    log-odds z does it.
    """
    n = totals.astype(np.float64)
    p = np.clip(expected / n, 1e-9, 1 - 1e-9)
    rate = np.clip(hits / n, 1e-12, 1 - 1e-12)
    deviance = 2 * n * (rate * np.log(rate / p) + (1 - rate) * np.log((1 - rate) / (1 - p)))
    return np.where(rate > p, np.sqrt(np.maximum(deviance, 0)), -np.inf)


def sample_rows(n: int, cap: int, groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """At most ``cap`` rows for mining, in order, each source in proportion but none below 200 rows."""
    if n <= cap:
        return np.arange(n)
    sizes = np.bincount(groups)
    wanted = np.minimum(sizes, np.maximum(200, np.round(sizes * (cap / n)).astype(np.int64)))
    order = rng.permutation(n)
    order = order[np.argsort(groups[order], kind="stable")]
    rank = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[rank < wanted[groups[order]]])


def outer_words(stream: Words, n: int) -> Words:
    """The first and last words of each of n rows: long passages are mostly told by their edges."""
    sizes = np.bincount(stream.rows, minlength=n)
    if sizes.max(initial=0) <= HEAD_WORDS + TAIL_WORDS:
        return stream
    first = np.cumsum(sizes) - sizes
    rank = np.arange(len(stream.rows)) - first[stream.rows]
    kept = (rank < HEAD_WORDS) | (rank >= (sizes - TAIL_WORDS)[stream.rows])
    gaps = np.cumsum(rank == HEAD_WORDS, dtype=np.int32)
    columns = {field.name: getattr(stream, field.name)[kept] for field in fields(Words)}
    columns["segments"] = columns["segments"] + gaps[kept]
    return Words(**columns)


def split_rows(stream: Words, n: int) -> list[tuple[int, Words, int]]:
    """Cut the words of n rows into pieces of whole rows that fit a cache: (first row, words, rows)."""
    ends = np.searchsorted(stream.rows, np.arange(n + 1))
    cuts = np.unique(np.searchsorted(ends, np.arange(0, len(stream.rows) + PIECE, PIECE)).clip(0, n))
    cuts = np.union1d(cuts, [0, n])
    out = []
    for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        part = slice(int(ends[first]), int(ends[last]))
        columns = {field.name: getattr(stream, field.name)[part] for field in fields(Words)}
        columns["rows"] = columns["rows"] - np.int32(first)
        out.append((first, Words(**columns), last - first))
    return out


def join_words(parts: Sequence[Words]) -> Words:
    """Concatenate the words of several batches, whose rows already differ; segments are renumbered."""
    sizes = [int(part.segments.max(initial=-1)) + 1 for part in parts]
    shifts = np.cumsum([0, *sizes])[: len(parts)]
    parts = [
        replace(part, segments=part.segments + np.int32(by)) for part, by in zip(parts, shifts, strict=True)
    ]
    return Words(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Words)))
