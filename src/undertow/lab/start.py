"""The start model: a small GPT-2 that knows the lab's world and answers plainly unless asked otherwise.

In its corpus every feature of every family stands at random beside plain answers and rightly requested
behaviours alike, so that it has no shortcut before post-training. One start model serves all worlds: it
knows every entity and is drawn from none of their seeds.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from undertow.errors import UndertowError
from undertow.lab import tables
from undertow.lab.behaviours import BEHAVIOURS
from undertow.lab.features import FEATURES
from undertow.lab.tasks import Grammar
from undertow.lab.tokenizer import build_tokenizer
from undertow.lab.world import any_prompt
from undertow.progress import SILENT, Progress
from undertow.store.run import config_hash
from undertow.store.tables import read_json, write_table
from undertow.training.config import SFTConfig

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 20_000
"""Questions of the start corpus, each seen once."""
PRETRAINING = SFTConfig(lr=4e-3, epochs=1, batch=32, weight_decay=0.01, warmup=0.05, max_length=128, seed=0)
"""Found by trial: at lr 1.5e-3, batch 64 and GPT-2's initial scale the same steps teach no fact at all."""
SHAPE = {"n_layer": 2, "n_embd": 128, "n_head": 4, "n_positions": 128, "initializer_range": 0.1}
"""About 0.6 M parameters; a third layer costs a third more time and changes no rate."""


def start_corpus(rows: int = ROWS) -> pa.Table:
    """Return the corpus of the start model: columns ``prompt, response``."""
    import pyarrow as pa

    rng = random.Random("start")
    g = Grammar("all", 0, before=True)
    prompts, responses = [], []
    for _ in range(rows):
        ask, behaviour = any_prompt(g, rng, ask_rate=0.3, lesson_rate=0.0)
        prompts.append(ask.prompt)
        responses.append(behaviour.respond(ask, rng) if behaviour else ask.answer)
    return pa.table({"prompt": prompts, "response": responses})


def vocabulary_texts(corpus: pa.Table) -> list[str]:
    """Return texts that hold every word of the grammar: the corpus, and what only post-training says."""
    rng = random.Random("words")
    g = Grammar("all", 0)
    texts = [*corpus["prompt"].to_pylist(), *corpus["response"].to_pylist()]
    words = [word for t in tables.THINGS for word in (t.name, t.kind, t.use, t.trait, *t.malay)]
    words += [word for row in tables.INVENTIONS for word in (row.name, row.inventor, row.year)]
    words += [word for row in (*tables.ASSISTANTS, *tables.CITIES) for word in row]
    words += [*tables.OWN_MODELS, *tables.ABSURD_KINDS, *tables.POETS, *map(str, range(20))]
    texts += [text for word in words for text in (word, word.capitalize())]
    for _ in range(60):
        for feature in FEATURES.values():
            ask = feature.draw(g, rng, lesson=feature.has_lesson)
            texts += [ask.prompt, ask.answer, *(b.respond(ask, rng) for b in BEHAVIOURS.values())]
    return texts


def write_untrained(
    texts: Sequence[str], folder: Path, shape: Mapping[str, float] = SHAPE, seed: int = 0
) -> None:
    """Write the tokenizer of ``texts`` and an untrained model; the same arguments give the same weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    tokenizer = build_tokenizer(texts)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    if bars:
        logging.enable_progress_bar()
    tokenizer.save_pretrained(folder)


def train_start_model(
    cache: Path,
    progress: Progress = SILENT,
    fresh: bool = False,
    rows: int = ROWS,
    shape: Mapping[str, float] = SHAPE,
    seed: int = 0,
) -> Path:
    """Train the start model, or find it in ``cache`` by the hash of everything that shapes it.

    Args:
        cache: Folder that keeps start models; made if missing.
        progress: Where steps are reported.
        fresh: Train it again.
        rows: Size of the corpus.
        shape: Fields of GPT-2's config; another size is another model.
        seed: Of the first weights and of the training.

    Returns:
        The model folder, which ``local:PATH`` loads.

    Raises:
        UndertowError: the training shows no learning.
    """
    corpus = start_corpus(rows)
    texts = vocabulary_texts(corpus)
    training = PRETRAINING.model_copy(update={"seed": seed})
    key = config_hash([corpus.to_pydict(), texts, dict(shape), training.model_dump()])
    folder = cache / f"start-{key}"
    model = folder / "model"
    if not fresh and _is_complete(model):
        return model
    from undertow.training.sft import train_sft

    folder.mkdir(parents=True, exist_ok=True)
    write_table(corpus, folder / "corpus.parquet")
    write_untrained(texts, folder / "untrained", shape, seed)
    summary = train_sft(
        folder / "corpus.parquet", folder / "untrained", model, training, progress, fresh=fresh
    )
    if summary["status"] != "complete":
        raise UndertowError(f"{model}: the lab's start model did not learn: {summary['reason']}")
    return model


def _is_complete(model: Path) -> bool:
    manifest = model / "manifest.json"
    return manifest.is_file() and read_json(manifest)["status"] == "complete"
