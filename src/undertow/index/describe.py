"""Every row described by a model, shard by shard; what came back joined to its row by id.

Each shard is a stage of the build, and within a shard every answer is journalled before it is used: a kill
loses calls in flight, nothing else. Where too many texts stay without attributes, or the budget ends, the
build stops as inconclusive; the same command asks again for what is missing.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.attributes.llm import HEAD, SENTENCES, TAIL, Describer, Description, Passage
from undertow.errors import UsageError
from undertow.index.batch import BatchDesk, StoppedError
from undertow.index.config import IndexConfig
from undertow.index.open import SIDES
from undertow.models.budget import Budget
from undertow.models.prices import list_price
from undertow.progress import Progress, Task
from undertow.records import FailureKind, Message, Side
from undertow.store.journal import Journal
from undertow.store.run import RunDir
from undertow.store.tables import read_table, write_table

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_EXAMPLES = 1000
"""Rows of a shard: also what is in memory and in flight at once."""

RunStage = Callable[[str, str, Callable[[Path], dict[str, Any]]], dict[str, Any]]
"""Runs a stage of the build once: name, unit, work."""


@dataclass(frozen=True, slots=True)
class Described:
    """How the description of all rows went."""

    shards: list[dict[str, Any]]
    """What each finished shard's stage says."""
    usage: dict[str, Any]
    """Calls, tokens and dollars of the journal, earlier starts included."""
    stopped: str | None
    """Why it ended early; ``None`` where every row was tried."""

    def total(self, side: Side) -> dict[str, Any]:
        """Add up a side: failed rows, failures by kind, rows asked again, odd counts, cut texts."""
        parts = [shard[side] for shard in self.shards]
        kinds: Counter[str] = sum((Counter(part["failures"]) for part in parts), Counter())
        counts = {name: sum(part[name] for part in parts) for name in ("failed", "retried", "not_ten", "cut")}
        return {**counts, "failures": dict(kinds.most_common())}

    def by_side(self) -> dict[Side, dict[str, Any]]:
        """Return :meth:`total` of both sides."""
        return {side: self.total(side) for side in SIDES}

    @property
    def rows(self) -> int:
        """Rows of the finished shards."""
        return sum(shard["rows"] for shard in self.shards)

    def share_failed(self) -> float:
        """Return the larger share of a side's rows that have no attributes."""
        return max((self.total(side)["failed"] / max(self.rows, 1) for side in SIDES), default=0.0)


def check_price(config: IndexConfig) -> None:
    """Refuse a cap on dollars that could not be kept.

    Raises:
        UsageError: no price is known.
    """
    if config.max_cost is not None and config.price is None and list_price(config.extractor) is None:
        raise UsageError(
            f"--max-cost: no price is known for {config.extractor}; give --price IN,OUT "
            "(US dollars per million tokens)"
        )


def describe_rows(
    run: RunDir, config: IndexConfig, examples: pa.Table, stage: RunStage, progress: Progress
) -> Described:
    """Describe every row of ``examples`` in stages ``extract-00000``, ….

    Raises:
        UsageError: the model cannot be opened or reached.
    """
    with Journal(run.file("journal.sqlite")) as journal, asyncio.Runner() as runner:
        paid = journal.usage()
        budget = Budget(config.max_calls, config.max_cost, paid.calls, paid.cost_usd)
        desk = _Desk(config, journal, budget, runner)
        shards: list[dict[str, Any]] = []
        try:
            if config.batch:
                desk.fill(run, examples, progress)
            with progress.task("describe rows", 2 * len(examples)) as task:
                for number, start in enumerate(range(0, len(examples), SHARD_EXAMPLES)):
                    rows = examples.slice(start, SHARD_EXAMPLES)
                    make = desk.maker(rows, task)
                    shards.append(stage(shard_name(number), "examples", make))
                    if start + SHARD_EXAMPLES < len(examples):
                        _refuse_useless(shards[-1])
        except StoppedError as short:
            return Described(shards, asdict(journal.usage()), str(short))
        finally:
            runner.run(desk.close())
        return Described(shards, asdict(journal.usage()), None)


