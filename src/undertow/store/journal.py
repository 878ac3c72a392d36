"""The journal: every paid-for answer, committed before it is used.

SQLite in WAL mode. After ``put_many`` has returned, a killed process loses none of the rows; a power cut may
lose the last commits but never the database (``synchronous=NORMAL``). Several threads and processes may
write the same journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from undertow.errors import UsageError

Entry = tuple[str, str, bytes | str]
"""(key, role, payload): the call's hash, who made it (target, judge, generator), JSON."""

_MIGRATIONS: tuple[tuple[str, str], ...] = (
    (
        "0001_calls",
        "CREATE TABLE calls"
        " (key TEXT PRIMARY KEY, role TEXT NOT NULL, payload BLOB NOT NULL, at REAL NOT NULL)",
    ),
    ("0002_calls_by_role", "CREATE INDEX calls_role ON calls (role)"),
    ("0003_secret", "CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 0), value BLOB NOT NULL)"),
    (
        "0004_batches",
        "CREATE TABLE batches (tag TEXT PRIMARY KEY, id TEXT, calls INTEGER NOT NULL,"
        " done INTEGER NOT NULL DEFAULT 0, at REAL NOT NULL)",
    ),
)
"""Append-only: a shipped migration is never edited."""


_USAGE = """
WITH replies AS (SELECT CAST(payload AS TEXT) AS reply FROM calls)
SELECT count(*), CAST(total(reply ->> 'input_tokens') AS INTEGER),
    CAST(total(reply ->> 'output_tokens') AS INTEGER), total(reply ->> 'cost_usd'),
    count(*) - count(reply ->> 'cost_usd')
FROM replies"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the answered calls of a journal took."""

    calls: int
    """Answered calls."""
    input_tokens: int
    """Tokens read."""
    output_tokens: int
    """Tokens written."""
    cost_usd: float
    """Sum of the known prices."""
    unpriced: int
    """Calls whose price is not known, and not in the sum."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that were handed to a provider together."""

    tag: str
    """Ours: a hash of the calls."""
    id: str | None
    """The provider's; ``None`` where the handing over was not seen to end."""
    calls: int
    """How many."""
    at: float
    """When it began, seconds since 1970."""


class Journal:
    """An append-only map from call key to JSON payload. The first answer to a key stands for ever."""

    def __init__(self, path: Path) -> None:
        """Open or create the journal at ``path``.

        Raises:
            UsageError: the file is no journal of ours, or a newer undertow wrote it.
        """
        self.path = path
        self._lock = threading.Lock()
        self._arrived: dict[asyncio.AbstractEventLoop, list[tuple[Entry, asyncio.Future[None]]]] = {}
        """By event loop, what is committed at its next turn."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._migrate()
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"{path}: not a readable undertow journal ({error}); choose another --out"
            ) from error

    def _migrate(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, at REAL NOT NULL)"
            )
            done = {name for (name,) in self._db.execute("SELECT name FROM migrations")}
            unknown = done - {name for name, _ in _MIGRATIONS}
            if unknown:
                raise UsageError(
                    f"{self.path}: written by a newer undertow ({min(unknown)}); upgrade undertow"
                )
            for name, statement in _MIGRATIONS:
                if name not in done:
                    self._db.execute(statement)
                    self._db.execute("INSERT INTO migrations VALUES (?, ?)", (name, time.time()))
        except BaseException:
            self._db.execute("ROLLBACK")
            self._db.close()
            raise
        self._db.execute("COMMIT")

    def get(self, key: str) -> bytes | None:
        """Return the payload of ``key``, or ``None`` when the call was never answered."""
        with self._lock:
            row = self._db.execute("SELECT payload FROM calls WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the payloads of those ``keys`` that are there."""
        with self._lock:
            rows = self._db.execute(
                "SELECT key, payload FROM calls WHERE key IN (SELECT value FROM json_each(?))",
                (json.dumps(list(keys)),),
            ).fetchall()
        return dict(rows)

    def put_many(self, entries: Iterable[Entry]) -> None:
        """Commit all ``entries`` in one transaction; a key that is already there keeps its first payload."""
        now = time.time()
        rows = [
            (key, role, payload.encode() if isinstance(payload, str) else payload, now)
            for key, role, payload in entries
        ]
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(
                    "INSERT INTO calls VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING", rows
                )
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise UsageError(
                        f"{self.path}: cannot be written ({error}); make room and run the same command again"
                    ) from error
                raise

    async def put(self, entry: Entry) -> None:
        """Commit ``entry`` before this returns, in one transaction with what else arrives in the same moment.

        Raises:
            UsageError: the journal cannot be written.
        """
        loop = asyncio.get_running_loop()
        committed: asyncio.Future[None] = loop.create_future()
        arrived = self._arrived.setdefault(loop, [])
        arrived.append((entry, committed))
        if len(arrived) == 1:
            loop.call_soon(self._commit, loop)
        await committed

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        arrived = self._arrived.pop(loop)
        waiting = [future for _, future in arrived if not future.done()]
        try:
            self.put_many(entry for entry, _ in arrived)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            for future in waiting:
                future.set_exception(error)
        else:
            for future in waiting:
                future.set_result(None)

    def secret(self) -> bytes:
        """Return the journal's 16 random bytes: drawn once, the same in every later process."""
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO secret VALUES (0, ?)", (secrets.token_bytes(16),))
            [(value,)] = self._db.execute("SELECT value FROM secret").fetchall()
        return bytes(value)

    def begin_batch(self, tag: str, calls: int) -> None:
        """Note that a batch is about to be handed over."""
        self._execute("INSERT OR REPLACE INTO batches VALUES (?, NULL, ?, 0, ?)", (tag, calls, time.time()))

    def name_batch(self, tag: str, id: str) -> None:
        """Note the provider's id of a batch."""
        self._execute("UPDATE batches SET id = ? WHERE tag = ?", (id, tag))

    def end_batch(self, tag: str) -> None:
        """Note that nothing more is expected of a batch."""
        self._execute("UPDATE batches SET done = 1 WHERE tag = ?", (tag,))

    def open_batches(self) -> list[Batch]:
        """Return the batches that were begun and not ended, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT tag, id, calls, at FROM batches WHERE NOT done ORDER BY at, tag")
            return [Batch(*row) for row in rows]

    def _execute(self, statement: str, values: tuple[object, ...]) -> None:
        with self._lock:
            try:
                self._db.execute(statement, values)
            except sqlite3.OperationalError as error:
                raise UsageError(
                    f"{self.path}: cannot be written ({error}); make room and run the same command again"
                ) from error

    def counts(self) -> dict[str, int]:
        """Count the answered calls of each role."""
        with self._lock:
            return dict(self._db.execute("SELECT role, count(*) FROM calls GROUP BY role ORDER BY role"))

    def usage(self) -> Usage:
        """Add up what the journal's answers took; a rerun adds nothing."""
        with self._lock:
            row = self._db.execute(_USAGE).fetchone()
        return Usage(*row)

    def close(self) -> None:
        """Close the database; safe to call twice."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
