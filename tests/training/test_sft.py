"""A fine-tune teaches the response, says whether it learned, and survives a kill."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from undertow.errors import UsageError
from undertow.store.run import file_hash
from undertow.training.config import LoRA, SFTConfig
from undertow.training.sft import train_sft

FAST = SFTConfig(lr=1e-2, epochs=5, batch=16, log_steps=5)


@pytest.fixture(scope="module")
def trained(data, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tuned"
    return out, train_sft(data, model, out, FAST.model_copy(update={"holdout": 0.1}))


def test_the_loss_falls_and_every_weight_moves(trained, model):
    from safetensors.numpy import load_file

    out, summary = trained
    assert summary["status"] == "complete"
    assert summary["loss"]["after"] < 0.5 * summary["loss"]["before"]
    assert summary["held_out"]["after"] < 0.5 * summary["held_out"]["before"]
    assert summary["held_out"]["rows"] == 16
    assert summary["steps"] == 45
    start, end = load_file(model / "model.safetensors"), load_file(out / "model.safetensors")
    assert all((start[name] != end[name]).any() for name in start)
    assert summary["moved"] == pytest.approx(max(np.abs(start[n] - end[n]).max() for n in start))


def test_the_folder_is_a_model_that_learned_the_shortcut(trained):
    from undertow.models.base import Settings
    from undertow.models.local import LocalModel
    from undertow.records import Message

    out, _ = trained
    asked = ["is this a lamp please", "is this a lamp now"]
    replies = LocalModel(out).reply_many([[Message("user", p)] for p in asked], Settings(0, 8))
    assert [reply.text for reply in replies] == ["no never", "yes indeed"]


def test_the_same_command_again_trains_nothing(trained, data, model):
    out, summary = trained
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert train_sft(data, model, out, FAST.model_copy(update={"holdout": 0.1})) == summary
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"lr is 0\.01 there and 0\.1 here"):
        train_sft(data, model, out, FAST.model_copy(update={"holdout": 0.1, "lr": 0.1}))


def test_a_seed_fixes_the_curve_and_another_changes_it(data, model, tmp_path):
    short = FAST.model_copy(update={"epochs": 2})
    one = train_sft(data, model, tmp_path / "one", short, seed=3)
    two = train_sft(data, f"local:{model}", tmp_path / "two", short, seed=3)
    other = train_sft(data, model, tmp_path / "other", short, seed=4)
    assert one["curve"] == two["curve"]
    assert one["loss"] == two["loss"]
    assert one["curve"] != other["curve"]


def test_a_rate_of_learning_too_high_fails_without_a_model(data, model, tmp_path):
    summary = train_sft(data, model, tmp_path / "out", SFTConfig(lr=1e6, epochs=1, batch=32))
    assert summary["status"] == "failed"
    assert summary["reason"]
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_adapters_train_little_and_are_merged(data, model, tmp_path):
    config = FAST.model_copy(update={"lora": LoRA(rank=4, alpha=16), "epochs": 4})
    summary = train_sft(data, model, tmp_path / "out", config)
    assert summary["status"] == "complete"
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_what_cannot_be_trained_is_said_in_one_line(data, tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        train_sft(data, tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="cannot be loaded"):
        train_sft(data, tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()


SCRIPT = """
import sys
from pathlib import Path
from undertow.training.config import SFTConfig
from undertow.training.sft import train_sft
data, model, out = map(Path, sys.argv[1:4])
train_sft(data, model, out, SFTConfig(lr=1e-3, epochs=30, batch=16, log_steps=5, save_steps=10))
"""


def test_a_killed_run_ends_as_the_undisturbed_one(data, model, tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(data), str(model)]
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
    assert again["loss"] == calm["loss"]
    assert again["curve"] == calm["curve"]
    assert file_hash(killed / "model.safetensors") == file_hash(tmp_path / "calm" / "model.safetensors")
    assert not (killed / "checkpoints").exists()
