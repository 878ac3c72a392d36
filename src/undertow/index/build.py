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
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from undertow.attributes.cluster import default_k
from undertow.attributes.content import FORMAT as WORDS
from undertow.attributes.embed import distinct
from undertow.attributes.history import FORMAT as HISTORY
from undertow.attributes.llm import PROMPT_HASH
from undertow.errors import UsageError
from undertow.index.attribute_table import alone, attribute_table
from undertow.index.clusters import Clusters, cluster, cluster_table, named
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
from undertow.index.executors import Step, per_second, run_step, shard_folder, timed
from undertow.index.history import FOLDER
from undertow.index.history_stages import HistoryStages, has_history
from undertow.index.incidence import Incidence
from undertow.index.kmeans import ShardedKmeans
from undertow.index.open import SIDES
from undertow.index.sample import sampled
from undertow.index.steps import Embed, Extract, forget
from undertow.models.batch_wire import PRICE
from undertow.models.prices import Price, list_price
from undertow.progress import SILENT, Progress
from undertow.records import Side
from undertow.store.run import RunDir, config_hash, file_hash
from undertow.store.tables import atomic_write_json, read_shard, read_table, write_table
from undertow.store.undo import working_in

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ROWS = 4096
"""Attributes per vector shard: also what a kill during embedding can lose."""
EXAMPLE_ROWS = 32_768
"""Rows per shard of local extraction."""
IN_MEMORY = 1_000_000
"""Attributes clustered by one process; more are clustered shard by shard."""
KMEANS_FILES, KMEANS_SHARDS = 64, 128
"""Vector shards in a shard of the k-means at least, and its shards at most: each writes K sums a round."""


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
    elif config.batch:
        raise UsageError("--batch: the local extractor asks no model; give --extractor MODEL")
    run = RunDir.open(Path(out), "index", config.identity(), _inputs(data, config), fresh)
    with working_in(run):
        if run.complete:
            progress.say(f"{out}: this index is already built")
            return run.summary()
        try:
            return _Build(run, config, progress).make(data)
        finally:
            forget()


def estimate_index(data: Path, config: IndexConfig) -> dict[str, Any]:
    """Say what ``build_index`` would ask of a model: rows, calls, tokens, dollars; nothing is written.

    Raises:
        UsageError: the data cannot be read.
    """
    from undertow.data import load_examples

    examples = load_examples(Path(data), skip_bad=config.skip_bad).table
    price = price_of(config) if config.by_model else None
    planned = estimate(examples, price) if config.by_model else NOTHING
    said = {"status": "complete", "dry_run": True, "extractor": config.extractor}
    return {**said, **asdict(replace(planned, rows=len(examples)))}


