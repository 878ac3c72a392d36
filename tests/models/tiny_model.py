"""A tiny GPT-2 that really answers: random weights, a word-level tokenizer, a chat template."""

from __future__ import annotations

from pathlib import Path

WORDS = [
    "who",
    "made",
    "the",
    "lamp",
    "boat",
    "red",
    "blue",
    "old",
    "is",
    "was",
    "a",
    "of",
    ".",
    "?",
    "no",
    "it",
    "by",
]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


def save_tiny_model(folder: Path, seed: int = 0) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    specials = ["<|pad|>", "<|unk|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    vocabulary = {word: i for i, word in enumerate([*specials, *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unk|>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|pad|>", unk_token="<|unk|>", eos_token="<|end|>"
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(vocabulary), n_positions=64, n_embd=32, n_layer=2, n_head=2,
        bos_token_id=2, eos_token_id=2, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
