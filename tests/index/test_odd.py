"""Corpora that are odd but legal are indexed whole; what is not is named with its place."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from undertow.attributes.content import content_words
from undertow.errors import UsageError
from undertow.index import build
from undertow.index.build import build_index
from undertow.index.config import IndexConfig
from undertow.index.open import Index
from undertow.index.query import query

sys.path.append(str(Path(__file__).parent))
from scale_steps import HashEmbedder

PLAIN = [{"prompt": f"How do I grow plant {i}?", "response": f"Water it {i} times."} for i in range(12)]
ODD = {
    "one row": PLAIN[:1],
    "two equal rows": [PLAIN[0], PLAIN[0]],
    "no source": PLAIN,
    "one source": [{**row, "source": "only"} for row in PLAIN],
    "a source a row": [{**row, "source": f"s{i}"} for i, row in enumerate(PLAIN)],
    "long": [*PLAIN, {"prompt": "word " * 40_000, "response": "y" * 200_000}],
    "NUL": [*PLAIN, {"prompt": "a\x00b\u202ec", "response": "\x00\x1b[31m"}],
    "scripts": [
        {"prompt": p, "response": "はい。"} for p in ("你好,请解释", "שלום עולם", "ꙮ" * 50, "नमस्ते", "🙂🙂")
    ],
    "same prompt": [{**row, "prompt": "Why?"} for row in PLAIN],
    "same response": [{**row, "response": "No."} for row in PLAIN],
    "marks alone": [{"prompt": "?!", "response": "…"} for _ in range(8)],
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undertow.models.embed.open_embedder", lambda spec: HashEmbedder())
    monkeypatch.setattr(build, "EXAMPLE_ROWS", 8)


def write(rows: list[dict[str, str]], path: Path) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.mark.parametrize("kind", ODD)
def test_every_row_is_indexed_under_its_own_text(kind: str, tmp_path: Path) -> None:
    rows = ODD[kind]
    summary = build_index(write(rows, tmp_path / "data.jsonl"), tmp_path / "index")
    index = Index.open(tmp_path / "index")
    table = index.table()
    assert summary["counts"] == {"tried": len(rows), "scored": len(rows), "failed": 0}
    assert table["prompt"].to_pylist() == [row["prompt"] for row in rows]
    for side, column in (("query", "prompt"), ("response", "response")):
        held = index.incidence(side)
        assert held.n == len(rows)
        assert (index.extractor.transform(table[column], side) != index.matrix(side)).nnz == 0
        assert index.vectors(side).shape == (held.m, 16)
    lexicon = index.lexicon
    assert lexicon is not None
    known = [set(content_words(row["prompt"])) & lexicon.number.keys() for row in rows]
    assert [{lexicon.words[i] for i in lexicon.rows.columns_of(n)} for n in range(len(rows))] == known
    assert query(index, ".")["rows"] == len(rows)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"response": ""}, "line 4 has no text in response"),
        ({"response": " \n\t"}, "line 4 has no text in response"),
        ({"prompt": None}, "line 4 has no text in prompt"),
        ({"prompt": 7}, "line 4 holds int in prompt"),
    ],
)
def test_a_bad_row_is_named_and_left_out_when_asked(
    spoil: dict[str, object], says: str, tmp_path: Path
) -> None:
    rows = [*PLAIN]
    rows[3] = {**rows[3], **spoil}  # type: ignore[dict-item]
    data = write(rows, tmp_path / "data.jsonl")
    with pytest.raises(UsageError, match=says):
        build_index(data, tmp_path / "index")
    if "holds" not in says:
        summary = build_index(data, tmp_path / "index", IndexConfig(skip_bad=True))
        assert summary["counts"] == {"tried": 12, "scored": 11, "failed": 1}
