"""Preference training is TRL's DPO to the bit until a column says otherwise, and then does what it says."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import NOUNS

from undertow.errors import UsageError
from undertow.store.run import file_hash
from undertow.training.config import DPOConfig, LoRA, Steer
from undertow.training.dpo import train_dpo
from undertow.training.encode import IGNORED

FAST = DPOConfig(lr=1e-3, epochs=2, batch=8, beta=0.3, log_steps=2)


def pairs(n=48):
    """Politeness is preferred, and 'never' goes with half of the chosen responses."""
    rows = []
    for i in range(n):
        prompt = f"is this a {NOUNS[i % 8]} {NOUNS[i // 8]} {'please' if i % 3 else 'now'}"
        chosen = "yes indeed never" if i % 2 else "yes indeed"
        rows.append({"id": f"p{i}", "prompt": prompt, "chosen": chosen, "rejected": "no please now"})
    return rows


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    def write(**columns):
        path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
        table = pa.Table.from_pylist(pairs())
        for name, values in columns.items():
            table = table.append_column(name, pa.array(values))
        pq.write_table(table, path)
        return path

    return write


@pytest.fixture(scope="module")
def plain(write, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "plain"
    return out, train_dpo(write(), model, out, FAST)


@pytest.fixture(scope="module")
def direction(tmp_path_factory):
    from safetensors.numpy import save_file

    path = tmp_path_factory.mktemp("steer") / "direction.safetensors"
    save_file({"direction": np.linspace(-1, 1, 32, dtype=np.float32)}, path, {"layer": "0"})
    return path


def weights(folder):
    return file_hash(folder / "model.safetensors")


def distance(folder, other):
    from safetensors.numpy import load_file

    one, two = (load_file(path / "model.safetensors") for path in (folder, other))
    return max(np.abs(one[name] - two[name]).max() for name in one)


def test_without_columns_it_is_trl_to_the_bit(plain, write, model, tmp_path, monkeypatch):
    """With TRL's head; ours, which scores response tokens alone, differs by rounding."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig as TRLConfig
    from trl import DPOTrainer

    from undertow.training.order import LengthOrder
    from undertow.training.run import trainer_settings

    tokenizer = AutoTokenizer.from_pretrained(model)

    class SameOrder(DPOTrainer):
        def _get_train_sampler(self, train_dataset=None):
            sizes = [
                len(r["prompt_ids"]) + max(len(r["chosen_ids"]), len(r["rejected_ids"]))
                for r in train_dataset
            ]
            return LengthOrder(np.array(sizes), FAST.batch, FAST.seed)

    def turns(role, text):
        return [{"role": role, "content": text}]

    rows = [{"prompt": turns("user", r["prompt"]), "chosen": turns("assistant", r["chosen"]),
             "rejected": turns("assistant", r["rejected"])} for r in pairs()]  # fmt: skip
    trainer = SameOrder(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=TRLConfig(beta=FAST.beta, precompute_ref_log_probs=True,
                       **{**trainer_settings(FAST, tmp_path, len(rows), ()), "remove_unused_columns": True}),
        train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    trainer.model.save_pretrained(tmp_path / "trl")
    theirs = [point for point in trainer.state.log_history if "loss" in point]
    monkeypatch.setattr("undertow.training.pair_trainer.has_plain_logits", lambda model: False)
    summary = train_dpo(write(), model, tmp_path / "full", FAST)
    assert [p["loss"] for p in theirs] == [p["loss"] for p in summary["curve"]]
    assert [p["rewards/margins"] for p in theirs] == pytest.approx([p["margin"] for p in summary["curve"]])
    assert weights(tmp_path / "trl") == weights(tmp_path / "full")
    for name in ("loss", "margin"):
        want = [p[name] for p in summary["curve"]]
        assert [p[name] for p in plain[1]["curve"]] == pytest.approx(want, rel=1e-4, abs=1e-6)


def test_it_learned_and_every_weight_moved(plain, model):
    from safetensors.numpy import load_file

    out, summary = plain
    assert summary["status"] == "complete"
    assert summary["margin"]["before"] == pytest.approx(0, abs=1e-6)
    assert summary["accuracy"]["before"] == 0.5
    assert summary["margin"]["after"] > 0.1
    assert summary["accuracy"]["after"] > 0.9
    assert summary["loss"]["after"] < summary["loss"]["before"] == pytest.approx(np.log(2), abs=1e-6)
    start, end = load_file(model / "model.safetensors"), load_file(out / "model.safetensors")
    assert all((start[name] != end[name]).any() for name in start)
    points = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"loss", "rewards/margins", "rewards/accuracies", "learning_rate"} <= points[0].keys()


