"""Where a phrase stands in the training data, and what goes with it (paper A.2, A.4, Fig. 6).

DuckDB over the index's Parquet. Patterns are bound parameters, never part of the SQL; its regular expressions
are RE2, which has no catastrophic backtracking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.index.open import SIDES, Index
from undertow.records import Side
from undertow.stats.enrichment import hypergeometric, log_odds_dirichlet, mantel_haenszel
from undertow.stats.intervals import rate, wilson_bounds
from undertow.stats.multiplicity import benjamini_hochberg
from undertow.store.tables import to_jsonable

if TYPE_CHECKING:
    import duckdb

CLIP = 600
"""Characters of prompt and response shown of an example."""

_STANDS = """
    CREATE TEMP TABLE hit AS
    SELECT file_row_number AS row, source,
           regexp_matches(prompt, $pattern, $how) AS in_prompt,
           regexp_matches(response, $pattern, $how) AS in_response
    FROM read_parquet($examples, file_row_number = true)
"""
_BY_SOURCE = """
    SELECT source, count(*) AS rows, count_if(in_prompt OR in_response) AS hits,
           count_if(in_prompt) AS in_prompt, count_if(in_response) AS in_response
    FROM hit GROUP BY source HAVING hits > 0 ORDER BY hits DESC, source
"""
_EXAMPLES = """
    SELECT id, source, left(prompt, $clip) AS prompt, left(response, $clip) AS response
    FROM read_parquet($examples, file_row_number = true)
    WHERE file_row_number IN (SELECT row FROM hit WHERE in_prompt OR in_response ORDER BY row LIMIT $limit)
    ORDER BY file_row_number
"""
_ATTRIBUTES = """
    SELECT side, text, kind, "count" FROM (
        SELECT 'query' AS side, text, kind, "count" FROM read_parquet($query)
        UNION ALL SELECT 'response' AS side, text, kind, "count" FROM read_parquet($response))
    WHERE regexp_matches(text, $pattern, $how) ORDER BY "count" DESC, text LIMIT $limit
"""
_CONDITION = """
    CREATE TEMP TABLE met AS
    SELECT file_row_number AS row, source, regexp_matches(prompt, $given, $how) AS given_holds,
           regexp_matches(response, $then, $how) AS then_holds
    FROM read_parquet($examples, file_row_number = true)
"""
_BESIDE = """
    CREATE TEMP TABLE pair AS
    SELECT source, regexp_matches(prompt, $pattern, $how) OR regexp_matches(response, $pattern, $how) AS one,
           regexp_matches(prompt, $beside, $how) OR regexp_matches(response, $beside, $how) AS other
    FROM read_parquet($examples)
"""
_BESIDE_BY_SOURCE = """
    SELECT source, count(*) AS rows, count_if(one) AS one, count_if(other) AS other,
           count_if(one AND other) AS "both"
    FROM pair GROUP BY source ORDER BY "both" DESC, one DESC, source
"""
_CONDITION_COUNTS = """
    SELECT count_if(given_holds) AS given, count_if(given_holds AND then_holds) AS "both",
           count_if(then_holds) AS behaviour, count(*) AS rows FROM met
"""
_CONDITION_BY_SOURCE = """
    SELECT source, count_if(given_holds) AS given, count_if(given_holds AND then_holds) AS "both"
    FROM met GROUP BY source HAVING given > 0 ORDER BY "both" DESC, given DESC, source
