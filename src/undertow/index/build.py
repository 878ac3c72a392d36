"""Build an index: load → extract → embed → cluster → write (paper §4.1, Algorithm 1).

Attributes come from a model, ten a text as in the paper, or from the local extractor, all that hold.
Departures: each distinct string is embedded once, its multiplicity is its weight; a local attribute is exact
and therefore its own cluster, because sentences that differ only in a quoted phrase embed close together and
k-means would merge them.

Every stage is keyed by the content of its input and its settings. A killed build goes on at the stage it was
in.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from undertow.attributes.cluster import default_k
from undertow.attributes.embed import distinct
from undertow.attributes.llm import PROMPT_HASH
from undertow.errors import UsageError
from undertow.index.attribute_table import alone, attribute_table
from undertow.index.clusters import cluster, cluster_table
from undertow.index.config import IndexConfig
from undertow.index.describe import (
    Described,
    check_price,
    describe_rows,
    drop_failed,
    failure_table,
    join,
    read_described,
)
from undertow.index.estimate import NOTHING, estimate
from undertow.index.incidence import Incidence
from undertow.index.open import SIDES
from undertow.models.prices import list_price
from undertow.progress import SILENT, Progress
from undertow.records import Side
from undertow.store.run import RunDir, config_hash, file_hash
from undertow.store.tables import atomic_write_json, read_shard, read_table, write_shard, write_table
from undertow.store.undo import undo_start

if TYPE_CHECKING:
    import pyarrow as pa

    from undertow.models.base import Embedder

SHARD_ROWS = 4096
"""Attributes per vector shard: also what a kill during embedding can lose."""


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
    data = Path(data)
    if config.by_model:
        check_price(config)
    run = RunDir.open(Path(out), "index", config.identity(), _inputs(data, config), fresh)
    if run.complete:
        progress.say(f"{out}: this index is already built")
        run.close()
        return run.summary()
    try:
        return _Build(run, config, progress).make(data)
    except UsageError:
        undo_start(run)
        raise
    finally:
        run.close()


def estimate_index(data: Path, config: IndexConfig) -> dict[str, Any]:
    """Say what ``build_index`` would ask of a model: rows, calls, tokens, dollars; nothing is written.

    Raises:
        UsageError: the data cannot be read.
    """
    from undertow.data import load_examples

    examples = load_examples(Path(data), skip_bad=config.skip_bad).table
    price = config.price or (list_price(config.extractor) if config.by_model else None)
    planned = estimate(examples, price) if config.by_model else NOTHING
    said = {"status": "complete", "dry_run": True, "extractor": config.extractor}
    return {**said, **asdict(replace(planned, rows=len(examples)))}


def _inputs(data: Path, config: IndexConfig) -> dict[str, str]:
    """Hash the data, and the weights of a local model: a retrained one is another input."""
    hashes = {"data": file_hash(data)}
    if config.extractor.startswith("local:"):
        from undertow.models.local import model_revision

        hashes["extractor"] = model_revision(config.extractor.removeprefix("local:")) or ""
    return hashes


class _Build:
    """One build: the stages in order, each reading what the ones before it left in the run directory."""

    def __init__(self, run: RunDir, config: IndexConfig, progress: Progress) -> None:
        self.run = run
        self.config = config
        self.progress = progress
        parts = [run.identity["inputs"], run.identity["config"]]
        self.key = config_hash([*parts, PROMPT_HASH] if config.by_model else parts)

    def make(self, data: Path) -> dict[str, Any]:
        """Run the stages."""
        loaded = self.stage("load", "examples", lambda folder: self.load(folder, data))
        described = self.describe() if self.config.by_model else None
        if described and (described.stopped or described.share_failed() > self.config.failure_share):
            return self.unfinished(loaded, described)
        extract = self.extract if described is None else self.join
        extracted = self.stage("extract", "examples", extract)
        embedded = [self.embed(side, extracted[f"{side}_attributes"]) for side in SIDES]
        clustered = self.stage("cluster", "attributes", self.cluster)
        written = self.stage("write", "files", lambda folder: self.write(embedded[0]))
        if described:
            extracted = _add_time(extracted, described.shards)
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
        if described:
            info |= {
                "prompt_hash": PROMPT_HASH,
                "extraction": described.by_side(),
            }
        atomic_write_json(self.run.file("index.json"), info)
        rates = [{k: stage[k] for k in ("name", "seconds", "rows", "rows_per_second")} for stage in stages]
        return self.run.finish("complete", {**_counted(loaded, described), "stages": rates, **info})

    def describe(self) -> Described:
        """Have every row described by the model, told what that may cost."""
        examples = read_table(self.folder("load") / "examples.parquet")
        price = self.config.price or list_price(self.config.extractor)
        self.progress.say(f"describing {estimate(examples, price).line()}")
        return describe_rows(self.run, self.config, examples, self.stage, self.progress)

    def unfinished(self, loaded: dict[str, Any], described: Described) -> dict[str, Any]:
        """End as inconclusive; the same command asks for what is missing."""
        drop_failed(self.run, described)
        share, most = described.share_failed(), self.config.failure_share
        missing = f"{share:.1%} of the rows have no attributes on a side, more than {most:.1%}"
        why = described.stopped or f"{missing}; a higher --failure-share accepts them"
        self.progress.say(f"stopped: {why}; the same command tries failed calls again")
        summary = {
            **_counted(loaded, described),
            "stopped": why,
            "extractor": self.config.extractor,
            "extraction": described.by_side(),
            "stages": [],
        }
        return self.run.finish("inconclusive", summary)

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
            entries = extractor.vocabulary(side)
            attributes = attribute_table([e.text for e in entries], [e.kind for e in entries], incidence)
            write_table(attributes, folder / f"{side}_attributes.parquet")
            said |= {f"{side}_attributes": incidence.m, f"{side}_pairs": incidence.nnz}
        return said

    def join(self, folder: Path) -> dict[str, Any]:
        """Lay the model's sentences against the rows: distinct strings, who has which, what failed."""
        ids = read_table(self.folder("load") / "examples.parquet", ["id"])["id"]
        described = read_described(self.run, ids)
        write_table(failure_table(described), folder / "failures.parquet")
        said: dict[str, Any] = {"rows": len(ids)}
        for side in SIDES:
            joined = join(described, side)
            unique = distinct(joined.texts)
            pairs = (np.ones(len(joined.rows), np.bool_), (joined.rows, unique.ids))
            shape = (len(ids), len(unique.texts))
            incidence = Incidence.from_matrix(sparse.csr_array(pairs, shape=shape))
            incidence.save(folder / f"{side}_incidence")
            attributes = attribute_table(unique.texts, ["llm"] * incidence.m, incidence)
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
        """Give each attribute its cluster and the cluster's name."""
        sizes = {}
        for side in SIDES:
            table = read_table(self.folder("extract") / f"{side}_attributes.parquet")
            grouped = self.config.by_model and side == "query"
            table = self.grouped(table, folder) if grouped else alone(table)
            write_table(table, folder / f"{side}_attributes.parquet")
            sizes[side] = table
        clusters = len(sizes["query"]["cluster"].unique())
        return {"rows": sum(map(len, sizes.values())), "clusters": clusters}

    def grouped(self, table: pa.Table, folder: Path) -> pa.Table:
        """Cluster a model's wordings; the centroids and a table of the clusters are left in ``folder``."""
        import pyarrow as pa

        files = sorted(self.run.path.glob("stages/embed-query-*/*.npy"))
        vectors = np.concatenate([read_shard(file) for file in files]).astype(np.float32)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        weights = table["count"].to_numpy()
        k = self.config.clusters or default_k(int(weights.sum()), len(table))
        found = cluster(vectors, weights, table["text"].to_pylist(), k, self.config.seed)
        np.save(folder / "query_centroids.npy", found.centroids, allow_pickle=False)
        write_table(cluster_table(found, weights), folder / "clusters.parquet")
        labels = np.array(found.labels, dtype=object)[found.owner]
        table = table.append_column("cluster", pa.array(found.owner))
        return table.append_column("label", pa.array(labels, pa.string()))

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
        if self.config.by_model:
            places.append((self.folder("extract") / "failures.parquet", "failures.parquet"))
            places += [(self.folder("cluster") / n, n) for n in ("query_centroids.npy", "clusters.parquet")]
        else:
            places.append((self.folder("extract") / "extractor", "extractor"))
        for source, place in places:
            files += _publish(source, self.run.file(place))
        return {"rows": files}


def _counted(loaded: dict[str, Any], described: Described | None) -> dict[str, Any]:
    """Count rows and failures: a row scored has attributes on both sides."""
    skipped = sum(loaded["skipped"].values())
    if described is None:
        counts = {"tried": loaded["rows"] + skipped, "scored": loaded["rows"], "failed": skipped}
        return {"counts": counts, "failures": loaded["skipped"]}
    whole = sum(shard["whole"] for shard in described.shards)
    failures = Counter(loaded["skipped"])
    for side in SIDES:
        failures.update(described.total(side)["failures"])
    failed = described.rows - whole + skipped
    counts = {"tried": described.rows + skipped, "scored": whole, "failed": failed}
    return {"counts": counts, "failures": dict(failures.most_common()), "usage": described.usage}


def _add_time(joined: dict[str, Any], shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the time of the calls to that of the join."""
    seconds = joined["seconds"] + sum(shard["seconds"] for shard in shards)
    rate = round(joined["rows"] / seconds, 1) if seconds else None
    return {**joined, "seconds": round(seconds, 3), "rows_per_second": rate}


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
