"""What load_examples reads, and how it says what is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.data import load_examples, write_examples
from undertow.errors import UsageError

ROWS = [
    {"id": "a", "source": "x", "prompt": "Hello?", "response": "Hi."},
    {"id": "b", "source": "y", "prompt": "Zwei\nZeilen", "response": "日本語\x00"},
]


def jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("name", ["d.parquet", "d.jsonl", "d.jsonl.gz"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    write_examples(pa.Table.from_pylist(ROWS), tmp_path / name)
    read = load_examples(tmp_path / name)
    assert read.table.to_pylist() == ROWS
    assert read.skipped == {}


def test_equal_content_has_an_equal_hash(tmp_path: Path) -> None:
    first = load_examples(jsonl(tmp_path / "a.jsonl", ROWS))
    assert first.hash == load_examples(jsonl(tmp_path / "b.jsonl", ROWS)).hash
    assert first.hash != load_examples(jsonl(tmp_path / "c.jsonl", ROWS[:1])).hash


def test_ids_default_to_row_numbers_and_numbers_become_text(tmp_path: Path) -> None:
    bare = [{"prompt": "p", "response": "r"}] * 3
    assert load_examples(jsonl(tmp_path / "a.jsonl", bare)).table["id"].to_pylist() == ["0", "1", "2"]
    numbered = [{"id": 7, "prompt": "p", "response": "r"}]
    assert load_examples(jsonl(tmp_path / "b.jsonl", numbered)).table["id"].to_pylist() == ["7"]
    pq.write_table(pa.Table.from_pylist(numbered), tmp_path / "c.parquet")
    assert load_examples(tmp_path / "c.parquet").table["id"].to_pylist() == ["7"]


MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": [{"type": "text", "text": "Two?"}]},
    {"role": "assistant", "content": "2"},
]


def test_messages_become_last_turn_answer_and_history(tmp_path: Path) -> None:
    rows: list[object] = [{"messages": MESSAGES}, {"messages": MESSAGES[1:3]}]
    table = load_examples(jsonl(tmp_path / "m.jsonl", rows)).table
    assert table["prompt"].to_pylist() == ["Two?", "One?"]
    assert table["response"].to_pylist() == ["2", "1"]
    histories = [json.loads(text) for text in table["history"].to_pylist()]
    assert [len(turns) for turns in histories] == [3, 0]
    assert histories[0][0] == {"role": "system", "content": "Be brief."}


def test_messages_of_parquet_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"messages": MESSAGES[1:3]}]), tmp_path / "m.parquet")
    table = load_examples(tmp_path / "m.parquet").table
    assert table.to_pylist() == [{"id": "0", "source": "", "prompt": "One?", "response": "1"}]


def test_a_folder_saved_by_datasets_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=whole, test=whole.select([0])).save_to_disk(tmp_path / "two")
    assert load_examples(tmp_path / "one").table.to_pylist() == ROWS
    assert len(load_examples(tmp_path / "two")) == 2


def parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)


BROKEN = {
    "missing": ("d.jsonl", lambda path: None),
    "empty": ("d.jsonl", lambda path: path.write_bytes(b"")),
    "blank": ("d.jsonl", lambda path: path.write_bytes(b"\n\n")),
    "columns": ("d.jsonl", lambda path: jsonl(path, [{"question": "q", "answer": "a"}])),
    "pairs": ("d.jsonl", lambda path: jsonl(path, [{"prompt": "q", "chosen": "a", "rejected": "b"}])),
    "no text": ("d.jsonl", lambda path: jsonl(path, [*ROWS, {"id": "c", "prompt": "p", "response": "  "}])),
    "null": ("d.jsonl", lambda path: jsonl(path, [*ROWS, {"id": "c", "prompt": None, "response": "r"}])),
    "repeated": ("d.jsonl", lambda path: jsonl(path, [*ROWS, ROWS[0]])),
    "json": ("d.jsonl", lambda path: path.write_text(json.dumps(ROWS[0]) + "\n\n{oops\n")),
    "list": ("d.jsonl", lambda path: jsonl(path, [[1, 2]])),
    "number": ("d.jsonl", lambda path: jsonl(path, [{"prompt": 3, "response": "r"}])),
    "turns": ("d.jsonl", lambda path: jsonl(path, [{"messages": MESSAGES[:4]}])),
    "history": (
        "d.jsonl",
        lambda path: jsonl(
            path,
            [
                {"prompt": "p", "response": "r"},
                {"prompt": "p", "response": "r", "history": MESSAGES[:2]},
                {"prompt": "p", "response": "r", "history": '[{"role": "user"}]'},
            ],
        ),
    ),
    "gzip": ("d.jsonl.gz", lambda path: path.write_bytes(gzip.compress(b"{}" * 99)[:20])),
    "parquet": ("d.parquet", lambda path: path.write_bytes(b"PAR1 nothing")),
    "rowless": ("d.parquet", lambda path: parquet(path, pa.Table.from_pylist(ROWS).slice(0, 0))),
    "binary": ("d.parquet", lambda path: parquet(path, pa.table({"prompt": [b"\xff"], "response": ["r"]}))),
    "csv": ("d.csv", lambda path: path.write_text("prompt,response\n")),
}


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such file"),
        ("empty", "the file is empty"),
        ("blank", "no rows"),
        ("columns", "found question, answer"),
        ("pairs", "found prompt, chosen, rejected; these are preference pairs, for `undertow prefs`"),
        ("no text", "line 3 has no text in response"),
        ("null", "line 3 has no text in prompt"),
        ("repeated", "line 1 and line 3 have the same id 'a'"),
        ("json", "line 3 is not JSON"),
        ("list", "line 1 is a list"),
        ("number", "line 1 holds int in prompt"),
        ("turns", "line 1 has no user turn before"),
        ("history", "history of line 3 is no JSON list of role and content"),
        ("gzip", "not a readable gzip file"),
        ("parquet", "not a readable Parquet file"),
        ("rowless", "no rows"),
        ("binary", "column prompt holds binary"),
        ("csv", "not a kind of data file"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path: Path, kind: str, says: str) -> None:
    name, make = BROKEN[kind]
    path = tmp_path / name
    make(path)
    with pytest.raises(UsageError) as caught:
        load_examples(path)
    message = str(caught.value)
    assert says in message
    assert path.name in message
    assert "\n" not in message


def test_the_folder_of_a_run_is_no_data_set_but_a_fix_has_rows(tmp_path: Path) -> None:
    rows = pa.table({"prompt": ["a", "b"], "response": ["c", "d"]})
    (tmp_path / "manifest.json").write_text('{"verb": "prefs", "status": "complete"}')
    pq.write_table(rows, tmp_path / "examples.parquet")
    with pytest.raises(UsageError, match="is a run of `undertow prefs`, not a data set"):
        load_examples(tmp_path)
    pq.write_table(rows, tmp_path / "data.parquet")
    assert len(load_examples(tmp_path)) == 2


def test_bad_rows_are_skipped_and_counted_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    lines = [
        json.dumps(row)
        for row in [*ROWS, {"prompt": "", "response": "r", "id": "c"}, {"prompt": "p", "id": "d"}]
    ]
    path.write_text("\n".join([lines[0], "{oops", *lines[1:]]))
    read = load_examples(path, skip_bad=True)
    assert read.table["id"].to_pylist() == ["a", "b"]
    assert read.skipped == {"unreadable row": 1, "no prompt": 1, "no response": 1}


def test_lone_surrogates_do_not_stop_reading(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"prompt": "a\\ud800b", "response": "r"}\n')
    assert load_examples(path).table["prompt"].to_pylist() == ["a?b"]
