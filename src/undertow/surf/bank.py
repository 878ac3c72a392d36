"""Where prompts and attributes come from: an index, an attributes file, a prompt bank."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from undertow.data.read import conversation
from undertow.errors import UsageError
from undertow.models.base import ChatModel
from undertow.records import Message
from undertow.store.run import config_hash, file_hash
from undertow.store.tables import read_table
from undertow.surf.config import SurfConfig
from undertow.surf.generate import BankGenerator, Generator, Pool, Question
from undertow.surf.write import LLMGenerator


def pool_hash(attributes: Path | Pool) -> str:
    """Hash an attributes file, or the identity of an index (config and input hashes, not its shards).

    Raises:
        UsageError: there is nothing at ``attributes``.
    """
    if not isinstance(attributes, Path):
        return config_hash([list(attributes.texts), list(attributes.prompts or ())])
    identity = attributes / "config.json"
    return file_hash(identity if identity.is_file() else attributes)


def open_generator(
    model: ChatModel | None, attributes: Path | Pool, prompts: Path | None, config: SurfConfig
) -> Generator:
    """Open the pool and the generator over it: retrieval, or ``model`` where given.

    Raises:
        UsageError: no bank, an empty one, or attributes that no prompt can be checked for.
    """
    pool = _load(attributes) if isinstance(attributes, Path) else attributes
    name = attributes if isinstance(attributes, Path) else "the attribute pool"
    if model is not None:
        return LLMGenerator(model, pool.texts, pool.extractor, config.attributes, config.turns)
    if pool.extractor is None:
        raise UsageError(
            f"{name}: without an extractor the local generator cannot tell which prompts satisfy its "
            "attributes; give an index (`undertow index`) or --generator MODEL"
        )
    bank = _sampled(load_bank(prompts) if prompts else list(pool.prompts or ()), config)
    generator = BankGenerator.from_extractor(
        bank, pool.extractor, pool.texts, config.seed, config.probe_share, config.confirm_share
    )
    if not generator.texts:
        raise UsageError(
            f"{prompts or name}: none of its {len(generator)} prompts has an attribute of the pool"
        )
    return generator


def _load(path: Path) -> Pool:
    from undertow.attributes.pool import load_pool

    return load_pool(path)


def _sampled(prompts: Sequence[Question], config: SurfConfig) -> list[Question]:
    distinct = list(dict.fromkeys(prompts))
    if len(distinct) <= config.bank_limit:
        return distinct
    rows = np.random.default_rng([config.seed, 4]).choice(len(distinct), config.bank_limit, replace=False)
    return [distinct[row] for row in np.sort(rows)]


def load_bank(path: Path) -> list[Question]:
    """Read a bank: column ``prompt`` or ``messages`` of Parquet, the same of JSONL, or lines of text.

    Of messages the conversation up to the last user turn is asked; system turns are left out, for
    ``--system`` gives one to all.

    Raises:
        UsageError: missing, empty, or a row without a prompt, with its number.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such prompt bank")
    if path.suffix == ".parquet":
        rows: Iterable[Any] = _parquet_rows(path)
    else:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [_row(path, n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    prompts = [_question(row) for row in rows]
    for number, prompt in enumerate(prompts, start=1):
        if prompt is None:
            raise UsageError(
                f"{path}: row {number} has no prompt text; every row needs a non-empty `prompt`, or "
                "`messages` with a user turn"
            )
    if not prompts:
        raise UsageError(f"{path}: an empty prompt bank")
    return [prompt for prompt in prompts if prompt is not None]


def _parquet_rows(path: Path) -> list[Any]:
    table = read_table(path)
    for name in ("messages", "prompt"):
        if name in table.column_names:
            return list(table[name].to_pylist())
    raise UsageError(f"{path}: has neither a column `prompt` nor `messages`; found {table.column_names}")


def _row(path: Path, number: int, line: str) -> object:
    if ".jsonl" not in path.suffixes:
        return line
    try:
        row = json.loads(line)
    except ValueError:
        raise UsageError(f"{path}: line {number} is no JSON; every line is an object with `prompt`") from None
    return row.get("messages", row.get("prompt")) if isinstance(row, dict) else None


def _question(row: object) -> Question | None:
    """Return what a row asks; ``None`` where that is nothing."""
    if isinstance(row, str):
        return row if row.strip() else None
    turns = [
        Message("user" if turn["role"] == "user" else "assistant", turn["content"] or "")
        for turn in conversation(row) or []
        if turn["role"] in ("user", "assistant")
    ]
    while turns and turns[-1].role != "user":
        turns.pop()
    if not turns or not turns[-1].content.strip():
        return None
    return turns[-1].content if len(turns) == 1 else tuple(turns)