def _refuse_useless(shard: dict[str, Any]) -> None:
    """Stop before the next shard is asked, and paid, where a side of this one is all failures."""
    for side in SIDES:
        if shard[side]["failed"] == shard["rows"]:
            kinds = ", ".join(f"{kind} {count}" for kind, count in shard[side]["failures"].items())
            raise StoppedError(f"none of {shard['rows']} rows' {side} could be described ({kinds})")


def shard_name(number: int) -> str:
    """Name the stage of one shard."""
    return f"extract-{number:05d}"


def drop_failed(run: RunDir, described: Described) -> None:
    """Forget the shards that have failures, so that the same command tries those again."""
    for number, shard in enumerate(described.shards):
        if any(shard[side]["failed"] for side in SIDES):
            shutil.rmtree(run.stage_path(shard_name(number)), ignore_errors=True)


class _Desk:
    """Opens the model when the first unfinished shard comes, and describes shards with it."""

    def __init__(self, config: IndexConfig, journal: Journal, budget: Budget, runner: asyncio.Runner) -> None:
        self._config, self._journal, self._budget, self._runner = config, journal, budget, runner
        self._stack = AsyncExitStack()
        self._describer: Describer | None = None

    def fill(self, run: RunDir, examples: pa.Table, progress: Progress) -> None:
        """Have all rows without a stage of their own answered by batches."""
        starts = [
            start
            for number, start in enumerate(range(0, len(examples), SHARD_EXAMPLES))
            if not (run.stage_path(shard_name(number)) / "done.json").is_file()
        ]

        def portions() -> Iterator[list[Passage]]:
            for start in starts:
                rows = examples.slice(start, SHARD_EXAMPLES)
                for side in SIDES:
                    yield passages(rows, side)

        if not starts:
            return
        config = self._config
        price = config.price or list_price(config.extractor)
        batches = BatchDesk(config.extractor, self._journal, self._budget, price, progress)
        self._runner.run(batches.fill(portions, 2 * len(starts) * SHARD_EXAMPLES))
        self._describer = Describer(batches.model(), self._journal.secret())

    def maker(self, rows: pa.Table, task: Task) -> Callable[[Path], dict[str, Any]]:
        """Return the work of one shard's stage."""

        def make(folder: Path) -> dict[str, Any]:
            return self._runner.run(self._describe(rows, folder, task))

        return make

    async def close(self) -> None:
        """Close the model, if it was opened."""
        await self._stack.aclose()

    async def _describe(self, rows: pa.Table, folder: Path, task: Task) -> dict[str, Any]:
        describer = await self._open()
        asked = [passages(rows, side) for side in SIDES]
        found = await describer.describe_all([*asked[0], *asked[1]], task.advance)
        if any(each.failure and each.failure.kind is FailureKind.BUDGET for each in found):
            raise StoppedError(self._budget.stopped.detail if self._budget.stopped else "the budget ended")
        by_side = dict(zip(SIDES, (found[: len(rows)], found[len(rows) :]), strict=True))
        write_table(_shard_table(rows, by_side), folder / "described.parquet")
        said: dict[str, Any] = {
            str(side): _counts(texts, by_side[side]) for side, texts in zip(SIDES, asked, strict=True)
        }
        both = zip(*by_side.values(), strict=True)
        whole = sum(not any(each.failure for each in sides) for sides in both)
        return {"rows": len(rows), "whole": whole, **said}

    async def _open(self) -> Describer:
        if self._describer is None:
            from undertow.models.open import open_model, preflight

            config = self._config
            model = open_model(
                config.extractor,
                journal=self._journal,
                role="extractor",
                concurrency=config.concurrency,
                budget=self._budget,
                price=config.price,
            )
            await preflight(await self._stack.enter_async_context(model))
            self._describer = Describer(model, self._journal.secret())
        return self._describer


