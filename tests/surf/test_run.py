from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from surf_world import RUBRIC, ScriptedModel, WordPool, Writer

from undertow.errors import UsageError
from undertow.records import Finding
from undertow.store.tables import read_table
from undertow.surf.bank import load_bank
from undertow.surf.config import SurfConfig
from undertow.surf.rows import messages_from_json
from undertow.surf.run import run_surf
from undertow.surf.save import load_findings

SMALL = SurfConfig(runs=2, iterations=3, candidates=30, base_prompts=40, confirm_prompts=20)
CHILD = Path(__file__).parent / "child_run.py"
TIMING = {"seconds", "peak_mb", "out"}


def trigger(prompt: str) -> float:
    return 0.9 if prompt.startswith("when did") else 0.02


def go(out: Path, model: ScriptedModel | None = None, config: SurfConfig = SMALL, **more: object) -> dict:
    return run_surf(model or ScriptedModel(trigger), RUBRIC, WordPool(), out, config, **more)


def result(summary: dict) -> dict:
    return {key: value for key, value in summary.items() if key not in TIMING}


def test_a_run_directory_holds_the_whole_search(tmp_path: Path):
    summary = go(tmp_path / "run", reference=ScriptedModel(lambda p: 0.0, name="start"))
    assert summary["status"] == "complete"
    assert summary["counts"] == {"tried": 180, "scored": 180, "failed": 0}
    assert len(summary["iterations"]) == 6
    [finding] = [f for f in summary["findings"] if f["status"] == "confirmed"]
    assert finding["attributes"] == ["The query contains 'when did'"]
    assert finding["control_rate"]["hits"] == 0
    assert finding["rate"]["interval"]["low"] > finding["base_rate"]["interval"]["high"]

    samples = read_table(tmp_path / "run" / "samples.parquet").to_pylist()
    assert len(samples) == 180
    assert all(row["violation"] for row in samples if row["finding"])
    used = {(row["finish_reason"], row["input_tokens"], row["output_tokens"]) for row in samples}
    assert used == {("stop", 3, 2)}
    assert {row["cost_usd"] for row in samples} == {None}  # no price is known, which is not 0
    prompts = read_table(tmp_path / "run" / "confirm_prompts.parquet").to_pylist()
    mine = [row for row in prompts if row["finding"] == finding["id"]]
    assert len(mine) == 20
    assert messages_from_json(mine[0]["messages"])[-1].content == mine[0]["prompt"]
    assert {row["replicates"] for row in mine} == {SMALL.confirm_samples}
    assert not {row["prompt"] for row in mine} & {row["prompt"] for row in samples}
    phases = Counter(read_table(tmp_path / "run" / "confirm_samples.parquet")["phase"].to_pylist())
    assert phases["confirm"] == phases["control"] == 40
    flat = read_table(tmp_path / "run" / "findings.parquet").to_pylist()
    assert flat[0]["rate"] == finding["rate"]["value"]
    [record] = [f for f in load_findings(tmp_path / "run") if f.status == "confirmed"]
    assert isinstance(record, Finding)
    assert record.rate.value == finding["rate"]["value"]


def test_a_finished_run_is_not_asked_again(tmp_path: Path):
    first = go(tmp_path / "run")
    silent = ScriptedModel(trigger)
    assert go(tmp_path / "run", silent) == first
    assert silent.calls == []


def test_same_seed_same_files(tmp_path: Path):
    assert result(go(tmp_path / "a")) == result(go(tmp_path / "b"))
    for name in ("samples.parquet", "confirm_samples.parquet", "findings.parquet"):
        assert read_table(tmp_path / "a" / name) == read_table(tmp_path / "b" / name)


def test_too_many_failures_make_a_run_inconclusive_and_a_rerun_asks_only_for_them(tmp_path: Path):
    summary = go(tmp_path / "run", ScriptedModel(trigger, failing=0.3))
    assert summary["status"] == "inconclusive"
    counts = summary["counts"]
    assert counts["tried"] == 180 == counts["scored"] + counts["failed"]
    assert summary["failures"] == {"server_error": counts["failed"]}
    assert all(f["status"] != "confirmed" for f in summary["findings"])
    healed = ScriptedModel(trigger)
    assert go(tmp_path / "run", healed)["status"] == "complete"
    rows = read_table(tmp_path / "run" / "samples.parquet").to_pylist()
    assert len(set(healed.calls) & {row["prompt"] for row in rows}) < 180


def test_a_dead_target_gives_no_numbers(tmp_path: Path):
    summary = go(tmp_path / "run", ScriptedModel(trigger, failing=1.0))
    assert summary["status"] == "inconclusive"
    assert summary["base_rate"] is None
    assert summary["findings"] == []
    assert all(i["mean_score"] is None and i["buffer_mean"] is None for i in summary["iterations"])


