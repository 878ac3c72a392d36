"""The samples of a search, on disk as soon as they are scored, so that memory does not grow with calls.

The file has no name: a kill leaves nothing behind, and the same command writes it again from the journal.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from undertow.records import Sample
from undertow.surf.ask import Tally
from undertow.surf.rows import sample_of, sample_table

if TYPE_CHECKING:
    import pyarrow as pa


class Spool:
    """Samples in lanes: within a lane in the order in which they came, lane after lane when they are read."""

    def __init__(self, folder: Path | None = None) -> None:
        """Write to an unnamed file in ``folder``, by default where temporary files go."""
        import pyarrow  # noqa: F401 - takes a while, which no call in flight should wait for

        self.tally = Tally()
        """Counts of all samples."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self.close = weakref.finalize(self, self._file.close)
        """Gives the file up; so does the end of the spool."""
        self._parts: list[tuple[int, int, int]] = []
        """(lane, offset, bytes) of each part."""
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, lane: int, samples: Sequence[Sample]) -> None:
        """Append ``samples`` to a lane; they are on disk, and not in memory, when this returns."""
        import pyarrow as pa

        if not samples:
            return
        table, sink = sample_table(("search", "", sample) for sample in samples), pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
            stream.write_table(table)
        part = sink.getvalue()
        self._parts.append((lane, self._file.tell(), part.size))
        self._file.write(part)
        self._file.flush()
        self._n += len(samples)
        self.tally.add(samples)

    def tables(self) -> Iterator[pa.Table]:
        """Read the samples part by part, as :func:`undertow.surf.rows.sample_table` lays them out."""
        import pyarrow as pa

        for _, offset, size in sorted(self._parts):
            with pa.ipc.open_stream(os.pread(self._file.fileno(), size, offset)) as stream:
                yield stream.read_all()

    def __iter__(self) -> Iterator[Sample]:
        for table in self.tables():
            yield from map(sample_of, table.to_pylist())

    def pick(self, ids: Collection[str]) -> Iterator[Sample]:
        """Read the samples of some candidates, in the order of all."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(sorted(ids), pa.string())
        for table in self.tables():
            picked = table.filter(pc.is_in(table["id"], wanted))
            yield from map(sample_of, picked.to_pylist())

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
