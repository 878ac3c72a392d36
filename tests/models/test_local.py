from __future__ import annotations

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest

from undertow.errors import UsageError
from undertow.models.base import Settings
from undertow.models.decode import Row, continue_rows
from undertow.models.local import LocalModel
from undertow.records import Failure, FailureKind, Message, Reply
from undertow.store.journal import Journal

from .tiny_model import WORDS, save_tiny_model

SHORT = Settings(temperature=1.0, max_tokens=20, seed=3)


def ask(text: str) -> list[Message]:
    return [Message("user", text)]


def questions(n: int) -> list[list[Message]]:
    rng = random.Random(0)
    return [ask(" ".join(rng.choices(WORDS, k=rng.randint(2, 15)))) for _ in range(n)]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LocalModel:
    return LocalModel(tiny_model, batch=64, device="cpu")


def texts(replies: list[Reply | Failure]) -> list[str]:
    assert all(isinstance(reply, Reply) for reply in replies)
    return [reply.text for reply in replies if isinstance(reply, Reply)]


def test_a_request_alone_and_in_a_batch_of_64_gives_the_same_text(model: LocalModel) -> None:
    conversations = questions(64)
    together = texts(model.reply_many(conversations, SHORT))
    alone = [texts(model.reply_many([conversation], SHORT))[0] for conversation in conversations[:12]]
    assert together[:12] == alone
    assert len(set(together)) > 30


def test_greedy_ignores_the_replicate_and_sampling_does_not(model: LocalModel) -> None:
    same = [ask("who made the lamp ?")] * 8
    assert len(set(texts(model.reply_many(same, Settings(temperature=0, max_tokens=20), range(8))))) == 1
    assert len(set(texts(model.reply_many(same, SHORT, range(8))))) > 4
    assert texts(model.reply_many(same, SHORT, range(8))) == texts(model.reply_many(same, SHORT, range(8)))


def test_another_seed_gives_another_sample(model: LocalModel) -> None:
    one = texts(model.reply_many(questions(8), SHORT))
    assert one != texts(model.reply_many(questions(8), Settings(1.0, 20, seed=4)))


def test_greedy_agrees_with_transformers_generate(model: LocalModel) -> None:
    conversations = questions(6)
    ours = model.reply_many(conversations, Settings(temperature=0, max_tokens=12))
    for conversation, reply in zip(conversations, ours, strict=True):
        tokenizer = model._tokenizer
        turns = [{"role": m.role, "content": m.content} for m in conversation]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        made = model._model.generate(
            ids["input_ids"], attention_mask=ids["attention_mask"], max_new_tokens=12, do_sample=False
        )
        expected = tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert isinstance(reply, Reply)
        assert reply.text == expected


def test_sampled_frequencies_are_the_softmax(model: LocalModel) -> None:
    import torch

    tokens, n, temperature = [4, 6, 7, 5], 4000, 0.7
    rows = [Row(tokens, temperature, 1, seed) for seed in range(n)]
    made = continue_rows(model._model, rows, [])
    counts = np.bincount([row.tokens[0] for row in made], minlength=model._model.config.vocab_size)
    with torch.inference_mode():
        logits = model._model(torch.tensor([tokens])).logits[0, -1] / temperature
    expected = torch.softmax(logits, 0).numpy() * n
    z = (counts - expected) / np.sqrt(np.maximum(expected, 1))
    assert np.abs(z).max() < 4.5


def test_a_cut_reply_says_length_and_an_ended_one_stop(model: LocalModel) -> None:
    replies = [r for r in model.reply_many(questions(64), SHORT) if isinstance(r, Reply)]
    reasons = {reply.finish_reason for reply in replies}
    assert reasons == {"stop", "length"}
    assert all(reply.output_tokens == 20 for reply in replies if reply.finish_reason == "length")
    assert all(
        len(reply.text.split()) < reply.output_tokens for reply in replies if reply.finish_reason == "stop"
    )


def test_a_prompt_longer_than_the_context_is_a_failure_and_its_neighbours_answer(model: LocalModel) -> None:
    long, short = model.reply_many([ask("lamp " * 80), ask("who ?")], SHORT)
    assert isinstance(long, Failure)
    assert long.kind is FailureKind.REJECTED
    assert isinstance(short, Reply)


def test_a_row_that_fills_the_context_does_not_disturb_longer_running_neighbours(model: LocalModel) -> None:
    near = ask("word " * 60)
    short = [ask(f"word {i}") for i in range(9)]
    together = model.reply_many([near, *short], Settings(max_tokens=40), 0)
    alone = [model.reply_many([one], Settings(max_tokens=40), 0)[0] for one in (near, *short)]
    assert [reply.text for reply in together] == [reply.text for reply in alone]


def test_the_context_bounds_the_reply(model: LocalModel) -> None:
    replies = model.reply_many([ask("lamp " * 50)] * 6, Settings(1.0, 500), range(6))
    assert all(isinstance(r, Reply) and r.input_tokens + r.output_tokens <= 64 for r in replies)


async def test_concurrent_callers_get_what_reply_many_gives(model: LocalModel) -> None:
    conversations = questions(100)
    replies = await asyncio.gather(*(model.reply(c, SHORT) for c in conversations))
    assert texts(replies) == texts(model.reply_many(conversations, SHORT))


def test_the_model_serves_one_event_loop_after_another(model: LocalModel) -> None:
    first = asyncio.run(model.reply(ask("who ?"), SHORT))
    assert asyncio.run(model.reply(ask("who ?"), SHORT)) == first


def test_a_journalled_answer_is_read_and_not_made_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    model = LocalModel(tiny_model, journal=journal, device="cpu")
    before = model.reply_many(questions(10), SHORT)
    assert journal.counts() == {"target": 10}
    monkeypatch.setattr(model, "_decode", lambda _: pytest.fail("decoded again"))
    assert model.reply_many(questions(10), SHORT) == before


def test_the_name_follows_the_weights(tmp_path: Path) -> None:
    a = LocalModel(save_tiny_model(tmp_path / "a" / "m", 0), device="cpu").name
    again = LocalModel(save_tiny_model(tmp_path / "b" / "m", 0), device="cpu").name
    other = LocalModel(save_tiny_model(tmp_path / "c" / "m", 1), device="cpu").name
    assert a == again != other


async def test_an_error_in_decoding_reaches_every_caller(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LocalModel(tiny_model, device="cpu")

    def fail(_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(model, "_decode", fail)
    outcomes = await asyncio.gather(*(model.reply(q) for q in questions(3)), return_exceptions=True)
    assert all(isinstance(outcome, MemoryError) for outcome in outcomes)


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        LocalModel(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="cannot be loaded") as caught:
        LocalModel(tmp_path / "empty")
    assert "\n" not in str(caught.value)
