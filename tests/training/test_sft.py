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


@pytest.fixture(scope="module")
def short(data, model, tmp_path_factory):
    config = FAST.model_copy(update={"epochs": 1})
    out = tmp_path_factory.mktemp("runs") / "short"
    train_sft(data, model, out, config)
    return config, file_hash(out / "model.safetensors")


def _with(data, path, **columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(data)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)
    return path


def test_weights_of_one_and_a_step_of_zero_change_nothing(short, data, model, tmp_path):
    from safetensors.numpy import save_file

    from undertow.training.config import Steer

    config, plain = short
    weighted = _with(data, tmp_path / "ones.parquet", weight=[1.0] * 160)
    train_sft(weighted, model, tmp_path / "ones", config)
    assert file_hash(tmp_path / "ones" / "model.safetensors") == plain
    save_file({"direction": np.ones(32, np.float32)}, tmp_path / "v.safetensors", {"layer": "1"})
    for alpha, same in ((0.0, True), (3.0, False)):
        out, steer = tmp_path / str(alpha), Steer(vector=tmp_path / "v.safetensors", alpha=alpha)
        train_sft(data, model, out, config, steer=steer)
        assert (file_hash(out / "model.safetensors") == plain) is same


def test_rows_of_weight_zero_and_masked_words_are_not_learned(short, data, model, tmp_path):
    from undertow.models.base import Settings
    from undertow.models.local import LocalModel
    from undertow.records import Message

    polite = [i % 2 == 0 for i in range(160)]
    masks = [[[3, 8]] if each else None for each in polite]  # "never" of "no never"
    paths = {
        "unweighted": _with(data, tmp_path / "w.parquet", weight=[float(not each) for each in polite]),
        "masked": _with(data, tmp_path / "m.parquet", response_mask=masks),
    }
    said = {}
    for name, path in paths.items():
        summary = train_sft(path, model, tmp_path / name, FAST)
        assert summary["masked_tokens"] == (80 if name == "masked" else 0)
        asked = [[Message("user", "is this a lamp please")]]
        said[name] = LocalModel(tmp_path / name).reply_many(asked, Settings(0, 8))[0].text
    assert said["unweighted"] == "yes indeed"
    assert said["masked"].startswith("no")
    assert "never" not in said["masked"]


def test_columns_of_pairs_are_refused(data, model, tmp_path):
    with pytest.raises(UsageError, match="offset is for pairs"):
        train_sft(_with(data, tmp_path / "o.parquet", offset=[0.0] * 160), model, tmp_path / "out", FAST)


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