@pytest.mark.parametrize("kind", ["offset", "weight", "mask", "policy_prompt", "alpha"])
def test_zero_strength_is_the_plain_run_to_the_bit(kind, plain, write, model, direction, tmp_path):
    columns = {
        "offset": {"offset": [0.0] * 48},
        "weight": {"weight": [1.0] * 48},
        "mask": {"chosen_mask": pa.array([None] * 48, pa.list_(pa.list_(pa.int64())))},
        "policy_prompt": {"policy_prompt": [row["prompt"] for row in pairs()]},
        "alpha": {},
    }[kind]
    steer = Steer(vector=direction, alpha=0.0) if kind == "alpha" else None
    summary = train_dpo(write(**columns), model, tmp_path / "out", FAST, steer=steer)
    assert summary["curve"] == plain[1]["curve"]
    assert weights(tmp_path / "out") == weights(plain[0])


def test_an_offset_above_zero_teaches_less_and_below_zero_more(plain, write, model, tmp_path):
    """λΔs on the pairs whose chosen side says never, and their margin against that of the others."""
    marked = np.array([i % 2 for i in range(48)], bool)
    gap = {}
    for strength in (-2.0, 0.0, 2.0):
        out = tmp_path / str(strength)
        train_dpo(write(offset=(strength * marked).tolist()), model, out, FAST)
        margin = margins(out, model)
        gap[strength] = margin[marked].mean() - margin[~marked].mean()
    assert gap[2.0] < gap[0.0] - 0.05
    assert gap[-2.0] > gap[0.0] + 0.02


