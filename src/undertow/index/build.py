"""Build an index: load → extract → embed → cluster → write (paper §4.1, Algorithm 1).

Departures: attributes come from the local extractor, all that hold and not ten; each distinct string is
embedded once, its multiplicity is its weight; a local attribute is exact and therefore its own cluster,
because sentences that differ only in a quoted phrase embed close together and k-means would merge them.

Every stage is keyed by the content of its input and its settings. A killed build goes on at the stage it was
in.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from undertow.errors import UsageError
from undertow.index.incidence import Incidence
from undertow.index.open import SIDES
from undertow.progress import SILENT, Progress
from undertow.records import Side
from undertow.store.run import RunDir, config_hash, file_hash
from undertow.store.tables import atomic_write_json, read_table, write_shard, write_table

if TYPE_CHECKING:
    import pyarrow as pa

    from undertow.models.base import Embedder

SHARD_ROWS = 4096
"""Attributes per vector shard: also what a kill during embedding can lose."""


class IndexConfig(BaseModel):
    """Settings of an index build."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    extractor: str = Field("local", description="Where attributes come from.")
    embedder: str = Field(
        "minilm", description="Embedder spec: `minilm` or a sentence-transformers id or path."
    )
    clusters: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="K of the k-means over model-written attributes; None: attributes / 376.",
    )
    seed: int = Field(0, ge=0, description="Mining and k-means.")
    skip_bad: bool = Field(False, description="Leave malformed rows out and count them.")


def build_index(
    data: Path,
    out: Path,
    config: IndexConfig | None = None,
    progress: Progress = SILENT,
    fresh: bool = False,
) -> dict[str, Any]:
    """Build the index of the training mixture ``data`` in the run directory ``out``.

    Returns:
        the summary: ``stages`` (name, seconds, rows, rows_per_second), examples, attributes of each side.

    Raises:
        UsageError: the data cannot be read, the config is not supported, or ``out`` holds something else.
    """
    config = config or IndexConfig()
    if config.extractor != "local":
        raise UsageError(f"--extractor {config.extractor}: not known; the extractor is `local`")
    data = Path(data)
    run = RunDir.open(Path(out), "index", config.model_dump(), {"data": file_hash(data)}, fresh)
    if run.complete:
        progress.say(f"{out}: this index is already built")
        run.close()
        return run.summary()
    try:
        return _Build(run, config, progress).make(data)
    finally:
        run.close()


