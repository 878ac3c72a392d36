"""What load_preferences reads, what it leaves out, and how it says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.data import load_preferences
from undertow.errors import UsageError


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


EARLIER = [user("One?"), said("1")]
SHAPES: dict[str, dict[str, Any]] = {
    "strings": {"prompt": "Two?", "chosen": "2", "rejected": "3"},
    "messages, explicit prompt": {
        "prompt": [*EARLIER, user("Two?")],
        "chosen": [said("2")],
        "rejected": [said("3")],
    },
    "messages, implicit prompt": {
        "chosen": [*EARLIER, user("Two?"), said("2")],
        "rejected": [*EARLIER, user("Two?"), said("3")],
    },
    "messages beside their prompt": {
        "prompt": "Two?",
        "chosen": [user("Two?"), said("2")],
        "rejected": [user("Two?"), said("3")],
        "score_chosen": 8.0,
        "score_rejected": 6.5,
    },
    "dialogue": {
        "chosen": "\n\nHuman: One?\n\nAssistant: 1\n\nHuman: Two?\n\nAssistant: 2",
        "rejected": "\n\nHuman: One?\n\nAssistant: 1\n\nHuman: Two?\n\nAssistant: 3",
    },
    "dialogue as prompt": {
        "prompt": "\n\nHuman: One?\n\nAssistant: 1\n\nHuman: Two?\n\nAssistant:",
        "chosen": "2",
        "rejected": "3",
    },
    "shared beginning": {"chosen": "Two? 2", "rejected": "Two? 3"},
    "rated completions": {
        "instruction": "Two?",
        "completions": [
            {"model": "b", "response": "3", "overall_score": 1.0},
            {"model": "c", "response": "4", "overall_score": 2.0},
            {"model": "a", "response": "2", "overall_score": 9.5},
        ],
    },
}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_pair(tmp_path: Path, shape: str, ending: str) -> None:
    path = tmp_path / f"d.{ending}"
    if ending == "jsonl":
        jsonl(path, [SHAPES[shape]])
    else:
        pq.write_table(pa.Table.from_pylist([SHAPES[shape]]), path)
    data = load_preferences(path)
    (row,) = data.table.to_pylist()
    assert (row["prompt"], row["chosen"], row["rejected"]) == ("Two?", "2", "3")
    assert data.dropped == {}
    earlier = json.loads(row["history"] or "[]")
    several = shape in {
        "messages, explicit prompt",
        "messages, implicit prompt",
        "dialogue",
        "dialogue as prompt",
    }
    assert earlier == (EARLIER if several else [])
    margins = {"messages beside their prompt": 1.5, "rated completions": 8.5}
    assert row["margin"] == margins.get(shape)
    assert (row["chosen_writer"], row["rejected_writer"]) == (
        ("a", "b") if "rated" in shape else (None, None)
    )


BAD = [
    {"prompt": "p", "chosen": "good", "rejected": "bad"},
    {"prompt": "p", "chosen": "same", "rejected": " same"},
    {"prompt": "p", "chosen": "x", "rejected": "  "},
    {"prompt": "p", "chosen": "x", "rejected": None},
    {"prompt": "", "chosen": "x", "rejected": "y"},
    {"prompt": "p", "chosen": "x", "rejected": ["y", "z"]},
    {"prompt": "p", "chosen": "x", "rejected": 7},
    {"prompt": "p", "chosen": "good", "rejected": "bad"},
    {"prompt": "p", "chosen": "bad", "rejected": "good"},
    {"prompt": "q", "chosen": "good", "rejected": "bad"},
]


def test_what_holds_no_pair_is_named_and_counted(tmp_path: Path) -> None:
    data = load_preferences(jsonl(tmp_path / "d.jsonl", BAD))
    assert data.table["id"].to_pylist() == ["0", "8", "9"]
    assert data.prompt_group.tolist() == [0, 0, 1]
    assert data.rows == len(BAD)
    assert data.dropped == {
        "a response is neither text nor messages": 1,
        "more than two responses": 1,
        "no prompt": 1,
        "a response is empty": 2,
        "both responses are equal": 1,
        "the same pair again": 1,
    }
    assert sum(data.dropped.values()) + len(data) == data.rows
    assert data.noted == {"the same two responses stand the other way round in another pair": 2}
    assert data.first["the same pair again"] == "line 8"
    assert data.first["a response is empty"] == "line 3"


def test_the_same_holds_for_parquet(tmp_path: Path) -> None:
    rows = [row for row in BAD if not isinstance(row["rejected"], list | int)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    data = load_preferences(tmp_path / "d.parquet")
    assert len(data) == 3
    assert data.first["the same pair again"] == "row 5 (the first is 0)"


def test_one_prompt_four_hundred_times_is_one_group(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "chosen": f"{i} good", "rejected": f"{i} bad"} for i in range(400)]
    history = {"prompt": [*EARLIER, user("p")], "chosen": [said("x")], "rejected": [said("y")]}
    data = load_preferences(jsonl(tmp_path / "d.jsonl", [*rows, history]))
    assert len(data) == 401
    assert data.groups == 2  # the same last turn after other turns is another prompt


def test_writers_and_strata_are_kept_where_asked(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"p{i}",
            "chosen": "a",
            "rejected": "b",
            "chosen_model": "m",
            "rejected_model": "n",
            "kind": i,
            "who": "x",
            "whom": "y",
        }
        for i in range(3)
    ]
    for path in (jsonl(tmp_path / "d.jsonl", rows), tmp_path / "d.parquet"):
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        data = load_preferences(path, strata=["kind"])
        assert data.has_writers
        assert data.table["chosen_writer"].to_pylist() == ["m"] * 3
        assert data.strata.to_pydict() == {"kind": ["0", "1", "2"]}
        other = load_preferences(path, identity=("who", "whom"))
        assert other.table["rejected_writer"].to_pylist() == ["y"] * 3
        with pytest.raises(UsageError, match="nowhere"):
            load_preferences(path, strata=["nowhere"])
        part = data.take(pa.array([2, 1]).to_numpy())
        assert part.prompt_group.tolist() == [1, 0]


def test_a_folder_saved_by_datasets_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [SHAPES["messages, implicit prompt"], {**SHAPES["messages, implicit prompt"]}]
    datasets.DatasetDict(train=datasets.Dataset.from_list(rows)).save_to_disk(tmp_path / "d")
    data = load_preferences(tmp_path / "d")
    assert data.table["prompt"].to_pylist() == ["Two?"]
    assert data.dropped == {"the same pair again": 1}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"question": "q", "answer": "a"}], "needs columns chosen and rejected"),
        ([{"prompt": "p", "chosen": "a", "rejected": "a"}], "no usable pair (both responses are equal: 1)"),
        ([{"id": "i", "prompt": p, "chosen": "a", "rejected": "b"} for p in "pq"], "id 'i' stands in more"),
        ([[1]], "line 1 is a list"),
    ],
)
def test_data_without_pairs_is_refused_in_one_line(tmp_path: Path, rows: list[Any], says: str) -> None:
    paths = [jsonl(tmp_path / "d.jsonl", rows)]
    if isinstance(rows[0], dict):
        paths.append(tmp_path / "d.parquet")
        pq.write_table(pa.Table.from_pylist(rows), paths[1])
    for path in paths:
        with pytest.raises(UsageError) as caught:
            load_preferences(path)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