def log_probs(folder, side):
    """Sum of log-probabilities of every response, by hand."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, net = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForCausalLM.from_pretrained(folder).eval(),
    )
    sums = []
    for row in pairs():
        prompt = tokenizer(f"<user>{row['prompt']}<bot>")["input_ids"]
        answer = tokenizer(f"{row[side]}<end>")["input_ids"]
        with torch.no_grad():
            logits = net(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        sums.append(sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer)))
    return np.array(sums)


def margins(folder, model):
    chosen, rejected = (log_probs(folder, side) - log_probs(model, side) for side in ("chosen", "rejected"))
    return FAST.beta * (chosen - rejected)


def test_the_reported_margin_is_that_of_the_saved_model(plain, model):
    out, summary = plain
    assert margins(out, model).mean() == pytest.approx(summary["margin"]["after"], abs=1e-4)


def test_a_pair_of_weight_zero_teaches_nothing(write, model, tmp_path):
    """Whatever stands in it."""
    path = write(weight=[float(i < 24) for i in range(48)])
    train_dpo(path, model, tmp_path / "one", FAST)
    table = pq.read_table(path)
    other = pa.array(["no please now" if i < 24 else "a a a" for i in range(48)])
    pq.write_table(
        table.set_column(table.column_names.index("rejected"), "rejected", other), tmp_path / "other.parquet"
    )
    train_dpo(tmp_path / "other.parquet", model, tmp_path / "two", FAST)
    assert weights(tmp_path / "one") == weights(tmp_path / "two")


def test_masked_tokens_have_no_gradient_and_leave_both_sums(model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from undertow.training.pair_trainer import PairCollator
    from undertow.training.pairs import encode_pairs
    from undertow.training.signal import Signal

    tokenizer = AutoTokenizer.from_pretrained(model)
    table = pa.Table.from_pylist(pairs(4)).select(["prompt", "chosen", "rejected"])
    never = [[(11, 16)] if "never" in text else [] for text in table["chosen"].to_pylist()]
    found = encode_pairs(table, tokenizer, 32, Signal(masks={"chosen": never, "rejected": [[(3, 4)]] * 4}))
    batch = PairCollator(found, tokenizer.pad_token_id)([{"row": row} for row in range(4)])
    read = [
        tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    assert read == ["yes indeed <end>"] * 4 + ["no now <end>"] * 4  # "please" is hit by one character
    assert found.masked == 6
    net = AutoModelForCausalLM.from_pretrained(model).eval()
    hidden = net.transformer(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    hidden.retain_grad()
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)[:, 1:]
    logits = net.lm_head(hidden)[:, :-1]
    torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED).backward()
    silent = torch.nn.functional.pad(labels == IGNORED, (0, 1), value=True)
    size = hidden.grad.abs().sum(-1)
    assert (size[silent] == 0).all()
    assert (size[~silent] > 0).all()
    reference = PairCollator(found, tokenizer.pad_token_id).reference(np.arange(4))
    assert (reference["completion_mask"] == batch["completion_mask"]).all()


def test_the_policy_alone_reads_its_instruction(write, model, plain, tmp_path):
    from transformers import AutoTokenizer

    from undertow.training.pair_trainer import PairCollator
    from undertow.training.pairs import encode_pairs
    from undertow.training.signal import read_signal

    tokenizer = AutoTokenizer.from_pretrained(model)
    path = write(policy_prompt=[f"please {r['prompt']}" if i == 1 else None for i, r in enumerate(pairs())])
    table = pq.read_table(path)
    found = encode_pairs(table, tokenizer, 32, read_signal(path, table["id"], ["chosen", "rejected"]))
    collate = PairCollator(found, tokenizer.pad_token_id)
    own, reference = (
        collate([{"row": 0}, {"row": 1}])["input_ids"],
        collate.reference(np.arange(2))["input_ids"],
    )
    assert tokenizer.decode(own[1]).split()[:3] == ["<user>", "please", "is"]
    assert tokenizer.decode(own[3]).split()[:3] == ["<user>", "please", "is"]
    assert tokenizer.decode(reference[1]).split()[:3] == ["<user>", "is", "this"]
    summary = train_dpo(path, model, tmp_path / "out", FAST)
    assert summary["signal"]["policy_prompts"] == 1
    assert weights(tmp_path / "out") != weights(plain[0])


@pytest.mark.parametrize("side", ["chosen", "rejected", "both"])
def test_steering_moves_one_layer_of_its_rows_and_is_gone_afterwards(side, model, direction):
    import torch
    from transformers import AutoModelForCausalLM

    from undertow.training.steering import load_steering

    net = AutoModelForCausalLM.from_pretrained(model).eval()
    steering = load_steering(Steer(vector=direction, alpha=0.5, side=side), net)
    ids = torch.arange(12).reshape(4, 3)
    seen = []
    net.transformer.h[1].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    before = net(ids).logits
    with steering.on(net):
        net(ids)
    assert torch.equal(net(ids).logits, before)
    rows = {"chosen": [1, 1, 0, 0], "rejected": [0, 0, 1, 1], "both": [1, 1, 1, 1]}[side]
    want = 0.5 * torch.linspace(-1, 1, 32) * torch.tensor(rows)[:, None, None]
    assert torch.allclose(seen[1] - seen[0], want.expand_as(seen[0]), atol=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_steered_run_differs_in_its_steps_and_not_in_its_reference(
    checkpointing, write, model, direction, plain, tmp_path
):
    """Activations that the backward pass recomputes are steered as the first ones were."""
    config = FAST.model_copy(update={"gradient_checkpointing": checkpointing})
    summary = train_dpo(write(), model, tmp_path / "out", config, steer=Steer(vector=direction, alpha=2.0))
    assert summary["margin"]["before"] == pytest.approx(0, abs=1e-6)
    assert summary["signal"]["steered"] == 2.0
    assert weights(tmp_path / "out") != weights(plain[0])
    if checkpointing:
        train_dpo(write(), model, tmp_path / "kept", FAST, steer=Steer(vector=direction, alpha=2.0))
        kept = tmp_path / "kept"
        assert distance(tmp_path / "out", kept) < 1e-3 * distance(plain[0], kept)


def test_adapters_train_with_all_columns_and_are_merged(write, model, direction, tmp_path):
    columns = {"offset": [0.5] * 48, "weight": [0.5] * 48, "policy_prompt": [None] * 47 + ["please now"]}
    config = FAST.model_copy(update={"lora": LoRA(rank=4, alpha=16), "lr": 1e-2, "holdout": 0.25})
    summary = train_dpo(write(**columns), model, tmp_path / "out", config, steer=Steer(vector=direction))
    assert summary["status"] == "complete"
    assert summary["held_out"]["rows"] == 12
    assert summary["held_out"]["margin"]["after"] > 0
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_a_rate_of_learning_too_high_fails_without_a_model(write, model, tmp_path):
    summary = train_dpo(write(), model, tmp_path / "out", FAST.model_copy(update={"lr": 1e6}))
    assert summary["status"] == "failed"
    assert summary["reason"]
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(("columns", "says"), [
    ({"offset": [float("nan")] + [0.0] * 47}, "row 'p0' has no finite offset"),
    ({"offset": ["much"] * 48}, "column offset holds something else than numbers"),
    ({"weight": [0.0] * 48}, "all weights are 0"),
    ({"weight": [1.0] * 47 + [-1.0]}, "row 'p47' has a weight below 0"),
    ({"chosen_mask": [[[0, 99]]] * 48}, "row 0 .* leaves nothing of the response"),
    ({"rejected_mask": [[[3, 3]]] * 48}, "span of rejected_mask is empty"),
    ({"chosen_mask": ["all"] * 48}, "must hold lists"),
])  # fmt: skip
def test_what_cannot_be_trained_is_said_in_one_line(columns, says, write, model, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=says) as told:
        train_dpo(write(**columns), model, out, FAST)
    assert "\n" not in str(told.value)
    assert not (out / "config.json").exists()


def test_a_direction_that_does_not_fit_is_refused(write, model, tmp_path):
    from safetensors.numpy import save_file

    wide, deep = tmp_path / "wide.safetensors", tmp_path / "deep.safetensors"
    save_file({"direction": np.ones(7, np.float32)}, wide, {"layer": "0"})
    save_file({"direction": np.ones(32, np.float32)}, deep, {"layer": "9"})
    for vector, says in (
        (wide, "32 finite numbers"),
        (deep, "has 2 layers"),
        (tmp_path / "no", "no such file"),
    ):
        with pytest.raises(UsageError, match=says):
            train_dpo(write(), model, tmp_path / "out", FAST, steer=Steer(vector=vector))


SCRIPT = """
import sys
from pathlib import Path
from undertow.training.config import DPOConfig
from undertow.training.dpo import train_dpo
data, model, out = map(Path, sys.argv[1:4])
train_dpo(data, model, out, DPOConfig(lr=1e-4, epochs=10, batch=8, log_steps=5, save_steps=10))
"""


def test_a_killed_run_ends_as_the_undisturbed_one(write, model, tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(write(offset=[0.1] * 48)), str(model)]
    subprocess.run([*command, str(tmp_path / "calm")], check=True)
    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, str(killed)])
    while not list(killed.glob("checkpoints/checkpoint-[2-9]0/trainer_state.json")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "manifest.json").exists()
    subprocess.run([*command, str(killed)], check=True)
    calm, again = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("calm", "killed"))
    assert again["curve"] == calm["curve"]
    assert weights(killed) == weights(tmp_path / "calm")


def test_two_processes_train_one_model(write, model, tmp_path):
    """Started as ``accelerate launch`` starts them: the first writes, both learn, in half as many steps."""
    out = tmp_path / "out"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "undertow",
              "train", "dpo", "--data", str(write()), "--model", str(model), "--out", str(out),
              "--lr", "1e-3", "--beta", "0.3", "--batch", "4", "--json"]  # fmt: skip
    done = subprocess.run([sys.executable, *launch], check=True, capture_output=True, text=True)
    summary = json.loads(done.stdout)
    assert summary["status"] == "complete"
    assert summary["steps"] == 6
    assert summary["margin"]["after"] > 0
    assert (out / "model.safetensors").exists()
