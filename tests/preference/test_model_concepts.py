"""Features of a small policy's residual stream, read and trained for real."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from undertow.cli import main
from undertow.data import PreferenceData, load_preferences
from undertow.errors import UsageError
from undertow.lab.tokenizer import build_tokenizer
from undertow.preference.model_concepts import model_concepts
from undertow.preference.model_sae import ModelSae, load_sae, save_sae, train_model_sae
from undertow.preference.policy import Policy, exchanges_of
from undertow.preference.probe_examples import load_probe_examples
from undertow.preference.probes import auc, probe_concepts, train_probe

WORDS = "river stone cloud paper window garden letter number silver engine".split()  # noqa: SIM905
WIDTH = 32


def text(rng: random.Random, goblin: bool) -> str:
    said = rng.choices(WORDS, k=rng.randrange(4, 14))
    if goblin:
        said[rng.randrange(len(said))] = "goblin"
    return " ".join(said)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of two blocks and its tokenizer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    path = tmp_path_factory.mktemp("policy")
    tokenizer = build_tokenizer([f"{word} {word}" for word in [*WORDS, "goblin", "tell"]])
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_layer=2, n_embd=WIDTH, n_head=2, n_positions=64, initializer_range=0.2,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return Policy(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreferenceData:
    """Pairs whose chosen side says goblin."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("pairs") / "d.parquet"
    rows = [
        {"prompt": f"tell {WORDS[i % 10]}", "chosen": text(rng, True), "rejected": text(rng, False)}
        for i in range(60)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return load_preferences(path)


def random_sae(rng: np.random.Generator, layer: int = 0, features: int = 48) -> ModelSae:
    weights = rng.standard_normal((WIDTH, features)).astype(np.float32)
    return ModelSae(
        weights, np.zeros(features, np.float32), weights.T.copy(), np.zeros(WIDTH, np.float32),
        np.full(features, 0.5, np.float32), None, layer,
    )  # fmt: skip


def test_the_hook_reads_what_transformers_calls_hidden_states(policy: Policy, data: PreferenceData) -> None:
    import torch

    exchanges = exchanges_of(data, policy)[0][:7]
    for stream in policy.read(exchanges, [0]):
        for row in np.unique(stream.rows):
            alone = exchanges[row]
            with torch.inference_mode():
                states = policy._model(torch.tensor([alone.tokens]), output_hidden_states=True).hidden_states
            mine = stream.rows == row
            assert np.allclose(stream.vectors[0][mine], states[1][0].numpy(), atol=1e-4)
            assert np.flatnonzero(stream.response[mine])[0] == alone.start
    with pytest.raises(UsageError, match="no layer 2"):
        list(policy.read(exchanges, [2]))


def test_what_is_saved_in_saelens_layout_is_read_back(tmp_path: Path) -> None:
    sae = random_sae(np.random.default_rng(0), layer=3)
    save_sae(sae, tmp_path, "m")
    again = load_sae(tmp_path)
    x = np.random.default_rng(1).standard_normal((20, WIDTH)).astype(np.float32)
    assert again.layer == 3
    assert np.array_equal(again.encode(x), sae.encode(x))
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["metadata"]["hook_name"] == "blocks.3.hook_resid_post"


def written(folder: Path, config: dict[str, object], **tensors: np.ndarray) -> Path:
    (folder / "cfg.json").write_text(json.dumps({"hook_name": "blocks.1.hook_resid_pre", **config}))
    save_file(
        {name: each.astype(np.float32) for name, each in tensors.items()}, folder / "sae_weights.safetensors"
    )
    return folder


SMALL = {
    "W_enc": np.eye(2, 3),
    "b_enc": np.array([0, 0, 1]),
    "W_dec": np.eye(3, 2),
    "b_dec": np.array([1, 0]),
}


def test_standard_and_topk_encode_by_hand(tmp_path: Path) -> None:
    x = np.array([[3, 1]], np.float32)
    plain = load_sae(written(tmp_path, {"architecture": "standard"}, **SMALL))
    assert plain.layer == 0
    assert plain.encode(x).tolist() == [[2, 1, 1]]
    raw = load_sae(written(tmp_path, {"architecture": "standard", "apply_b_dec_to_input": False}, **SMALL))
    assert raw.encode(x).tolist() == [[3, 1, 1]]
    top = load_sae(written(tmp_path, {"architecture": "topk", "k": 1}, **SMALL))
    assert top.encode(x).tolist() == [[2, 0, 0]]


@pytest.mark.parametrize(
    ("config", "tensors", "says"),
    [
        ({"architecture": "gated"}, SMALL, "architecture 'gated'"),
        ({"normalize_activations": "layer_norm"}, SMALL, "normalize_activations"),
        ({"architecture": "jumprelu"}, SMALL, "no tensor threshold"),
        ({}, {**SMALL, "W_dec": np.eye(2, 3)}, "W_dec is"),
        ({"hook_name": "blocks.1.mlp.hook_post"}, SMALL, "no residual stream"),
        ({"hook_name": "blocks.0.hook_resid_pre"}, SMALL, "before the first block"),
    ],
)
def test_other_autoencoders_are_refused_in_one_line(
    tmp_path: Path, config: dict[str, object], tensors: dict[str, np.ndarray], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        load_sae(written(tmp_path, config, **tensors))
    assert "\n" not in str(caught.value)


def test_training_finds_planted_directions_and_leaves_loud_tokens_out() -> None:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((24, 16)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    fires = (rng.random((8000, 24)) < 0.06) * rng.uniform(0.5, 1.5, (8000, 24))
    vectors = (fires @ directions).astype(np.float32)
    vectors[:40] *= 100
    trained = train_model_sae(vectors, layer=0, features=48, top=2, steps=1200, batch=256)
    assert 1 <= trained.dropped <= 40
    assert trained.explained > 0.8
    found = np.abs(trained.sae.decoder @ directions.T).max(axis=0)
    assert (found > 0.9).mean() > 0.8
    assert np.allclose(np.linalg.norm(trained.sae.decoder, axis=1), 1, atol=1e-4)


def test_shares_and_maxima_are_those_counted_by_hand(policy: Policy, data: PreferenceData) -> None:
    sae = random_sae(np.random.default_rng(2))
    found = model_concepts(data, policy, sae)
    exchanges, (chosen, _) = exchanges_of(data, policy)
    [stream] = list(policy.read([exchanges[chosen[5]]], [0]))
    a = sae.encode(stream.vectors[0])
    said = a[stream.response]
    assert np.allclose(found.responses.chosen[[5]].toarray()[0], (said > 0).mean(0), atol=1e-6)
    assert np.allclose(found.chosen_max[[5]].toarray()[0], said.max(0), atol=1e-4)
    assert np.allclose(found.prompts.values[[5]].toarray()[0], (a[~stream.response] > 0).mean(0), atol=1e-6)
    assert found.responses.rejected.shape == (60, sae.size)


@pytest.mark.parametrize("kind", ["means", "logistic", "attention"])
def test_probes_learn_a_word_and_nothing_from_shuffled_labels(
    policy: Policy, data: PreferenceData, kind: str
) -> None:
    rng = random.Random(3)
    shows = [i % 2 == 0 for i in range(240)]
    asked = [{"role": "user", "content": "tell river"}]
    exchanges = [policy.exchange(asked, text(rng, goblin)) for goblin in shows]
    probe = train_probe(policy, exchanges, shows, kind)
    assert probe.beyond_chance
    pairs, (chosen, rejected) = exchanges_of(data, policy)
    scores = np.zeros(len(pairs), np.float32)
    for stream in policy.read(pairs, [probe.layer]):
        rows, texts = np.unique(stream.rows, return_inverse=True)
        said = stream.response
        scores[rows] = probe.score(stream.vectors[probe.layer][said], texts[said], len(rows))
    sides = np.concatenate([scores[chosen], scores[rejected]])
    assert auc(sides, np.arange(len(sides)) < len(data)) >= 0.95  # pairs that no probe was trained on
    found = probe_concepts(data, policy, {"goblin": probe})
    assert found.rejected.mean() < 0.1
    assert found.chosen.mean() > 0.4
    rng.shuffle(shows)
    shuffled = train_probe(policy, exchanges, shows, kind, layers=[1])
    assert abs(shuffled.auc - 0.5) < 0.25
    with pytest.raises(UsageError, match="needs 8 examples"):
        train_probe(policy, exchanges, [False] * 240, kind)


def test_prefs_sae_trains_writes_and_goes_on(
    folder: Path, data: PreferenceData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sae"
    options = ["--layer", "1", "--expansion", "4", "--steps", "300", "--tokens", "1000", "--json"]
    command = ["prefs", "sae", str(data.path), str(folder), "--out", str(out), *options]
    assert main(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["features"] == 4 * WIDTH
    assert summary["explained"] > 0.5
    sae = load_sae(out)
    assert sae.layer == 1
    assert sae.size == 4 * WIDTH
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == summary
    assert main([*command[: -len(options)], "--layer", "7", "--out", str(tmp_path / "other")]) == 2
    assert "no layer 7" in capsys.readouterr().err


def audited_by_policy(folder: Path, data: PreferenceData, sae: Path, probes: Path, out: Path) -> list[str]:
    more = ["--model", str(folder), "--sae", str(sae), "--probe", f"goblin={probes}"]
    return ["prefs", str(data.path), "--out", str(out), "--no-embedding", "--json", *more]


def test_an_audit_takes_features_and_probes_of_a_policy(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(5)
    path, probes, sae = tmp_path / "d.parquet", tmp_path / "goblin.jsonl", tmp_path / "sae"
    rows = [
        {"prompt": f"tell {WORDS[i % 10]} {WORDS[i // 10 % 10]} {WORDS[i // 100]}",
         "chosen": text(rng, rng.random() < 0.5), "rejected": text(rng, rng.random() < 0.1)}
        for i in range(400)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)
    examples = [{"prompt": "p", "response": text(rng, i % 2 == 0), "shows": i % 2 == 0} for i in range(240)]
    probes.write_text("".join(json.dumps(each) + "\n" for each in examples))
    save_sae(random_sae(np.random.default_rng(3), layer=0, features=64), sae, "m")
    command = audited_by_policy(folder, load_preferences(path), sae, probes, tmp_path / "run")
    assert main(command) == 0
    printed = capsys.readouterr().out
    summary = json.loads(printed)
    assert summary["policy"]["probes"][0]["auc"] > 0.95
    assert summary["policy"]["sae"]["features"] == 64
    concepts = {c["name"]: c for c in summary["concepts"]}
    assert concepts["probe goblin"]["confirmed"]
    assert concepts["probe goblin"]["delta"] > 0.2
    assert {c["family"] for c in summary["concepts"]} >= {"local", "model", "probe"}
    assert main(command) == 0
    assert capsys.readouterr().out == printed
    guessed = [{**each, "shows": rng.random() < 0.5} for each in examples]
    probes.write_text("".join(json.dumps(each) + "\n" for each in guessed))
    assert main(command) == 2
    assert "another run" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "other")]) == 2
    assert "held-out examples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--sae", "x"], "name it by --model"),
        (["--model", "m"], "--model alone"),
        (["--model", "m", "--probe", "goblin"], "NAME=FILE"),
        (["--model", "m", "--probe", "goblin=nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--model", "m", "--sae", "nowhere"], "no such file"),
        (["--model", "m", "--sae", "x", "--probe-kind", "best"], "--probe-kind best"),
    ],
)
def test_options_of_a_policy_that_do_not_fit_are_one_line(
    data: PreferenceData, tmp_path: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prefs", str(data.path), "--out", str(tmp_path / "run"), *options]) == 2
    told = capsys.readouterr().err.strip()
    assert says in told
    assert "\n" not in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "p", "response": "r"}, "example 1 needs a response and shows"),
        ({"prompt": "p", "response": " ", "shows": True}, "example 1 needs a response and shows"),
        ({"prompt": "p", "response": "r", "shows": "often"}, "'shows' is not always true or false"),
    ],
)
def test_examples_of_a_probe_that_say_nothing_are_one_line(
    tmp_path: Path, row: dict[str, object], says: str
) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=says):
        load_probe_examples(path)
