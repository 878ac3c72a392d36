"""The signed autoencoder finds planted directions, is blind to labels, and drops what no words fit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from undertow.preference.concepts import Activations, Concept
from undertow.preference.embedding import embedding_concepts
from undertow.preference.signed_sae import SaeSettings, train_signed_sae
from undertow.preference.vectors import ResponseVectors

N, D = 3000, 24
SETTINGS = SaeSettings(features=8, active=1, prefixes=(4, 8), steps=600, batch=256)


def differences(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (N, D) of three planted directions, in 30 %, 20 % and 10 %, with either sign, and noise."""
    directions = np.linalg.qr(rng.standard_normal((D, 3)))[0].T
    signs = rng.choice([-1, 1], (N, 3)) * (rng.random((N, 3)) < [0.3, 0.2, 0.1])
    return (signs @ directions + 0.05 * rng.standard_normal((N, D))).astype(np.float32), signs, directions


def test_planted_directions_are_recovered_with_their_sign() -> None:
    rows, signs, directions = differences(np.random.default_rng(0))
    settings = SaeSettings(features=6, active=1, prefixes=(3, 6), steps=2000, batch=256)
    trained = train_signed_sae(rows, settings, seed=1)
    overlap = trained.decoder @ directions.T
    best = np.abs(overlap).argmax(axis=0)
    assert np.abs(overlap).max(axis=0).min() > 0.95
    assert trained.explained > 0.7
    fires = trained.encode(rows)
    for concept, j in enumerate(best):
        turned = np.sign(overlap[j, concept])
        assert np.corrcoef(turned * fires[:, j], signs[:, concept])[0, 1] > 0.9


def test_swapping_pairs_only_turns_the_sign() -> None:
    rng = np.random.default_rng(2)
    rows = differences(rng)[0]
    flips = rng.choice([-1, 1], N).astype(np.float32)[:, None]
    first, second = train_signed_sae(rows, SETTINGS, 3), train_signed_sae(rows * flips, SETTINGS, 3)
    assert np.array_equal(first.encode(-rows), -first.encode(rows))
    assert np.abs(np.abs(first.encode(rows)).sum(0) - np.abs(second.encode(rows)).sum(0)).max() < 1e-2


def test_described_features_stay_and_undescribed_ones_go() -> None:
    rng = np.random.default_rng(4)
    rows, signs, _ = differences(rng)
    vectors = ResponseVectors(rows, np.zeros_like(rows), "texts")
    shown = np.column_stack([signs[:, 0], rng.choice([-1, 0, 1], N)])
    sides = (sparse.csr_matrix(np.maximum(side, 0) * 0.5, dtype=np.float32) for side in (shown, -shown))
    local = Activations(tuple(Concept(n, f"{n}.", "local") for n in ("tables", "dice")), *sides)
    prompts = np.repeat(np.arange(N // 10, dtype=np.int32), 10)
    found = embedding_concepts(vectors, local, prompts, SETTINGS, seed=5)
    kept = [feature for feature in found.features if feature.kept]
    assert {name for feature in kept for name in (*feature.more, *feature.less)} == {"tables"}
    assert 1 <= len(kept) < len(found.features)
    assert all(feature.fidelity > 0.3 for feature in kept)
    names = [concept.name for concept in found.activations.concepts]
    assert len(names) == len(set(names)) == len(kept)
    assert found.activations.chosen.max() <= 1
    assert found.activations.chosen.multiply(found.activations.rejected).nnz == 0
    assert all(signs[i, 0] for feature in kept for i in feature.top[:3])


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_know_nothing_keep_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = differences(rng)[0]
    local = Activations((), *(sparse.csr_matrix((N, 0), dtype=np.float32) for _ in range(2)))
    vectors = ResponseVectors(rows, np.zeros_like(rows), "texts")
    prompts = np.arange(N, dtype=np.int32)

    def guess(_: object, held_out: np.ndarray) -> np.ndarray:
        return rng.choice([-1.0, 0.0, 1.0], len(held_out))

    found = embedding_concepts(vectors, local, prompts, SETTINGS, seed=seed, label=guess)
    assert sum(feature.kept for feature in found.features) == 0


class Letters:
    """An embedder that counts letters: near texts are near."""

    name, dim = "letters", 26

    def embed(self, texts: list[str]) -> np.ndarray:
        rows = np.array([[text.count(chr(97 + i)) for i in range(26)] for text in texts], np.float32) + 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_many_responses_become_means_of_their_words(tmp_path: pytest.TempPathFactory) -> None:
    import pyarrow.parquet as pq

    from undertow.data import load_preferences
    from undertow.preference.vectors import response_vectors

    rng = np.random.default_rng(0)
    words = {1: ["aaab", "aaba", "abaa"], -1: ["zzzy", "zzyz", "zyzz"]}
    rows = []
    for i in range(300):
        side = int(rng.choice([1, -1]))
        texts = [" ".join(rng.choice(words[s], 30)) for s in (side, -side)]
        rows.append({"prompt": f"p{i}", "chosen": texts[0] + f" {i}", "rejected": texts[1]})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    data = load_preferences(tmp_path / "d.parquet")
    whole = response_vectors(data, Letters())
    by_words = response_vectors(data, Letters(), most_texts=10)
    assert (whole.made_of, by_words.made_of) == ("texts", "words")
    first = np.linalg.svd(by_words.differences)[2][0] @ by_words.differences.T
    says_a = np.array(["a" in row["chosen"] for row in rows])
    assert len(set(np.sign(first[says_a]))) == 1
    assert set(np.sign(first[says_a])) != set(np.sign(first[~says_a]))
