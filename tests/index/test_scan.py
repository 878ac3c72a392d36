from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from undertow.index import dots, scan
from undertow.index.scan import Scanner
from undertow.store.tables import read_shard, write_shard


def unit(rng: np.random.Generator, n: int, d: int = 32) -> np.ndarray:
    rows = rng.standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(rows: np.ndarray, asked: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Float64 cosines; among equals the lower row first."""
    cosines = (rows.astype(np.float64)[None] * asked.astype(np.float64)[:, None]).sum(axis=2)
    ids = np.stack([np.lexsort((np.arange(len(rows)), -each))[:k] for each in cosines])
    return np.take_along_axis(cosines, ids, 1), ids


@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("block", [64, 1000])
@pytest.mark.parametrize("queries", [1, 2, 4, 6])
def test_the_top_k_is_that_of_float64_over_shards_blocks_and_threads(
    queries: int, block: int, device: str, monkeypatch
) -> None:
    monkeypatch.setattr(scan, "BLOCK_ROWS", block)
    monkeypatch.setattr(scan, "CUDA_ROWS", block)
    rng = np.random.default_rng(0)
    rows, asked = unit(rng, 700).astype(np.float16), unit(rng, queries)
    scanner = Scanner([rows[:300], rows[300:300], rows[300:]], threads=2, device=device)
    if device == "torch":  # the GPU's path, on torch's CPU
        scanner._device = "cpu:0"
    cosines, ids = scanner.top_k(asked, 50)
    want, rows_wanted = brute_force(rows, asked, 50)
    assert (ids == rows_wanted).all()
    assert (cosines == want.astype(np.float32)).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_tie_wider_than_the_spare_room_is_cut_by_row_id(threads: int, monkeypatch) -> None:
    monkeypatch.setattr(scan, "BLOCK_ROWS", 64)
    monkeypatch.setattr(scan, "SPARE", 2)
    rng = np.random.default_rng(4)
    rows, asked = unit(rng, 900).astype(np.float16), unit(rng, 2)
    rows[100:700] = asked[0].astype(np.float16)
    _, ids = Scanner([rows[:450], rows[450:]], threads=threads).top_k(asked, 40)
    assert ids[0].tolist() == list(range(100, 140))
    assert (ids == brute_force(rows, asked, 40)[1]).all()


def test_mapped_shards_are_read_where_they_lie(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows, asked = unit(rng, 500), unit(rng, 3)
    for part in range(2):
        write_shard(rows[part * 250 : (part + 1) * 250], tmp_path / f"{part}.npy")
    shards = [read_shard(tmp_path / f"{part}.npy") for part in range(2)]
    scanner = Scanner(shards)
    assert all(np.shares_memory(mine, given) for mine, given in zip(scanner._shards, shards, strict=True))
    assert (scanner.top_k(asked, 20)[1] == brute_force(np.concatenate(shards), asked, 20)[1]).all()


def test_k_larger_than_the_shards_gives_all_rows_once() -> None:
    rng = np.random.default_rng(1)
    cosines, ids = Scanner([unit(rng, 7).astype(np.float16)]).top_k(unit(rng, 1), 100)
    assert cosines.shape == (1, 7)
    assert sorted(ids[0].tolist()) == list(range(7))


def test_an_empty_index_finds_nothing() -> None:
    asked = unit(np.random.default_rng(2), 2)
    cosines, ids = Scanner([]).top_k(asked, 5)
    assert cosines.shape == ids.shape == (2, 0)
    assert not len(Scanner([]).above(asked[0], 0.0)[0])


def test_all_rows_above_a_threshold_are_found_over_shards_and_blocks(monkeypatch) -> None:
    monkeypatch.setattr(scan, "BLOCK_ROWS", 64)
    rng = np.random.default_rng(3)
    rows, asked = unit(rng, 700).astype(np.float16), unit(rng, 1)[0]
    want, order = brute_force(rows, asked[None], 700)
    kept = want[0] >= 0.2
    ids, cosines = Scanner([rows[:300], rows[300:300], rows[300:]]).above(asked, 0.2)
    assert (ids == order[0][kept]).all()
    assert (cosines == want[0][kept].astype(np.float32)).all()
    assert len(Scanner([rows]).above(asked, 1.1)[0]) == 0


def test_a_kernel_that_cannot_be_kept_is_compiled_all_the_same() -> None:
    space: dict = {}
    exec("def twice(codes, queries, out):\n    out[0, 0] = 2 * queries[0, 0]", space)  # of no file: no cache
    out = np.zeros((1, 1), np.float32)
    dots._compiled(space["twice"])(np.zeros((1, 1), np.uint16), np.ones((1, 1), np.float32), out)
    assert out[0, 0] == 2
