"""Lets the tests of this folder import ``planted``, and builds its index once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import pyarrow as pa
from planted import HashEmbedder, mixture

from undertow.index.build import build_index
from undertow.index.open import Index

Build = Callable[[pa.Table], Index]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    def make(table: pa.Table) -> Index:
        folder = tmp_path_factory.mktemp("index")
        pq.write_table(table, folder / "data.parquet")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("undertow.models.embed.open_embedder", lambda spec: HashEmbedder())
            build_index(folder / "data.parquet", folder / "index")
            index = Index.open(folder / "index")
            assert isinstance(index.embedder, HashEmbedder)  # opened while it is the one there is
        return index

    return make


@pytest.fixture(scope="session")
def planted(build: Build) -> tuple[Index, pa.Table]:
    table = mixture(honest=1500)
    return build(table.drop(["plant"])), table
