from __future__ import annotations

import numpy as np
import pytest

from undertow.index import scan
from undertow.index.scan import Scanner


def unit(rng: np.random.Generator, n: int, d: int = 32) -> np.ndarray:
    rows = rng.standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [64, 1000])
@pytest.mark.parametrize("queries", [1, 3])
def test_the_top_k_is_exact_over_shards_and_blocks(block: int, queries: int, monkeypatch) -> None:
    monkeypatch.setattr(scan, "BLOCK_ROWS", block)
    rng = np.random.default_rng(0)
    rows, asked = unit(rng, 700).astype(np.float16), unit(rng, queries)
    cosines, ids = Scanner([rows[:300], rows[300:300], rows[300:]], threads=2).top_k(asked, 50)
    want = asked @ rows.astype(np.float32).T
    assert np.allclose(cosines, np.sort(want, axis=1)[:, ::-1][:, :50], atol=1e-5)
    assert np.allclose(np.take_along_axis(want, ids, 1), cosines, atol=1e-5)
    assert all(len(set(row)) == 50 for row in ids.tolist())


def test_k_larger_than_the_shards_gives_all_rows_once() -> None:
    rng = np.random.default_rng(1)
    cosines, ids = Scanner([unit(rng, 7).astype(np.float16)]).top_k(unit(rng, 1), 100)
    assert cosines.shape == (1, 7)
    assert sorted(ids[0].tolist()) == list(range(7))


def test_an_empty_index_finds_nothing() -> None:
    cosines, ids = Scanner([]).top_k(unit(np.random.default_rng(2), 2), 5)
    assert cosines.shape == ids.shape == (2, 0)


def test_all_rows_above_a_threshold_are_found_over_shards_and_blocks(monkeypatch) -> None:
    monkeypatch.setattr(scan, "ABOVE_ROWS", 64)
    rng = np.random.default_rng(3)
    rows, asked = unit(rng, 700).astype(np.float16), unit(rng, 1)[0]
    want = rows.astype(np.float32) @ asked
    ids, cosines = Scanner([rows[:300], rows[300:300], rows[300:]]).above(asked, 0.2)
    assert sorted(ids.tolist()) == np.flatnonzero(want >= 0.2).tolist()
    assert np.allclose(cosines, np.sort(want[want >= 0.2])[::-1], atol=1e-5)
    assert len(Scanner([rows]).above(asked, 1.1)[0]) == 0