"""


def query(
    index: Index,
    pattern: str | None,
    given: str | None = None,
    then: str | None = None,
    limit: int = 5,
    case_sensitive: bool = False,
    beside: str | None = None,
    over: str | None = None,
) -> dict[str, Any]:
    """Look a regular expression up in prompts, responses and attributes; or one thing given another.

    Args:
        index: the opened index.
        pattern: sought in prompts and responses; ``None`` where only ``given``/``then`` are asked.
        given: sought in the prompt.
        then: sought in the response; with ``given`` the answer has P(then | given) beside the base rate.
        limit: examples and attributes shown.
        case_sensitive: whether capitals matter.
        beside: another pattern; with ``pattern``, how often both stand in a row's prompt or response.
        over: a source; what stands in it more than in the others.

    Returns:
        ``counts`` (tried: rows read), ``rows``, ``matches`` with ``by_source`` (hits, the source's rows,
        share of hits, rate within the source), ``examples``, ``attributes``; with ``given`` and ``then`` also
        ``conditional``: given, both, rate with Wilson interval, base rate, lift, by source; with ``beside``
        ``together``: counts, lift, odds ratio within sources; with ``over`` ``overrepresented``.

    Raises:
        UsageError: a pattern is no RE2 expression, ``given`` comes without ``then``, no such source.
    """
    if (given is None) != (then is None):
        raise UsageError("--given and --then go together: P(then | given)")
    if beside is not None and pattern is None:
        raise UsageError("--beside: give the pattern that it shall stand beside as well")
    if pattern is None and given is None and over is None:
        raise UsageError(
            "nothing to look up: give a regular expression, --given and --then, or --over SOURCE"
        )
    how = "" if case_sensitive else "i"
    answer: dict[str, Any] = {
        "status": "complete", "rows": index.n, "pattern": pattern, "given": given, "then": then,
        "counts": {"tried": index.n, "scored": index.n, "failed": 0}, "failures": {},
    }  # fmt: skip
    import duckdb

    with duckdb.connect() as connection:
        for each in filter(None, (pattern, given, then, beside)):
            _check_pattern(connection, each)
        if pattern is not None:
            answer |= _stands(connection, index, pattern, how, limit)
        if given is not None and then is not None:
            answer["conditional"] = _conditional(connection, index, given, then, how)
        if pattern is not None and beside is not None:
            answer["together"] = _together(connection, index, pattern, beside, how)
    if over is not None:
        answer["overrepresented"] = overrepresented(index, over, limit)
    return answer


def _check_pattern(connection: duckdb.DuckDBPyConnection, pattern: str) -> None:
    import duckdb

    try:
        connection.execute("SELECT regexp_matches('', $pattern)", {"pattern": pattern}).fetchall()
    except duckdb.InvalidInputException as error:
        reason = str(error).splitlines()[0].removeprefix("Invalid Input Error: ")
        raise UsageError(f"{pattern!r}: not a regular expression (RE2): {reason}") from None


def _run(connection: duckdb.DuckDBPyConnection, sql: str, **bound: object) -> list[dict[str, Any]]:
    """Execute with bound parameters; rows as dictionaries."""
    import duckdb

    named = {name: value for name, value in bound.items() if f"${name}" in sql}
    try:
        cursor = connection.execute(sql, named)
    except duckdb.InvalidInputException as error:
        reason = str(error).splitlines()[0].removeprefix("Invalid Input Error: ")
        raise UsageError(f"query: {reason}") from None
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _stands(
    connection: duckdb.DuckDBPyConnection, index: Index, pattern: str, how: str, limit: int
) -> dict[str, Any]:
    """Count the pattern by source; show examples and the attributes that speak of it."""
    bound = {
        "pattern": pattern, "how": how, "limit": limit, "clip": CLIP,
        "examples": str(index.path / "examples.parquet"),
        "query": str(index.path / "query_attributes.parquet"),
        "response": str(index.path / "response_attributes.parquet"),
    }  # fmt: skip
    _run(connection, _STANDS, **bound)
    by_source = _run(connection, _BY_SOURCE, **bound)
    hits = sum(row["hits"] for row in by_source)
    for row in by_source:
        row["share"] = row["hits"] / hits
        row["rate"] = row["hits"] / row["rows"]
    return {
        "matches": {
            "rows": hits,
            "in_prompt": sum(row["in_prompt"] for row in by_source),
            "in_response": sum(row["in_response"] for row in by_source),
            "by_source": by_source,
        },
        "examples": _run(connection, _EXAMPLES, **bound),
        "attributes": _run(connection, _ATTRIBUTES, **bound),
    }


def _conditional(
    connection: duckdb.DuckDBPyConnection, index: Index, given: str, then: str, how: str
) -> dict[str, Any]:
    """Count P(then | given) over all rows, and by source."""
    bound = {"given": given, "then": then, "how": how, "examples": str(index.path / "examples.parquet")}
    _run(connection, _CONDITION, **bound)
    (counts,) = _run(connection, _CONDITION_COUNTS)
    measured = rate(counts["both"], counts["given"])
    base = rate(counts["behaviour"], counts["rows"])
    lift = measured.value / base.value if measured.value is not None and base.value else None
    return {
        "given": counts["given"],
        "both": counts["both"],
        "rate": measured.value,
        "rate_interval": to_jsonable(measured.interval),
        "behaviour": counts["behaviour"],
        "base_rate": base.value,
        "base_rate_interval": to_jsonable(base.interval),
        "lift": lift,
        "by_source": _run(connection, _CONDITION_BY_SOURCE),
    }


def _together(
    connection: duckdb.DuckDBPyConnection, index: Index, pattern: str, beside: str, how: str
) -> dict[str, Any]:
    """Count the rows that hold both of two patterns, over all rows and within sources."""
    bound = {
        "pattern": pattern,
        "beside": beside,
        "how": how,
        "examples": str(index.path / "examples.parquet"),
    }
    _run(connection, _BESIDE, **bound)
    by_source = _run(connection, _BESIDE_BY_SOURCE)
    both, one, other, rows = (
        np.array([row[key] for row in by_source], np.float64) for key in ("both", "one", "other", "rows")
    )
    x, n, held, total = (int(counts.sum()) for counts in (both, one, other, rows))
    measured, base = rate(x, n), rate(held, total)
    lift = measured.value / base.value if measured.value is not None and base.value else None
    return {
        "both": x, "one": n, "other": held, "rate": measured.value,
        "rate_interval": to_jsonable(measured.interval), "base_rate": base.value, "lift": lift,
        "p": float(hypergeometric(x, n, held, total)) if n else None,
        "within_source_or": _finite(mantel_haenszel(both, one, other, rows)),
        "by_source": [row for row in by_source if row["one"] or row["other"]],
    }  # fmt: skip


def _finite(value: NDArray[np.float64]) -> float | None:
    return float(value) if np.isfinite(value) else None


def overrepresented(index: Index, source: str, limit: int = 20) -> dict[str, Any]:
    """Rank what stands in one source's rows more than in the others', by a lower bound of the difference.

    Counts rows with each attribute of the index (its mined 1-4-grams are kind ``phrase``); nothing is read
    but the incidence.

    Returns:
        ``query`` and ``response``: ``text, kind, rows`` (in the source), ``of`` (its rows), ``rate``,
        ``elsewhere`` (rate in the others), ``lift``, ``z`` (log-odds with a Dirichlet prior), ``q``.

    Raises:
        UsageError: no such source, or it is the only one.
    """
    if source not in index.source_names or len(index.source_names) < 2:
        known = ", ".join(sorted(index.source_names)[:12])
        raise UsageError(f"--over {source}: not one of two or more sources; known: {known}")
    mine = index.source_codes == index.source_names.index(source)
    return {side: _over(index, side, mine, limit) for side in SIDES}


def _over(index: Index, side: Side, mine: NDArray[np.bool_], limit: int) -> list[dict[str, Any]]:
    matrix = index.matrix(side).astype(np.int32)
    inside = np.asarray(matrix.T @ mine.astype(np.int32)).ravel()
    everywhere = np.asarray(matrix.sum(0)).ravel()
    n, total = int(mine.sum()), len(mine)
    outside = everywhere - inside
    z = log_odds_dirichlet(inside, outside, everywhere / total + 0.01, (n, total - n), 1.02)
    q = benjamini_hochberg(hypergeometric(inside, n, everywhere, total))
    low, _ = wilson_bounds(inside, n)
    _, high = wilson_bounds(outside, total - n)
    best = np.argsort(-(low - high), kind="stable")[:limit]
    texts, kinds = index.texts(side), index.kinds(side)
    return [
        {
            "text": texts[i], "kind": kinds[i], "rows": int(inside[i]), "of": n, "rate": inside[i] / n,
            "elsewhere": outside[i] / (total - n),
            "lift": (inside[i] / n) / (everywhere[i] / total), "z": float(z[i]), "q": float(q[i]),
        }
        for i in best
        if low[i] > high[i]
    ]  # fmt: skip
