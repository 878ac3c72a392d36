"""Pools, distinct sentences, clusters, groups of words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from undertow.attributes import cluster
from undertow.attributes.cluster import assign, default_k, spherical_kmeans
from undertow.attributes.embed import distinct, embed_distinct
from undertow.attributes.pool import load_pool
from undertow.attributes.wordgroups import group_words
from undertow.errors import UsageError
from undertow.records import Message
from undertow.store.tables import write_table

KINDS = {
    0: "violin cello flute drum trumpet harp guitar piano organ",
    1: "iron copper zinc tin lead silver gold nickel cobalt",
    2: "red green blue yellow orange purple brown black white",
}


class ByKind:
    """Embeds words of one kind close together; other texts by their hash."""

    name, dim = "by-kind", 16

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        kinds = {word: kind for kind, words in KINDS.items() for word in words.split()}
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            rng = np.random.default_rng(len(text) + sum(map(ord, text)))
            out[row] = 0.05 * rng.standard_normal(self.dim)
            out[row, kinds.get(text, 3 + sum(map(ord, text)) % 13)] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def unit(rows: list[list[float]]) -> NDArray[np.float32]:
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_sentences_that_differ_in_case_form_or_space_are_one() -> None:
    unique = distinct(["The query is Caf\u00e9", " the query is cafe\u0301", "Other", "OTHER"])
    assert unique.texts == ["The query is Caf\u00e9", "Other"]
    assert unique.ids.tolist() == [0, 0, 1, 1]
    assert unique.weights.tolist() == [2, 2]


def test_each_distinct_sentence_is_embedded_once() -> None:
    unique, vectors = embed_distinct(["a", "b", "A"], ByKind())
    assert vectors.shape == (2, 16)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert len(unique.texts) == 2


def test_clusters_are_found_by_cosine() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(4, 8, dtype=np.float32)
    points = unit((np.repeat(centres, 50, axis=0) + 0.1 * rng.standard_normal((200, 8))).tolist())
    centroids, ids = spherical_kmeans(points, np.ones(200), 4, seed=0)
    assert np.allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-4)
    assert all(len(set(ids[i : i + 50])) == 1 for i in range(0, 200, 50))
    assert len(set(ids)) == 4
    assert (assign(points, centroids) == ids).all()


def test_weights_pull_the_centre() -> None:
    points = unit([[1, 0], [0.8, 0.6], [-1, 0], [-1, 0.1]])
    centroids, ids = spherical_kmeans(points, np.array([1, 99, 1, 1.0]), 2, seed=0)
    assert centroids[ids[0]] @ points[1] > 0.99


def test_no_more_clusters_than_points() -> None:
    centroids, ids = spherical_kmeans(unit([[1, 0], [0, 1]]), None, 64, seed=0)
    assert centroids.shape == (2, 2)
    assert ids.tolist() == [0, 1]
    assert default_k(9_400_000, 5_000_000) == 25_000
    assert default_k(1000, 10) == 10


def test_words_of_a_kind_are_grouped() -> None:
    words = " ".join(KINDS.values()).split()
    groups = group_words(words, np.ones(len(words), np.int64), ByKind(), seed=0)
    kinds = [
        {next(k for k, v in KINDS.items() if words[i] in v.split()) for i in group.members}
        for group in groups
    ]
    assert len(groups) >= 3
    assert all(len(kind) == 1 for kind in kinds)
    assert group_words(words[:5], np.ones(5, np.int64), ByKind(), seed=0) == []


def test_a_file_of_sentences_is_a_pool(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    rows = [
        {"text": "The query is short"},
        {"text": "The query rhymes", "weight": 2.5},
        {"text": "The query is short"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    pool = load_pool(path)
    assert pool.texts == ["The query is short", "The query rhymes"]
    assert pool.weights.tolist() == [2.0, 2.5]
    assert pool.extractor is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no attributes in the file"),
        ("{oops", "line 1 is not JSON"),
        ('{"text": "a"}\n{"weight": 1}', "line 2 has no text"),
        ('{"text": "a", "weight": -1}', "line 1: weight must be a positive number"),
        ('{"text": "a", "weight": NaN}', "line 1: weight must be a positive number"),
        ("\xff", "not a readable text file"),
    ],
)
def test_a_bad_pool_is_told_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text(content, "latin-1")
    with pytest.raises(UsageError, match=says) as caught:
        load_pool(path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished index"):
        load_pool(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        load_pool(tmp_path / "none")


@pytest.mark.parametrize("sequential", [10**9, 0])
def test_many_rare_sentences_take_no_clusters_from_frequent_ones(
    sequential: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "SEQUENTIAL", sequential)
    rng = np.random.default_rng(0)
    rare = unit(np.eye(16)[0] + 0.05 * rng.standard_normal((400, 16)))
    points = np.concatenate([rare, unit(np.eye(16)[1:11])])
    weights = np.array([1.0] * 400 + [400.0] * 10)
    _, ids = spherical_kmeans(points, weights, 16, seed=0)
    assert len(set(ids[400:])) == 10
    assert not set(ids[400:]) & set(ids[:400])
    seeds, owner = cluster.spread(points, weights, 16, rng)
    assert len(set(seeds)) == 16
    assert (owner[seeds] == np.arange(16)).all()
    assert np.allclose((points @ points[seeds].T).max(axis=1), (points * points[seeds[owner]]).sum(axis=1))


def test_an_index_of_conversations_gives_them_whole(tmp_path: Path) -> None:
    said = [("system", "s"), ("user", "a"), ("assistant", "b")]
    told = [{"role": role, "content": content} for role, content in said]
    prompts, history = ["c", "alone", "d"], [json.dumps(told), "[]", json.dumps(told[:1])]
    write_table(
        pa.table({"text": ["held", "by none", "**<word>**"], "count": [2, 0, 3], "kind": ["a", "a", "form"]}),
        tmp_path / "query_attributes.parquet",
    )
    write_table(pa.table({"prompt": prompts, "history": history}), tmp_path / "examples.parquet")
    (tmp_path / "manifest.json").write_text("{}")
    pool = load_pool(tmp_path)
    assert pool.texts == ["held"]
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    assert pool.prompts == [turns, "alone", "d"]


def grown(rng: np.random.Generator, n: int, centres: int, d: int = 48) -> NDArray[np.float32]:
    """Unit rows round some centres."""
    rows = rng.standard_normal((centres, d))[rng.integers(0, centres, n)] + 0.6 * rng.standard_normal((n, d))
    return unit(rows)


@pytest.mark.parametrize("pruned_from", [1, 10**9])
def test_a_row_given_twice_is_a_row_of_weight_two(pruned_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PRUNED_FROM", pruned_from)
    rng = np.random.default_rng(0)
    points, weights = grown(rng, 600, 20), rng.integers(1, 3, 600)
    once, ids = spherical_kmeans(points, weights.astype(float), 20, seed=1)
    twice = np.repeat(points, weights, axis=0)
    repeated, repeated_ids = spherical_kmeans(twice, np.ones(len(twice)), 20, seed=1)
    assert (np.repeat(ids, weights) == repeated_ids).all()
    assert np.allclose(once, repeated, atol=1e-5)
    ignored, _ = spherical_kmeans(points, np.ones(600), 20, seed=1)
    assert not np.allclose(once, ignored, atol=1e-3)


def test_the_pruned_loop_is_as_good_as_faiss_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    points, weights = grown(rng, 8000, 300), rng.integers(1, 9, 8000).astype(float)

    def objective(pruned_from: int) -> tuple[float, NDArray[np.int64]]:
        monkeypatch.setattr(cluster, "PRUNED_FROM", pruned_from)
        centroids, ids = spherical_kmeans(points, weights, 200, seed=3)
        return float(np.average((points * centroids[ids]).sum(axis=1), weights=weights)), ids

    ours, ids = objective(1)
    assert ours >= 0.995 * objective(10**9)[0]
    assert (objective(1)[1] == ids).all()


def test_a_centroid_without_points_takes_a_badly_placed_one() -> None:
    points = unit([[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1]])
    start = unit([[1, 0, 0], [1, 0, 0], [0, 1, 0.1]])
    centroids = cluster.lloyd(points, np.ones(4), start, assign(points, start), 3, seed=0)
    assert len(set(assign(points, centroids).tolist())) == 3