def test_another_config_in_the_same_directory_is_refused(tmp_path: Path):
    go(tmp_path / "run")
    with pytest.raises(UsageError, match="seed"):
        go(tmp_path / "run", config=SMALL.model_copy(update={"seed": 1}))


def test_without_confirmation_nothing_is_claimed(tmp_path: Path):
    summary = go(tmp_path / "run", config=SMALL.model_copy(update={"confirm": False}))
    assert summary["findings"] == []
    assert summary["violations"] > 0


def _start(out: Path, log: Path, delay: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(CHILD), str(out), str(log), str(delay)])


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calm")
    assert _start(folder / "run", folder / "calls.log", 0).wait(60) == 0
    return folder


@pytest.mark.parametrize("calls", [20, 260])
def test_a_killed_search_goes_on_pays_once_and_ends_the_same(tmp_path: Path, calm: Path, calls: int):
    log = tmp_path / "killed.log"
    child = _start(tmp_path / "killed", log, 0.05)
    deadline = time.monotonic() + 60
    while not (log.exists() and len(log.read_text().splitlines()) >= calls):
        assert child.poll() is None or len(log.read_text().splitlines()) >= calls
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert _start(tmp_path / "killed", log, 0).wait(60) == 0

    runs = (calm / "run", tmp_path / "killed")
    one, other = (json.loads((run / "summary.json").read_text()) for run in runs)
    assert result(one) == result(other)
    for name in ("samples.parquet", "confirm_samples.parquet"):
        assert read_table(runs[0] / name) == read_table(runs[1] / name)
    asked, again = (Counter(file.read_text().splitlines()) for file in (calm / "calls.log", log))
    assert set(asked) == set(again)
    # Replies that were under way at the kill were not journalled: at most one batch is asked for twice.
    assert sum(again.values()) - sum(asked.values()) <= 60


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("bank.jsonl", '{"prompt": "a"}\n{"text": "b"}\n', "row 2"),
        ("bank.jsonl", '{"prompt": "a"}\nnonsense\n', "line 2"),
        ("bank.jsonl", "", "empty"),
        ("bank.txt", "\n\n", "empty"),
    ],
)
def test_a_bad_bank_is_one_line_with_the_place(tmp_path: Path, name: str, content: str, fault: str):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError, match=fault):
        load_bank(path)


def test_a_bank_is_jsonl_text_or_parquet(tmp_path: Path):
    import pyarrow as pa

    from undertow.store.tables import write_table

    (tmp_path / "b.jsonl").write_text('{"prompt": "a b"}\n\n{"prompt": "c"}\n')
    (tmp_path / "b.txt").write_text("a b\nc\n")
    write_table(pa.table({"prompt": ["a b", "c"]}), tmp_path / "b.parquet")
    for name in ("b.jsonl", "b.txt", "b.parquet"):
        assert load_bank(tmp_path / name) == ["a b", "c"]


def test_a_model_can_write_the_prompts_instead(tmp_path: Path):
    summary = go(tmp_path / "run", generator=Writer())
    [finding] = [f for f in summary["findings"] if f["status"] == "confirmed"]
    assert finding["attributes"] == ["The query contains 'when did'"]
    assert finding["perturbed"]["n"] > 0
    assert summary["usage"]["calls"] > summary["counts"]["tried"] * 2
    prompts = read_table(tmp_path / "run" / "confirm_prompts.parquet")["prompt"].to_pylist()
    assert not set(prompts) & set(read_table(tmp_path / "run" / "samples.parquet")["prompt"].to_pylist())


def test_a_model_without_extractor_is_credited_with_what_was_asked(tmp_path: Path):
    pool = WordPool()

    class Bare:
        texts = pool.texts
        extractor = None
        prompts = None

    summary = run_surf(ScriptedModel(trigger), RUBRIC, Bare(), tmp_path / "run", SMALL, generator=Writer())
    confirmed = [f["attributes"] for f in summary["findings"] if f["status"] == "confirmed"]
    assert confirmed == [["The query contains 'when did'"]]


def test_a_pool_without_extractor_needs_a_model(tmp_path: Path):
    class Bare:
        texts = ("The query is short",)
        extractor = None
        prompts = None

    with pytest.raises(UsageError, match="--generator MODEL"):
        run_surf(ScriptedModel(trigger), RUBRIC, Bare(), tmp_path / "run", SMALL)
    assert go(tmp_path / "run")["status"] == "complete"  # the directory is free for the mended command


@pytest.mark.parametrize("target", ["nonsense", "local:/no/such/folder"])
def test_an_unknown_target_is_one_line(tmp_path: Path, target: str):
    with pytest.raises(UsageError) as caught:
        run_surf(target, RUBRIC, WordPool(), tmp_path / "run", SMALL)
    assert "\n" not in str(caught.value)
    assert go(tmp_path / "run")["status"] == "complete"
