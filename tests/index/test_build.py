from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.errors import UsageError
from undertow.index import build, executors
from undertow.index.build import build_index
from undertow.index.config import IndexConfig
from undertow.index.executors import ExecutorConfig, run_step
from undertow.index.open import Index
from undertow.index.steps import Extract
from undertow.progress import SILENT
from undertow.store import run

STAGES = ["load", "extract", "embed", "cluster", "write"]


class HashEmbedder:
    """Unit vectors from a hash of each text."""

    name, dim = "hash", 16

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.stack(
            [np.random.default_rng(zlib.crc32(t.encode())).standard_normal(self.dim) for t in texts]
        )
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undertow.models.embed.open_embedder", lambda spec: HashEmbedder())
    monkeypatch.setattr(build, "SHARD_ROWS", 64)
    monkeypatch.setattr(build, "EXAMPLE_ROWS", 32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    words = ["river", "bread", "clock", "map", "bee", "novel", "engine", "garden"]
    prompts = [f"Tell me about the {rng.choice(words)} and the {rng.choice(words)}?" for _ in range(80)]
    answers = [f"The {rng.choice(words)} is old. It has {rng.integers(9)} parts." for _ in range(80)]
    table = pa.table({"source": ["a", "b"] * 40, "prompt": prompts, "response": answers})
    pq.write_table(table, tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


def content(index: Path) -> dict[str, bytes]:
    """What an index says: its data files, without times."""
    files = [path for path in sorted(index.rglob("*")) if path.is_file()]
    keep = [f for f in files if "stages" not in f.parts and f.suffix in {".parquet", ".npy", ".npz"}]
    return {str(f.relative_to(index)): f.read_bytes() for f in keep}


def test_an_index_describes_every_row(data: Path, tmp_path: Path) -> None:
    summary = build_index(data, tmp_path / "index")
    assert [stage["name"] for stage in summary["stages"]] == STAGES
    assert all(stage["rows"] > 0 and stage["seconds"] >= 0 for stage in summary["stages"])
    assert (summary["status"], summary["counts"]) == ("complete", {"tried": 80, "scored": 80, "failed": 0})
    index = Index.open(tmp_path / "index")
    assert index.n == 80
    assert set(index.sources) == {"a", "b"}
    for side in ("query", "response"):
        attributes, incidence = index.attributes(side), index.incidence(side)
        assert attributes["count"].to_pylist() == incidence.counts.tolist()
        assert index.vectors(side).shape == (incidence.m, 16)
        assert index.vectors(side).dtype == np.float16
        assert index.scanner(side).rows == incidence.m
        texts = index.table()["prompt" if side == "query" else "response"]
        again = index.extractor.transform(texts, side)
        assert (again != index.matrix(side)).nnz == 0
    assert index.attributes("query")["cluster"].to_pylist() == list(range(index.features.m))


def without_examples(index: Path) -> dict[str, bytes]:
    return {name: data for name, data in content(index).items() if name != "examples.parquet"}


def test_shards_of_any_size_give_the_same_index(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rows in (80, 32, 7):
        monkeypatch.setattr(build, "EXAMPLE_ROWS", rows)
        build_index(data, tmp_path / str(rows))
    whole, *others = (without_examples(tmp_path / str(rows)) for rows in (80, 32, 7))
    assert {"query_words/words.parquet", "query_words/column_rows.npy"} <= whole.keys()
    assert others == [whole, whole]


def test_worker_processes_extract_what_one_process_does(data: Path, tmp_path: Path) -> None:
    build_index(data, tmp_path / "index")
    files = sorted(tmp_path.glob("index/stages/extract-*/*/*.npy"))
    assert len(files) == 3 * 3 * 2  # shards; sides and words; arrays
    alone = {file: file.read_bytes() for file in files}
    run_step(Extract(32), 3, "again", tmp_path / "index", ExecutorConfig(workers=2), SILENT)
    assert {file: file.read_bytes() for file in files} == alone


def test_the_same_command_again_does_nothing(data: Path, tmp_path: Path) -> None:
    first = build_index(data, tmp_path / "index")
    manifest = (tmp_path / "index/manifest.json").stat().st_mtime_ns
    assert build_index(data, tmp_path / "index") == first
    assert (tmp_path / "index/manifest.json").stat().st_mtime_ns == manifest


def test_another_seed_or_other_data_is_another_index(data: Path, tmp_path: Path) -> None:
    build_index(data, tmp_path / "index")
    with pytest.raises(UsageError, match="seed"):
        build_index(data, tmp_path / "index", IndexConfig(seed=1))
    table = pq.read_table(data)
    pq.write_table(table.slice(0, 40), data)
    with pytest.raises(UsageError, match="data"):
        build_index(data, tmp_path / "index")
    assert build_index(data, tmp_path / "index", fresh=True)["counts"]["scored"] == 40


@pytest.mark.parametrize(
    "stage", ["vocabulary", "extract-00001", "extract", "embed-response-00000", "cluster", "write"]
)
def test_a_build_that_died_in_a_stage_goes_on_there(
    stage: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(data, tmp_path / "whole")
    make_stage = run.make_stage

    def dies(folder: Path, *rest: object) -> object:
        if folder.name == stage:
            raise KeyboardInterrupt
        return make_stage(folder, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(run, "make_stage", dies)
        patch.setattr(executors, "make_stage", dies)
        with pytest.raises(KeyboardInterrupt):
            build_index(data, tmp_path / "index")
    with pytest.raises(UsageError, match="not finished"):
        Index.open(tmp_path / "index")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "index/stages").glob("*/done.json")}
    assert build_index(data, tmp_path / "index")["status"] == "complete"
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert content(tmp_path / "index") == content(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from undertow.index import build, executors
def dies(*rest):
    os.kill(os.getpid(), signal.SIGKILL)
build.attribute_table = dies
class E:
    name, dim = "hash", 16
    def embed(self, texts):
        import numpy as np
        return np.ones((len(texts), 16), np.float32) / 4
import undertow.models.embed
undertow.models.embed.open_embedder = lambda spec: E()
build.build_index(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_kill_9_in_the_middle_of_a_stage_leaves_nothing_half_written(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(data), str(tmp_path / "index")]
    died = subprocess.run(command, env=os.environ, check=False, timeout=120)
    assert died.returncode == -signal.SIGKILL
    assert not (tmp_path / "index/stages/extract").exists()
    assert build_index(data, tmp_path / "index")["status"] == "complete"
    build_index(data, tmp_path / "whole")
    assert content(tmp_path / "index") == content(tmp_path / "whole")


def test_a_bad_row_is_counted_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = [{"prompt": f"How is the weather in town {i}?", "response": "Fine, thank you."} for i in range(12)]
    rows[3] = {"prompt": "", "response": "x"}
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(UsageError):
        build_index(path, tmp_path / "index")
    summary = build_index(path, tmp_path / "other", IndexConfig(skip_bad=True))
    assert summary["counts"] == {"tried": 12, "scored": 11, "failed": 1}
    assert sum(summary["failures"].values()) == 1


@pytest.mark.parametrize("what", ["missing", "a file", "no run", "another verb"])
def test_what_is_no_index_is_said_in_one_line(what: str, tmp_path: Path) -> None:
    path = tmp_path / "index"
    if what == "a file":
        path.write_text("x")
    elif what != "missing":
        path.mkdir()
    if what == "another verb":
        manifest = {"tool": "undertow", "verb": "surf", "status": "complete"}
        (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError) as raised:
        Index.open(path)
    assert "\n" not in str(raised.value)


def test_missing_data_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        build_index(tmp_path / "nothing.parquet", tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_links_and_copies_give_the_same_index(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(data, tmp_path / "linked")

    def no_links(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    build_index(data, tmp_path / "copied")
    shutil.rmtree(tmp_path / "copied/stages")
    assert content(tmp_path / "copied") == content(tmp_path / "linked")
    assert Index.open(tmp_path / "copied").incidence("query").nnz > 0
