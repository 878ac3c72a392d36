import json
import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pyarrow as pa
import pydantic
import pytest

from undertow.errors import UsageError
from undertow.records import Exemplar, Finding, Interval, Rate
from undertow.store.tables import (
    atomic_write_json,
    from_jsonable,
    read_json,
    read_shard,
    read_table,
    replace_atomically,
    to_jsonable,
    write_shard,
    write_table,
)


class Colour(StrEnum):
    RED = "red"


class Model(pydantic.BaseModel):
    path: Path
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inner:
    values: tuple[float, ...]


FINDING = Finding(
    id="f1",
    rubric="code",
    behaviour="answers with code",
    attributes=("The query is long",),
    status="confirmed",
    rate=Rate(3, 4, Interval(0.3, 0.95)),
    control_rate=None,
    base_rate=Rate(0, 0, None),
    failed=0,
    exemplars=(Exemplar("p", "r", Rate(1, 1, Interval(0.2, 1.0))),),
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (math.nan, None),
        (np.float64("inf"), None),
        (Colour.RED, "red"),
        ({Colour.RED: (1, 2)}, {"red": [1, 2]}),
        ({3, 1, 2}, [1, 2, 3]),
        (Path("a/b"), "a/b"),
        (Inner((1.0, math.nan)), {"values": [1.0, None]}),
        (Model(path="x", names=("a",)), {"path": "x", "names": ["a"]}),
    ],
)
def test_values_get_their_json_form(value, expected):
    assert to_jsonable(value) == expected
    json.dumps(to_jsonable(value), allow_nan=False)


def test_what_has_no_json_form_is_refused():
    with pytest.raises(TypeError, match="object has no JSON form"):
        to_jsonable({"a": object()})


def test_records_survive_the_way_through_json():
    assert from_jsonable(Finding, json.loads(json.dumps(to_jsonable(FINDING)))) == FINDING
    with pytest.raises(UsageError, match=r"not a Finding: rate"):
        from_jsonable(Finding, {**to_jsonable(FINDING), "rate": "high"})


def test_a_write_that_fails_leaves_the_old_file_and_no_debris(tmp_path):
    path = tmp_path / "a.json"
    atomic_write_json(path, {"old": 1})

    def half(temporary):
        temporary.write_text("{")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_atomically(path, half)
    assert read_json(path) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_json_holds_any_text(tmp_path):
    text = "日本 \ud800 \x1b"
    atomic_write_json(tmp_path / "a.json", {"text": text})
    assert read_json(tmp_path / "a.json") == {"text": text}
    (tmp_path / "a.json").read_bytes().decode("utf-8")


def test_tables_and_their_faults(tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"id": ["a", "b"], "n": [1, 2]})
    write_table(table, path)
    assert read_table(path).equals(table)
    assert read_table(path, ["n"]).column_names == ["n"]
    with pytest.raises(UsageError, match="no column 'x'"):
        read_table(path, ["n", "x"])
    with pytest.raises(UsageError, match="no such file"):
        read_table(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nonsense")
    with pytest.raises(UsageError, match="not a readable Parquet file"):
        read_table(tmp_path / "bad.parquet")


def test_shards_are_mapped_half_precision(tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    write_shard(rows, tmp_path / "s.npy")
    back = read_shard(tmp_path / "s.npy")
    assert isinstance(back, np.memmap)
    assert back.dtype == np.float16
    np.testing.assert_allclose(back, rows, atol=2e-3)
    with pytest.raises(ValueError, match="finite"):
        write_shard(np.array([[1e6]]), tmp_path / "big.npy")
    assert not (tmp_path / "big.npy").exists()


def test_a_shard_never_unpickles(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="not a readable shard"):
        read_shard(tmp_path / "evil.npy")
    np.save(tmp_path / "double.npy", np.zeros((2, 2)))
    with pytest.raises(UsageError, match="holds float64"):
        read_shard(tmp_path / "double.npy")
