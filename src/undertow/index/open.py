"""An index as it lies on disk, opened lazily: nothing is read before it is asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.errors import UsageError
from undertow.index.history import FOLDER, IndexedHistory
from undertow.index.incidence import Beside, Incidence
from undertow.index.scan import Scanner, scan_device
from undertow.index.words import IndexedWords
from undertow.records import Side
from undertow.store.run import check_whole, read_manifest
from undertow.store.tables import read_json, read_shard, read_table

if TYPE_CHECKING:
    import pyarrow as pa
    import scipy.sparse as sp

    from undertow.attributes.local import LocalExtractor
    from undertow.models.base import Embedder

SIDES: tuple[Side, Side] = ("query", "response")


class Index:
    """The attributes of a training mixture, ready to be traced and queried. Read-only."""

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        """Wrap the finished index at ``path``; use :meth:`open`."""
        self.path = path
        self.info = info

    @classmethod
    def open(cls, path: Path | str) -> Index:
        """Open the index directory ``path``.

        Raises:
            UsageError: it is no index, or its build has not finished.
        """
        path = Path(path)
        if not path.is_dir():
            raise UsageError(f"{path}: no such index; build one with `undertow index DATA --out {path}`")
        manifest = read_manifest(path)
        if manifest.get("verb") != "index":
            raise UsageError(f"{path}: a run of `{manifest.get('verb')}`, not an index")
        if manifest.get("status") != "complete":
            raise UsageError(
                f"{path}: the index is not finished; run the same `undertow index` command again"
            )
        check_whole(path)
        info = read_json(path / "index.json")
        if not isinstance(info, dict):
            raise UsageError(f"{path / 'index.json'}: holds no object; build the index again with --fresh")
        return cls(path, info)

    @property
    def n(self) -> int:
        """Examples of the corpus."""
        return int(self.info["examples"])

    @cached_property
    def ids(self) -> NDArray[np.object_]:
        """(n,) example ids."""
        column: NDArray[np.object_] = self.table(["id"])["id"].to_numpy()
        return column

    @cached_property
    def _coded_sources(self) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        encoded = self.table(["source"])["source"].combine_chunks().dictionary_encode()
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        return codes, tuple(encoded.dictionary.to_pylist())

    @property
    def source_codes(self) -> NDArray[np.int64]:
        """(n,) position of each example's source in :attr:`source_names`."""
        return self._coded_sources[0]

    @property
    def source_names(self) -> tuple[str, ...]:
        """Distinct sources, in order of first appearance."""
        return self._coded_sources[1]

    @cached_property
    def sources(self) -> NDArray[np.object_]:
        """(n,) source of each example."""
        return np.array(self.source_names, dtype=object)[self.source_codes]

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Read the examples: id, source, prompt, response (and history where the data has it)."""
        return read_table(self.path / "examples.parquet", columns)

    @cached_property
    def _incidences(self) -> dict[Side, Incidence]:
        return {side: Incidence.load(self.path / f"{side}_incidence") for side in SIDES}

    def incidence(self, side: Side) -> Incidence:
        """Return which attribute holds for which example."""
        return self._incidences[side]

    @cached_property
    def _features(self) -> Incidence:
        clusters = self.clusters
        if np.array_equal(clusters, np.arange(len(clusters))):
            return self.incidence("query")
        import scipy.sparse as sp

        owner = sp.csr_array(
            (np.ones(len(clusters), np.int32), (np.arange(len(clusters)), clusters)),
            shape=(len(clusters), int(clusters.max()) + 1),
        )
        return Incidence.from_matrix(self.incidence("query").matrix().astype(np.int32) @ owner)

    @property
    def features(self) -> Incidence | Beside:
        """What a trigger may be: the query clusters, and behind them the attributes of the histories."""
        return Beside(self._features, self.history.rows) if self.history else self._features

    @property
    def query_features(self) -> Incidence:
        """Which query cluster holds for which example; the attributes themselves where each is its own."""
        return self._features

    @cached_property
    def history(self) -> IndexedHistory | None:
        """What stands before the queries; ``None`` where no row has a history."""
        return IndexedHistory.load(self.path / FOLDER, self.n)

    @cached_property
    def clusters(self) -> NDArray[np.int64]:
        """(m_query,) cluster of each query attribute."""
        column: NDArray[np.int64] = self.attributes("query")["cluster"].to_numpy().astype(np.int64)
        return column

    @cached_property
    def lexicon(self) -> IndexedWords | None:
        """The content words of the queries; ``None`` where a model wrote the attributes."""
        return IndexedWords.load(self.path / "query_words")

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Name of each of :attr:`features`."""
        attributes = self.attributes("query")
        named: dict[int, str] = dict(
            zip(attributes["cluster"].to_pylist(), attributes["label"].to_pylist(), strict=True)
        )
        own = tuple(named[cluster] for cluster in range(len(named)))
        return (*own, *(self.history.texts if self.history else ()))

    def matrix(self, side: Side) -> sp.csr_array:
        """Return a boolean csr array n × m: which attribute holds for which example."""
        return self.incidence(side).matrix()

    @cached_property
    def _attributes(self) -> dict[Side, pa.Table]:
        return {side: read_table(self.path / f"{side}_attributes.parquet") for side in SIDES}

    def attributes(self, side: Side) -> pa.Table:
        """Return the attributes of a side: id, text, kind, count, cluster, label; row i is column i."""
        return self._attributes[side]

    @cached_property
    def _texts(self) -> dict[Side, tuple[list[str], list[str]]]:
        return {
            side: (table["text"].to_pylist(), table["kind"].to_pylist())
            for side, table in self._attributes.items()
        }

    def texts(self, side: Side) -> list[str]:
        """Return the attribute sentences of a side, by id."""
        return self._texts[side][0]

    def kinds(self, side: Side) -> list[str]:
        """Return the extractor family of each attribute of a side, by id."""
        return self._texts[side][1]

    def shards(self, side: Side) -> list[NDArray[np.float16]]:
        """Map the fp16 vector shards of a side's attributes, in order of id."""
        return [read_shard(file) for file in sorted((self.path / f"{side}_vectors").glob("*.npy"))]

    def vectors(self, side: Side) -> NDArray[np.float16]:
        """Return (m, d) attribute vectors; mapped where one shard holds them all, else copied."""
        shards = self.shards(side)
        return shards[0] if len(shards) == 1 else np.concatenate(shards)

    @cached_property
    def _scanners(self) -> dict[Side, Scanner]:
        return {side: Scanner(self.shards(side), device=scan_device()) for side in SIDES}

    def scanner(self, side: Side) -> Scanner:
        """Return the exact top-k scanner over a side's attribute vectors."""
        return self._scanners[side]

    @property
    def model(self) -> str | None:
        """Model string of the extractor that wrote the attributes; ``None`` for the local one."""
        name = str(self.info.get("extractor", "local"))
        return None if name == "local" else name

    @cached_property
    def centroids(self) -> NDArray[np.float32]:
        """(K, d) unit centroids of the query clusters, where a model wrote the attributes."""
        rows: NDArray[np.float32] = np.load(self.path / "query_centroids.npy", allow_pickle=False)
        return rows

    @cached_property
    def extractor(self) -> LocalExtractor:
        """The local extractor that made the attributes, for new prompts and responses.

        Raises:
            UsageError: a model made them.
        """
        if self.model:
            raise UsageError(f"{self.path}: its attributes are written by {self.model}; this needs the model")
        from undertow.attributes.local import LocalExtractor

        return LocalExtractor.load(self.path / "extractor")

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder of the attribute vectors, for a crux in the user's own words.

        Raises:
            UsageError: its model cannot be opened here.
        """
        from undertow.models.embed import open_embedder

        return open_embedder(str(self.info["embedder_spec"]))
