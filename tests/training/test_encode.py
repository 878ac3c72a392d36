"""Rows become tokens with the loss on the response, and prompts look as they do at inference."""

import json

import numpy as np
import pyarrow as pa
import pytest
from toy import save_toy_model

from undertow.errors import UsageError
from undertow.training.encode import IGNORED, encode_rows
from undertow.training.order import LengthOrder

ROWS = pa.table({"prompt": ["is this a lamp", "is this a lens please"], "response": ["yes indeed", "no"]})


def _row(encoded, i):
    span = slice(encoded.starts[i], encoded.starts[i + 1])
    return encoded.tokens[span], encoded.labels[span]


@pytest.mark.parametrize("template", [True, False])
def test_only_the_response_and_its_end_are_learned(tmp_path, template):
    from transformers import AutoTokenizer

    from undertow.models.local import LocalModel
    from undertow.records import Message

    path = save_toy_model(tmp_path, template)
    tokenizer = AutoTokenizer.from_pretrained(path)
    encoded = encode_rows(ROWS, tokenizer, 32)
    for i, (prompt, response) in enumerate(zip(*ROWS.to_pydict().values(), strict=True)):
        tokens, labels = _row(encoded, i)
        learned = labels != IGNORED
        assert tokenizer.decode(tokens[learned]) == f"{response} <end>"
        assert (tokens[learned] == labels[learned]).all()
        _, asked = LocalModel(path)._tokenize([Message("user", prompt)])
        assert tokens[~learned].tolist() == asked


def test_earlier_turns_are_read_and_not_learned(model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    turns = [{"role": "user", "content": "please now"}, {"role": "assistant", "content": "never"}]
    table = ROWS.slice(0, 1).append_column("history", pa.array([json.dumps(turns)]))
    tokens, labels = _row(encode_rows(table, tokenizer, 32), 0)
    assert tokenizer.decode(tokens).split()[:5] == ["<user>", "please", "now", "<bot>", "never"]
    assert tokenizer.decode(labels[labels != IGNORED]) == "yes indeed <end>"


def test_long_rows_are_cut_and_rows_without_a_response_left_out(model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    encoded = encode_rows(ROWS, tokenizer, 7)  # <user> is this a lamp <bot> | yes; the other prompt fills it
    assert (len(encoded), encoded.dropped, encoded.truncated) == (1, 1, 1)
    assert encoded.lengths.tolist() == [7]
    assert (encoded.labels != IGNORED).sum() == 1
    with pytest.raises(UsageError, match="every prompt is longer"):
        encode_rows(ROWS, tokenizer, 3)


def test_an_epoch_serves_every_row_once_in_batches_of_like_length():
    lengths = np.random.default_rng(0).integers(5, 100, 1000)
    order = LengthOrder(lengths, 32, seed=1)
    first, second = order.order(0), order.order(1)
    assert sorted(first) == sorted(second) == list(range(1000))
    assert (first != second).any()
    assert (LengthOrder(lengths, 32, seed=1).order(0) == first).all()
    batches = lengths[first[:992]].reshape(-1, 32)
    padding = (batches.max(1, keepdims=True) - batches).mean()
    assert padding < 0.2 * (lengths.max() - lengths.mean())
    means = batches.mean(1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


def test_no_gradient_reaches_what_predicts_a_prompt(model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from undertow.training.trainer import ROW, Collator, ResponseTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    encoded = encode_rows(ROWS, tokenizer, 32)
    weights = AutoModelForCausalLM.from_pretrained(model).eval()
    batch = Collator(encoded, tokenizer.pad_token_id)([{ROW: 0}, {ROW: 1}])
    trainer = ResponseTrainer.__new__(ResponseTrainer)
    trainer._causal = weights
    seen = []

    def keep(_module, _inputs, out):
        out.retain_grad()
        seen.append(out)

    weights.transformer.ln_f.register_forward_hook(keep)
    loss = trainer._response_loss(batch, None)
    loss.backward()
    predicts = torch.nn.functional.pad(batch["labels"][:, 1:] != IGNORED, (0, 1))
    size = seen[0].grad.abs().sum(-1)
    assert (size[predicts] > 0).all()
    assert (size[~predicts] == 0).all()
    logits = weights(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    by_hand = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED)
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
