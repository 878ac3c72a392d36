"""The toy of this folder, made once."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from toy import save_toy_model, toy_rows


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return save_toy_model(tmp_path_factory.mktemp("toy") / "start")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "mixture.parquet"
    pq.write_table(pa.Table.from_pylist(toy_rows()), path)
    return path
