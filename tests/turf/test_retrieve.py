from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from undertow.index.incidence import Incidence
from undertow.turf.counts import FeatureRows
from undertow.turf.retrieve import DEPTH, bend, hits, retrieve


@pytest.fixture
def incidence() -> Incidence:
    """Attribute 0 holds for rows 0–29, 1 for rows 30–129, 2 for rows 100–149."""
    held = np.zeros((200, 3), bool)
    held[:30, 0], held[30:130, 1], held[100:150, 2] = True, True, True
    return Incidence.from_matrix(sp.csr_array(held))


IDS = np.array([0, 1, 2])
COSINES = np.array([1.0, 0.8, 0.5], np.float32)


def test_the_tie_at_the_kth_similarity_is_drawn_not_cut_in_row_order(incidence: Incidence) -> None:
    found = retrieve(incidence, IDS, COSINES, 80, np.random.default_rng(0))
    assert (found.found, found.tie, found.drawn) == (80, 100, 50)
    assert found.pairs_N[:30].sum() == 30
    drawn = np.flatnonzero(found.pairs_N[30:130])
    assert len(drawn) == 50
    assert drawn.max() > 75  # the first fifty rows of the tie would end at 49


def test_every_pair_of_a_tie_is_drawn_equally_often(incidence: Incidence) -> None:
    rng = np.random.default_rng(1)
    drawn = sum(retrieve(incidence, IDS, COSINES, 80, rng).pairs_N[30:130] for _ in range(400))
    assert abs(drawn / 400 - 0.5).max() < 0.12


def test_the_same_seed_draws_the_same_pairs(incidence: Incidence) -> None:
    one, two = (retrieve(incidence, IDS, COSINES, 80, np.random.default_rng(5)) for _ in range(2))
    assert (one.pairs_N == two.pairs_N).all()


def test_equal_cosines_of_different_strings_are_one_tie(incidence: Incidence) -> None:
    found = retrieve(incidence, IDS, np.array([1.0, 1.0, 0.5], np.float32), 60, np.random.default_rng(0))
    assert (found.tie, found.drawn) == (130, 60)


def test_fewer_pairs_than_k_are_all_found(incidence: Incidence) -> None:
    found = retrieve(incidence, IDS, COSINES, 1000, np.random.default_rng(0))
    assert found.found == 180
    assert found.pairs_N[100:130].tolist() == [2] * 30  # two attributes of one row are two pairs


def test_hits_count_pairs_by_feature_of_their_example(incidence: Incidence) -> None:
    found = retrieve(incidence, IDS, COSINES, 1000, np.random.default_rng(0))
    features = np.zeros((200, 2), bool)
    features[:10, 0], features[:, 1] = True, True
    held = Incidence.from_matrix(sp.csr_array(features))
    counted = hits(FeatureRows.gather(held, np.array([0, 1]), np.zeros(200, np.int64), 1), found)
    assert counted.tolist() == [10, 180]


def test_the_bend_parts_near_from_far() -> None:
    cosines = np.concatenate([np.linspace(0.97, 0.93, 50), np.linspace(0.6, 0.4, 450)])
    assert bend(cosines, np.ones(500, np.int64), 1000, 500) == pytest.approx(0.93)
    assert bend(np.array([0.9]), np.array([5]), 5, 5) == 0.9


@pytest.mark.parametrize("spread", [0.02, 0.05])
@pytest.mark.parametrize("wordings", [1, 20, 200, 3500, 19_000])
def test_rare_and_frequent_wordings_are_told_from_200_000_others(wordings: int, spread: float) -> None:
    rng = np.random.default_rng(wordings)
    right = np.clip(rng.normal(0.88, spread, wordings), 0, 1)
    wrong = np.clip(rng.normal(0.3, 0.1, 200_000), -1, 0.99)
    cosines = np.sort(np.concatenate([right, wrong]))[::-1]
    near = cosines[cosines >= cosines[0] - DEPTH]
    threshold = bend(near, np.ones(len(near), np.int64), len(cosines), len(cosines) // 10)
    taken = (right >= threshold).sum()
    assert taken >= 0.9 * wordings
    assert taken >= 0.9 * (taken + (wrong >= threshold).sum()) - 1
