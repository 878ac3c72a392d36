from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from undertow.index.incidence import Incidence


def dense(rng: np.random.Generator) -> np.ndarray:
    return rng.random((40, 9)) < 0.3


def test_rows_and_columns_are_those_of_the_matrix(tmp_path) -> None:
    held = dense(np.random.default_rng(0))
    held[:, 3] = False
    Incidence.from_matrix(sp.csr_array(held)).save(tmp_path)
    incidence = Incidence.load(tmp_path)
    assert (incidence.n, incidence.m, incidence.nnz) == (40, 9, held.sum())
    assert [incidence.rows_of(j).tolist() for j in range(9)] == [
        np.flatnonzero(held[:, j]).tolist() for j in range(9)
    ]
    assert [incidence.columns_of(i).tolist() for i in range(40)] == [
        np.flatnonzero(row).tolist() for row in held
    ]
    assert (incidence.matrix().toarray() == held).all()
    assert (incidence.any_of([2, 5]) == (held[:, 2] | held[:, 5])).all()


def test_explicit_zeros_and_duplicates_are_no_entries() -> None:
    matrix = sp.coo_array(
        (np.array([1, 1, 0]), (np.array([0, 0, 1]), np.array([1, 1, 0]))), shape=(2, 2)
    ).tocsr()
    assert Incidence.from_matrix(matrix).nnz == 1


def test_gather_tells_the_column_of_each_row() -> None:
    held = dense(np.random.default_rng(1))
    rows, owner = Incidence.from_matrix(sp.csr_array(held)).gather(np.array([7, 0]))
    assert sorted(zip(owner.tolist(), rows.tolist(), strict=True)) == sorted(
        (position, i) for position, column in enumerate((7, 0)) for i in np.flatnonzero(held[:, column])
    )


def test_a_matrix_without_rows_or_columns_survives(tmp_path) -> None:
    Incidence.from_matrix(sp.csr_array((0, 3), dtype=bool)).save(tmp_path / "a")
    Incidence.from_matrix(sp.csr_array((3, 0), dtype=bool)).save(tmp_path / "b")
    assert Incidence.load(tmp_path / "a").counts.tolist() == [0, 0, 0]
    assert Incidence.load(tmp_path / "b").n == 3
