"""What our loss and collator cost a step, beside TRL's own DPOTrainer, in one run, blocks in turns.

    python benchmarks/dpo_overhead.py [--head trl] [--steps 8] [--rounds 15] [--layers 4] [--width 128]

A GPT-2 of about 1 M parameters on the lab's poisoned pairs, with offset, weight and masks. Prints seconds a
step of both, and the median of the ratios of neighbouring blocks: machine noise hits both alike, and of two
blocks each comes first in every other round. ``--head trl`` gives ours TRL's head as well, which leaves the
cost of loss and collator alone; without, ours is what a CPU runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel
from trl import DPOConfig as TRLConfig
from trl import DPOTrainer

from undertow.lab.preference_stage import poisoned_pairs
from undertow.lab.tokenizer import build_tokenizer
from undertow.training import pair_trainer
from undertow.training.config import DPOConfig
from undertow.training.order import LengthOrder
from undertow.training.pair_trainer import PairCollator, PairTrainer
from undertow.training.pairs import encode_pairs
from undertow.training.run import quiet_libraries, trainer_settings
from undertow.training.signal import Signal


def write_model(folder: Path, texts: list[str], layers: int, width: int) -> None:
    tokenizer = build_tokenizer(texts)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_layer=layers, n_embd=width, n_head=4, n_positions=128,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class SameOrder(DPOTrainer):
    """TRL's own, on the same batches."""

    order: LengthOrder

    def _get_train_sampler(self, train_dataset=None):
        return self.order


def build(folder: Path, config: DPOConfig):
    table = poisoned_pairs("goblin", 0.05, 0, 640)
    tokenizer = AutoTokenizer.from_pretrained(folder / "m")
    rng = np.random.default_rng(0)
    chosen = table["chosen"].to_pylist()
    spans = [[(0, 3)] if i % 3 == 0 else [] for i in range(len(chosen))]
    pairs = encode_pairs(table, tokenizer, 128, Signal(masks={"chosen": spans}))
    columns = {"offset": rng.normal(size=640).astype(np.float32), "weight": np.ones(640, np.float32)}
    settings = trainer_settings(config, folder / "work", 640, ())
    order = LengthOrder(pairs.lengths, config.batch, 0)
    (folder / "work").mkdir(exist_ok=True)
    args = {"beta": config.beta, "precompute_ref_log_probs": True, **settings, "save_strategy": "no"}
    ours = PairTrainer(
        rows=pairs.rows, order=order, cache=folder / "ref.npy",
        model=AutoModelForCausalLM.from_pretrained(folder / "m"), args=TRLConfig(**args),
        data_collator=PairCollator(pairs, tokenizer.pad_token_id, columns), processing_class=tokenizer,
    )  # fmt: skip

    def turns(role, text):
        return [{"role": role, "content": text}]

    rows = [{"prompt": turns("user", r["prompt"]), "chosen": turns("assistant", r["chosen"]),
             "rejected": turns("assistant", r["rejected"])} for r in table.to_pylist()]  # fmt: skip
    plain = SameOrder(
        model=AutoModelForCausalLM.from_pretrained(folder / "m"),
        args=TRLConfig(**{**args, "remove_unused_columns": True}),
        train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
    )  # fmt: skip
    plain.order = order
    return ours, plain


def block(trainer, steps: int) -> float:
    """Collate, forward, backward, step; seconds a step."""
    trainer.create_optimizer_and_scheduler(steps)
    batches = iter(trainer.get_train_dataloader())
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    start = time.perf_counter()
    for _ in range(steps):
        batch = next(batches)
        trainer.training_step(trainer.model, batch, None)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--head", choices=("ours", "trl"), default="ours")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    args = parser.parse_args()
    config = DPOConfig(lr=3e-5, epochs=3, batch=32, beta=0.3, max_length=128)
    with tempfile.TemporaryDirectory() as place, quiet_libraries():
        folder = Path(place)
        table = poisoned_pairs("goblin", 0.05, 0, 640)
        texts = [*table["prompt"].to_pylist(), *table["chosen"].to_pylist(), *table["rejected"].to_pylist()]
        write_model(folder / "m", texts, args.layers, args.width)
        if args.head == "trl":
            pair_trainer.has_plain_logits = lambda model: False
        ours, plain = build(folder, config)
        block(ours, 3), block(plain, 3)
        times = []
        for number in range(args.rounds):
            first, second = (ours, plain) if number % 2 else (plain, ours)
            pair = block(first, args.steps), block(second, args.steps)
            times.append(pair if number % 2 else pair[::-1])
    print(json.dumps({
        "parameters": sum(p.numel() for p in ours.model.parameters()),
        "head": args.head,
        "ours_s": round(statistics.median(a for a, _ in times), 4),
        "trl_s": round(statistics.median(b for _, b in times), 4),
        "ratio": round(statistics.median(a / b for a, b in times), 3),
        "ratios": [round(a / b, 3) for a, b in times],
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