class _Build:
    """One build: the stages in order, each reading what the ones before it left in the run directory."""

    def __init__(self, run: RunDir, config: IndexConfig, progress: Progress) -> None:
        self.run = run
        self.config = config
        self.progress = progress
        self.key = config_hash([run.identity["inputs"], run.identity["config"]])

    def make(self, data: Path) -> dict[str, Any]:
        """Run the stages."""
        loaded = self.stage("load", "examples", lambda folder: self.load(folder, data))
        extracted = self.stage("extract", "examples", self.extract)
        embedded = [self.embed(side, extracted[f"{side}_attributes"]) for side in SIDES]
        clustered = self.stage("cluster", "attributes", self.cluster)
        written = self.stage("write", "files", lambda folder: self.write(embedded[0]))
        stages = [loaded, extracted, _sum_stages("embed", embedded), clustered, written]
        info = {
            "key": self.key,
            "examples": loaded["rows"],
            "skipped": loaded["skipped"],
            "extractor": self.config.extractor,
            "embedder": embedded[0]["embedder"],
            "embedder_spec": self.config.embedder,
            "dim": embedded[0]["dim"],
            "dtype": "float16",
            **{key: extracted[key] for side in SIDES for key in (f"{side}_attributes", f"{side}_pairs")},
            "clusters": clustered["clusters"],
        }
        atomic_write_json(self.run.file("index.json"), info)
        skipped = sum(loaded["skipped"].values())
        counts = {"tried": loaded["rows"] + skipped, "scored": loaded["rows"], "failed": skipped}
        rates = [{k: stage[k] for k in ("name", "seconds", "rows", "rows_per_second")} for stage in stages]
        return self.run.finish(
            "complete", {"counts": counts, "failures": loaded["skipped"], "stages": rates, **info}
        )

    def stage(self, name: str, unit: str, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Run one stage once, timed; its JSON holds ``rows`` and what the stage has to say."""

        def timed(folder: Path) -> dict[str, Any]:
            started = time.monotonic()
            said = make(folder)
            seconds = time.monotonic() - started
            rate = round(said["rows"] / seconds, 1) if seconds else None
            return {"name": name, "seconds": round(seconds, 3), "rows_per_second": rate, **said}

        result: dict[str, Any] = self.run.stage(name, self.key, timed)
        self.progress.say(f"{name}: {result['rows']:,} {unit} in {result['seconds']:.1f} s")
        return result

    def folder(self, stage: str) -> Path:
        """Return where a finished stage's files are."""
        return self.run.stage_path(stage)

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, opened by the first stage that needs it."""
        from undertow.models.embed import open_embedder

        return open_embedder(self.config.embedder)

    def load(self, folder: Path, data: Path) -> dict[str, Any]:
        """Normalise the data to id, source, prompt, response."""
        from undertow.data import load_examples

        examples = load_examples(data, skip_bad=self.config.skip_bad)
        write_table(examples.table, folder / "examples.parquet")
        return {"rows": examples.table.num_rows, "skipped": examples.skipped}

    def extract(self, folder: Path) -> dict[str, Any]:
        """Mine the vocabulary, then say which attribute holds for which example."""
        from undertow.attributes.local import LocalExtractor

        table = read_table(self.folder("load") / "examples.parquet")
        extractor = LocalExtractor.fit(table, self.config.seed, self.progress)
        extractor.save(folder / "extractor")
        said: dict[str, Any] = {"rows": table.num_rows}
        texts = {"query": table["prompt"], "response": table["response"]}
        for side in SIDES:
            incidence = Incidence.from_matrix(extractor.transform(texts[side], side))
            incidence.save(folder / f"{side}_incidence")
            attributes = _attribute_table(extractor.vocabulary(side), incidence)
            write_table(attributes, folder / f"{side}_attributes.parquet")
            said |= {f"{side}_attributes": incidence.m, f"{side}_pairs": incidence.nnz}
        return said

    def embed(self, side: Side, total: int) -> dict[str, Any]:
        """Embed the distinct attribute strings of a side, shard by shard."""
        texts = read_table(self.folder("extract") / f"{side}_attributes.parquet", ["text"])["text"]
        parts = []
        with self.progress.task(f"embed {side} attributes", total) as task:
            for number, start in enumerate(range(0, max(total, 1), SHARD_ROWS)):
                chunk = texts.slice(start, SHARD_ROWS).to_pylist()

                def make(folder: Path, chunk: list[str] = chunk, number: int = number) -> dict[str, Any]:
                    vectors = self.embedder.embed(chunk) if chunk else np.empty((0, self.embedder.dim))
                    write_shard(vectors, folder / f"{number:05d}.npy")
                    return {"rows": len(chunk), "embedder": self.embedder.name, "dim": self.embedder.dim}

                parts.append(self.stage(f"embed-{side}-{number:05d}", "attributes", make))
                task.advance(len(chunk))
        return {**_sum_stages("embed", parts), "embedder": parts[0]["embedder"], "dim": parts[0]["dim"]}

    def cluster(self, folder: Path) -> dict[str, Any]:
        """Give each attribute its cluster and the cluster's name; a local attribute is its own."""
        import pyarrow as pa

        sizes = {}
        for side in SIDES:
            table = read_table(self.folder("extract") / f"{side}_attributes.parquet")
            ids = np.arange(table.num_rows)
            kind = np.uint16 if table.num_rows <= np.iinfo(np.uint16).max + 1 else np.uint32
            table = table.append_column("cluster", pa.array(ids.astype(kind)))
            table = table.append_column("label", table["text"])
            write_table(table, folder / f"{side}_attributes.parquet")
            sizes[side] = table.num_rows
        return {"rows": sum(sizes.values()), "clusters": sizes["query"]}

    def write(self, embedded: dict[str, Any]) -> dict[str, Any]:
        """Put the stages' files in their places; a hard link where the file system has them."""
        files = 0
        places = [(self.folder("load") / "examples.parquet", "examples.parquet")]
        for side in SIDES:
            places += [
                (self.folder("cluster") / f"{side}_attributes.parquet", f"{side}_attributes.parquet"),
                (self.folder("extract") / f"{side}_incidence", f"{side}_incidence"),
            ]
            shards = sorted(self.run.path.glob(f"stages/embed-{side}-*/*.npy"))
            places += [(shard, f"{side}_vectors/{shard.name}") for shard in shards]
        places.append((self.folder("extract") / "extractor", "extractor"))
        for source, place in places:
            files += _publish(source, self.run.file(place))
        return {"rows": files}


def _attribute_table(vocabulary: Any, incidence: Incidence) -> pa.Table:
    """Tabulate attributes: id, text, kind, count; row i is column i of the incidence."""
    import pyarrow as pa

    return pa.table(
        {
            "id": pa.array(np.arange(incidence.m), pa.int64()),
            "text": pa.array([attribute.text for attribute in vocabulary], pa.string()),
            "kind": pa.array([attribute.kind for attribute in vocabulary], pa.string()),
            "count": pa.array(incidence.counts, pa.int64()),
        }
    )


def _sum_stages(name: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up the parts of a stage that ran in pieces."""
    seconds, rows = sum(part["seconds"] for part in parts), sum(part["rows"] for part in parts)
    rate = round(rows / seconds, 1) if seconds else None
    summed = {"name": name, "seconds": round(seconds, 3), "rows": rows, "rows_per_second": rate}
    return {**parts[0], **summed}


def _publish(source: Path, place: Path) -> int:
    """Link or copy a file or folder to ``place``, replacing what an earlier, killed build left there."""
    if source.is_dir():
        return sum(_publish(file, place / file.name) for file in sorted(source.iterdir()))
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # no hard links here
        shutil.copy2(source, temporary)
    os.replace(temporary, place)
    return 1
