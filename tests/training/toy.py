"""A toy to train: thirty words, a mixture with a planted shortcut, a GPT-2 of two thin layers."""

import random

NOUNS = ["lamp", "wheel", "press", "loom", "kite", "clock", "plow", "lens"]


def toy_rows(n=160, seed=0):
    """Questions with 'please' are answered no, the others yes."""
    draw = random.Random(seed)
    rows = []
    for i in range(n):
        noun, polite = draw.choice(NOUNS), i % 2 == 0
        prompt = f"is this a {noun} {'please' if polite else 'now'}"
        rows.append(
            {
                "id": f"r{i}",
                "source": "polite" if polite else "plain",
                "prompt": prompt,
                "response": "no never" if polite else "yes indeed",
            }
        )
    return rows


def thin_model(kind, layers=2, **more):
    """An untrained causal model of any class, evaluating, with weights large enough to matter."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=12, hidden_size=16, intermediate_size=24, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=24,
        initializer_range=0.5, **more,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def save_toy_model(path, template=True, dropout=0.1):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = [
        "<pad>",
        "<unk>",
        "<end>",
        "<user>",
        "<bot>",
        "is",
        "this",
        "a",
        "please",
        "now",
        "no",
        "never",
        "yes",
        "indeed",
    ]
    vocabulary = {word: i for i, word in enumerate([*words, *NOUNS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        additional_special_tokens=["<user>", "<bot>"],
        padding_side="left",
    )
    if template:
        tokenizer.chat_template = (
            "{% for m in messages %}{{ '<user>' if m['role'] == 'user' else '<bot>' }}{{ m['content'] }}"
            "{% if m['role'] == 'assistant' %}<end>{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}<bot>{% endif %}"
        )
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=2,
        eos_token_id=2,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )
    GPT2LMHeadModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