def passages(rows: pa.Table, side: Side) -> list[Passage]:
    """Return the text of each row's side, a query with the turns before it."""
    if side == "response":
        return [Passage(side, text) for text in rows["response"].to_pylist()]
    prompts = rows["prompt"].to_pylist()
    if "history" not in rows.column_names:
        return [Passage(side, text) for text in prompts]
    told = zip(prompts, rows["history"].to_pylist(), strict=True)
    return [Passage(side, text, turns(history)) for text, history in told]


def turns(history: str) -> tuple[Message, ...]:
    """Read a row's history: a JSON list of role and content."""
    try:
        read = json.loads(history or "[]")
        return tuple(Message(turn["role"], turn["content"]) for turn in read)
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"history {history[:60]!r}: no JSON list of role and content") from None


def _counts(asked: Sequence[Passage], found: Sequence[Description]) -> dict[str, Any]:
    kinds = Counter(each.failure.kind.value for each in found if each.failure)
    return {
        "failed": kinds.total(),
        "failures": dict(kinds),
        "retried": sum(each.tries > 1 for each in found),
        "not_ten": sum(len(each.sentences) != SENTENCES for each in found if not each.failure),
        "cut": sum(len(passage.text) > HEAD + TAIL for passage in asked),
    }


def _shard_table(rows: pa.Table, by_side: dict[Side, list[Description]]) -> pa.Table:
    """Tabulate descriptions: id, and for each side its sentences, tries, failure and detail."""
    import pyarrow as pa

    columns: dict[str, Any] = {"id": rows["id"]}
    for side, found in by_side.items():
        columns |= {
            side: pa.array([list(each.sentences) for each in found], pa.list_(pa.string())),
            f"{side}_tries": pa.array([each.tries for each in found], pa.int32()),
            f"{side}_failure": pa.array([e.failure and e.failure.kind.value for e in found], pa.string()),
            f"{side}_detail": pa.array([e.failure and e.failure.detail for e in found], pa.string()),
        }
    return pa.table(columns)


@dataclass(frozen=True, slots=True)
class Joined:
    """The sentences of one side, laid against the rows of the corpus."""

    texts: list[str]
    """All sentences, (P,)."""
    rows: NDArray[np.int64]
    """Row of each, (P,)."""


def read_described(run: RunDir, ids: pa.ChunkedArray) -> pa.Table:
    """Read all shards and put them into the order of ``ids``: row i is the description of ``ids[i]``.

    Raises:
        UsageError: a row stands in them twice, or not at all.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = map(shard_name, range(-(-len(ids) // SHARD_EXAMPLES)))
    described = pa.concat_tables([read_table(run.stage_path(n) / "described.parquet") for n in names])
    place = pc.index_in(ids, value_set=described["id"].combine_chunks())
    if len(described) != len(ids) or place.null_count:
        raise UsageError(f"{run.path}: its described rows are not those of the data; rerun with --fresh")
    return described.take(place)


def join(described: pa.Table, side: Side) -> Joined:
    """Flatten a side's sentences, each with the number of its row."""
    import pyarrow.compute as pc

    lists = described[side].combine_chunks()
    rows = np.asarray(pc.list_parent_indices(lists), dtype=np.int64)
    return Joined(pc.list_flatten(lists).to_pylist(), rows)


def failure_table(described: pa.Table) -> pa.Table:
    """List the texts without attributes: id, side, kind, detail."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tables = []
    for side in SIDES:
        missing = described.filter(pc.is_valid(described[f"{side}_failure"]))
        sides = pa.array([side] * len(missing), pa.string())
        names = {"id": "id", "kind": f"{side}_failure", "detail": f"{side}_detail"}
        table = pa.table({name: missing[column] for name, column in names.items()})
        tables.append(table.add_column(1, "side", sides))
    return pa.concat_tables(tables)
