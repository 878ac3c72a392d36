"""Where a phrase stands in the training data, and what goes with it (paper A.2, A.4, Fig. 6).

DuckDB over the index's Parquet. Patterns are bound parameters, never part of the SQL; its regular expressions
are RE2, which has no catastrophic backtracking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from undertow.errors import UsageError
from undertow.index.open import Index
from undertow.stats.intervals import rate
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
) -> dict[str, Any]:
    """Look a regular expression up in prompts, responses and attributes; or one thing given another.

    Args:
        index: the opened index.
        pattern: sought in prompts and responses; ``None`` where only ``given``/``then`` are asked.
        given: sought in the prompt.
        then: sought in the response; with ``given`` the answer has P(then | given) beside the base rate.
        limit: examples and attributes shown.
        case_sensitive: whether capitals matter.

    Returns:
        ``counts`` (tried: rows read), ``rows``, ``matches`` with ``by_source`` (hits, the source's rows,
        share of hits, rate within the source), ``examples``, ``attributes``; with ``given`` and ``then`` also
        ``conditional``: given, both, rate with Wilson interval, base rate, lift, by source.

    Raises:
        UsageError: a pattern is no RE2 expression, or ``given`` comes without ``then``.
    """
    if (given is None) != (then is None):
        raise UsageError("--given and --then go together: P(then | given)")
    if pattern is None and given is None:
        raise UsageError("nothing to look up: give a regular expression, or --given and --then")
    how = "" if case_sensitive else "i"
    answer: dict[str, Any] = {
        "status": "complete", "rows": index.n, "pattern": pattern, "given": given, "then": then,
        "counts": {"tried": index.n, "scored": index.n, "failed": 0}, "failures": {},
    }  # fmt: skip
    import duckdb

    with duckdb.connect() as connection:
        for each in filter(None, (pattern, given, then)):
            _check_pattern(connection, each)
        if pattern is not None:
            answer |= _stands(connection, index, pattern, how, limit)
        if given is not None and then is not None:
            answer["conditional"] = _conditional(connection, index, given, then, how)
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