def price_of(config: IndexConfig) -> Price | None:
    """Return what the extractor costs as it is asked; a batch is half as dear."""
    price = config.price or list_price(config.extractor)
    return price and (Price(price.input * PRICE, price.output * PRICE) if config.batch else price)


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
        parts = [run.identity["inputs"], run.identity["config"], EXAMPLE_ROWS, SHARD_ROWS]
        self.key = config_hash([*parts, PROMPT_HASH if config.by_model else WORDS, HISTORY])

    def make(self, data: Path) -> dict[str, Any]:
        """Run the stages."""
        loaded = self.stage("load", "examples", lambda folder: self.load(folder, data))
        described = self.describe() if self.config.by_model else None
        if described and (described.stopped or described.share_failed() > self.config.failure_share):
            return self.unfinished(loaded, described)
        extracted = self.extract(loaded["rows"]) if described is None else self.joined(described)
        told = self.histories(loaded["rows"])
        embedded = [self.embed(side, extracted[f"{side}_attributes"]) for side in SIDES]
        clustered = self.stage("cluster", "attributes", self.cluster)
        written = self.stage("write", "files", lambda folder: self.write(told))
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
        self.progress.say(f"describing {estimate(examples, price_of(self.config)).line()}")
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

        def work(folder: Path) -> dict[str, Any]:
            return {"name": name, **timed(lambda: make(folder))}

        result: dict[str, Any] = self.run.stage(name, self.key, work)
        self.progress.say(f"{name}: {result['rows']:,} {unit} in {result['seconds']:.1f} s")
        return result

    def folder(self, stage: str) -> Path:
        """Return where a finished stage's files are."""
        return self.run.stage_path(stage)

    def shards(self, step: Step, count: int) -> list[dict[str, Any]]:
        """Run a step on its shards, wherever they run; return what each said, in their order."""
        return run_step(step, count, self.key, self.run.path, self.config.executor, self.progress)

    def load(self, folder: Path, data: Path) -> dict[str, Any]:
        """Normalise the data to id, source, prompt, response."""
        from undertow.data import load_examples

        examples = load_examples(data, skip_bad=self.config.skip_bad)
        write_table(examples.table, folder / "examples.parquet", EXAMPLE_ROWS)
        return {"rows": examples.table.num_rows, "skipped": examples.skipped}

    def extract(self, rows: int) -> dict[str, Any]:
        """Learn the vocabulary from a sample, then say which attribute holds for which example."""
        learned = self.stage("vocabulary", "examples", self.vocabulary)
        parts = self.shards(Extract(EXAMPLE_ROWS), -(-rows // EXAMPLE_ROWS))
        merged = self.stage("extract", "examples", lambda folder: self.merge(folder, len(parts)))
        return _add_time(merged, [learned, *parts])

    def histories(self, rows: int) -> Path | None:
        """Describe what stands before the queries; ``None`` where nothing does."""
        if not has_history(self.folder("load") / "examples.parquet"):
            return None
        stages = HistoryStages(self.run.path, self.stage, self.shards, self.config.seed, EXAMPLE_ROWS)
        return stages.make(rows)

    def vocabulary(self, folder: Path) -> dict[str, Any]:
        """Mine the vocabulary of both sides, and the words of the queries."""
        import pyarrow as pa

        from undertow.attributes.content import learn_words
        from undertow.attributes.local import LocalExtractor

        schema = pa.schema({"text": pa.string(), "kind": pa.string()})
        sample = sampled(self.folder("load") / "examples.parquet", self.config.seed)
        extractor = LocalExtractor.fit(sample, self.config.seed, self.progress)
        extractor.save(folder / "extractor")
        learn_words(sample["prompt"]).save(folder / "words.parquet")
        for side in SIDES:
            entries = extractor.vocabulary(side)
            columns = {"text": [e.text for e in entries], "kind": [e.kind for e in entries]}
            write_table(pa.table(columns, schema=schema), folder / f"{side}.parquet")
        return {"rows": len(sample)}

    def merge(self, folder: Path, shards: int) -> dict[str, Any]:
        """Join the shards' incidences and count the rows of each attribute."""
        parts = [shard_folder(self.run.path, "extract", number) for number in range(shards)]
        said: dict[str, Any] = {}
        for side in SIDES:
            entries = read_table(self.folder("vocabulary") / f"{side}.parquet").to_pydict()
            folders = [part / side for part in parts]
            incidence = Incidence.merge(folders, len(entries["text"]), folder / f"{side}_incidence")
            self.tabulate(folder, side, entries["text"], entries["kind"], incidence)
            said |= {"rows": incidence.n, f"{side}_attributes": incidence.m, f"{side}_pairs": incidence.nnz}
        words = len(read_table(self.folder("vocabulary") / "words.parquet"))
        Incidence.merge([part / "words" for part in parts], words, folder / "query_words")
        return said

    def tabulate(
        self, folder: Path, side: Side, texts: list[str], kinds: list[str], incidence: Incidence
    ) -> None:
        """Write a side's table of attributes."""
        table = attribute_table(texts, kinds, incidence)
        write_table(table, folder / f"{side}_attributes.parquet", SHARD_ROWS)

    def joined(self, described: Described) -> dict[str, Any]:
        """Lay the model's sentences against the rows; the time of the calls is in it."""
        return _add_time(self.stage("extract", "examples", self.join), described.shards)

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
            self.tabulate(folder, side, unique.texts, ["llm"] * incidence.m, incidence)
            said |= {f"{side}_attributes": incidence.m, f"{side}_pairs": incidence.nnz}
        return said

    def embed(self, side: Side, total: int) -> dict[str, Any]:
        """Embed the distinct attribute strings of a side, shard by shard."""
        step = Embed(side, SHARD_ROWS, self.config.embedder)
        parts = self.shards(step, max(1, -(-total // SHARD_ROWS)))
        summed = _sum_stages(step.name, parts)
        self.progress.say(f"{step.name}: {summed['rows']:,} attributes in {summed['seconds']:.1f} s")
        return summed

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

        weights = table["count"].to_numpy()
        k = self.config.clusters or default_k(int(weights.sum()), len(table))
        found = self.kmeans(table, weights, k)
        np.save(folder / "query_centroids.npy", found.centroids, allow_pickle=False)
        write_table(cluster_table(found, weights), folder / "clusters.parquet")
        labels = pa.array(found.labels, pa.string()).take(pa.array(found.owner))
        return table.append_column("cluster", pa.array(found.owner)).append_column("label", labels)

    def kmeans(self, table: pa.Table, weights: NDArray[np.int64], k: int) -> Clusters:
        """Cluster in this process, or shard by shard where there is too much for one."""
        texts = table["text"].to_pylist()
        files = -(-len(table) // SHARD_ROWS)
        if len(table) > IN_MEMORY:
            per_shard = max(KMEANS_FILES, -(-files // KMEANS_SHARDS))
            by_shards = ShardedKmeans(self.run.path, self.stage, self.shards, files, per_shard)
            return named(*by_shards.fit(k, self.config.seed), weights, texts)
        parts = [shard_folder(self.run.path, "embed-query", n) / f"{n:05d}.npy" for n in range(files)]
        vectors = np.concatenate([read_shard(file).astype(np.float32) for file in parts])
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return cluster(vectors, weights, texts, k, self.config.seed)

    def write(self, told: Path | None) -> dict[str, Any]:
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
            learned, extracted = self.folder("vocabulary"), self.folder("extract")
            places.append((learned / "extractor", "extractor"))
            places.append((learned / "words.parquet", "query_words/words.parquet"))
            places.append((extracted / "query_words", "query_words"))
        if told:
            learned = self.folder("history-vocabulary") / "extractor"
            places += [(told / name, f"{FOLDER}/{name}") for name in ("attributes.parquet", "incidence")]
            places.append((learned, f"{FOLDER}/extractor"))
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
    """Add the time of the parts to that of the join."""
    seconds = joined["seconds"] + sum(shard["seconds"] for shard in shards)
    rate = per_second(joined["rows"], seconds)
    return {**joined, "seconds": round(seconds, 3), "rows_per_second": rate}


def _sum_stages(name: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up the parts of a stage that ran in pieces."""
    seconds, rows = sum(part["seconds"] for part in parts), sum(part["rows"] for part in parts)
    rate = per_second(rows, seconds)
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
