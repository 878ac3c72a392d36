"""Columns that change what a row teaches, read beside the rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from undertow.training.signal import Signal, read_signal

ROWS = [{"prompt": f"q{i}", "chosen": "yes", "rejected": "no"} for i in range(3)]


@pytest.mark.parametrize("extra", [{}, {"id": "x"}])
def test_lines_without_such_columns_teach_as_they_are(tmp_path: Path, extra: dict):
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps({**row, **extra}) for row in ROWS))
    assert read_signal(path, pa.chunked_array([["0", "1", "2"]]), ["chosen", "rejected"]) == Signal()


def test_a_weight_of_lines_without_ids_goes_by_number(tmp_path: Path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps({**row, "weight": n}) for n, row in enumerate(ROWS)))
    found = read_signal(path, pa.chunked_array([["2", "1"]]), ["chosen", "rejected"])
    np.testing.assert_array_equal(found.weight, [2, 1])
