import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from undertow.errors import UsageError
from undertow.store.journal import Journal

WRITER = """
import sys
from pathlib import Path
from undertow.store.journal import Journal
journal = Journal(Path(sys.argv[1]))
name = sys.argv[2]
for batch in range(int(sys.argv[3])):
    keys = [f"{name}/{batch}/{i}" for i in range(7)]
    journal.put_many([(key, name, '{"key": "%s"}' % key) for key in keys])
    print(batch, flush=True)
"""


def test_the_first_answer_to_a_key_stands(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put_many([("a", "target", '{"n": 1}'), ("b", "judge", b'{"n": 2}')])
        journal.put_many([("a", "target", '{"n": 9}')])
        assert journal.get("a") == b'{"n": 1}'
        assert journal.get_many(["b", "a", "missing"]) == {"a": b'{"n": 1}', "b": b'{"n": 2}'}
        assert journal.get("missing") is None
        assert journal.counts() == {"judge": 1, "target": 1}
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.get("b") == b'{"n": 2}'


def test_a_failed_batch_leaves_nothing(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(sqlite3.IntegrityError):
            journal.put_many([("a", "target", "{}"), ("b", None, "{}")])
        assert journal.counts() == {}
        journal.put_many([("a", "target", "{}")])
        assert journal.counts() == {"target": 1}


def test_thousands_of_keys_in_one_look(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        keys = [f"k{i}" for i in range(40_000)]
        journal.put_many([(key, "target", key) for key in keys])
        found = journal.get_many(keys)
        assert len(found) == 40_000
        assert found["k39999"] == b"k39999"


@pytest.mark.parametrize("run", range(3))
def test_kill_in_the_middle_of_writes_loses_no_committed_batch(tmp_path, run):
    path = tmp_path / "j.sqlite"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), "w", "100000"], stdout=subprocess.PIPE, text=True
    )
    for _ in range(20 + 30 * run):
        child.stdout.readline()
    time.sleep(0.002 * run)
    os.kill(child.pid, signal.SIGKILL)
    reported = [int(line) for line in child.stdout.read().split()]
    child.wait()
    child.stdout.close()
    with Journal(path) as journal:
        committed = max(reported, default=19 + 30 * run)
        keys = [f"w/{batch}/{i}" for batch in range(committed + 1) for i in range(7)]
        assert len(journal.get_many(keys)) == len(keys)
        assert journal.counts()["w"] % 7 == 0
        journal.put_many([("after", "w", "{}")])
        assert journal.get("after") == b"{}"


def test_threads_and_processes_write_side_by_side(tmp_path):
    path = tmp_path / "j.sqlite"
    children = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, "40"], stdout=subprocess.DEVNULL)
        for name in ("p1", "p2")
    ]
    with Journal(path) as journal:

        def write(name):
            for batch in range(40):
                journal.put_many([(f"{name}/{batch}/{i}", name, "{}") for i in range(7)])

        threads = [threading.Thread(target=write, args=(name,)) for name in ("t1", "t2", "t3")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [child.wait() for child in children] == [0, 0]
        assert journal.counts() == dict.fromkeys(("p1", "p2", "t1", "t2", "t3"), 280)


def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path):
    path = tmp_path / "j.sqlite"
    path.write_bytes(b"my holiday photographs" * 100)
    with pytest.raises(UsageError, match="not a readable undertow journal"):
        Journal(path)
    assert path.read_bytes().startswith(b"my holiday")


def test_a_journal_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "j.sqlite"
    Journal(path).close()
    db = sqlite3.connect(path)
    db.execute("INSERT INTO migrations VALUES ('9999_future', 0)")
    db.commit()
    db.close()
    with pytest.raises(UsageError, match="newer undertow"):
        Journal(path)


async def test_what_arrives_together_is_one_transaction_and_durable_before_anybody_goes_on(tmp_path):
    path, sizes = tmp_path / "j.sqlite", []
    with Journal(path) as journal, contextlib.closing(sqlite3.connect(path)) as other:
        commit = journal.put_many

        def counted(entries):
            rows = list(entries)
            sizes.append(len(rows))
            commit(rows)

        journal.put_many = counted

        async def answered(number):
            await journal.put((f"k{number}", "target", "{}"))
            rows = other.execute("SELECT count(*) FROM calls WHERE key = ?", (f"k{number}",))
            return rows.fetchone()[0]

        assert await asyncio.gather(*map(answered, range(50))) == [1] * 50
        await answered(50)
        assert sizes == [50, 1]
        given_up = asyncio.create_task(journal.put(("late", "target", "{}")))
        await asyncio.sleep(0)
        given_up.cancel()
        await answered(51)
        assert journal.get("late") == b"{}"


async def test_an_answer_that_cannot_be_kept_is_an_error_to_each_that_waits(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        entries = [("a", "target", "{}"), ("b", None, "{}")]
        done = await asyncio.gather(*map(journal.put, entries), return_exceptions=True)
        assert [type(error) for error in done] == [sqlite3.IntegrityError] * 2
        assert journal.counts() == {}
        await journal.put(("a", "target", "{}"))
        assert journal.counts() == {"target": 1}
