import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from undertow.errors import UsageError
from undertow.store.run import RunDir, config_hash, file_hash, read_manifest

WORKER = """
import sys, time
from pathlib import Path
from undertow.store.run import RunDir
out = Path(sys.argv[1])
run = RunDir.open(out, "work", {"seed": 1})
if run.complete:
    print("complete")
    sys.exit()
def make(stage):
    def work(folder):
        with open(out.parent / "made.log", "a") as log:
            log.write(stage + "\\n")
        for part in range(20):
            (folder / f"{part}.txt").write_text(stage)
            time.sleep(0.002)
        return {"stage": stage, "parts": len(list(folder.iterdir()))}
    return work
results = [run.stage(name, "v1", make(name)) for name in ("a", "b", "c")]
run.finish("complete", {"results": results})
"""


def open_run(path, **changes):
    arguments = {
        "verb": "surf",
        "config": {"seed": 1, "inner": {"k": 5}},
        "inputs": {"data": "h1"},
        **changes,
    }
    return RunDir.open(path, **arguments)


def test_a_finished_run_tells_everything_needed_to_repeat_it(tmp_path):
    run = open_run(tmp_path / "run")
    assert read_manifest(run.path)["status"] == "running"
    assert not run.complete
    summary = run.finish("complete", {"counts": {"tried": 3, "scored": 2, "failed": 1}, "n": 2})
    assert summary == json.loads((run.path / "summary.json").read_text())
    assert summary["status"] == "complete"
    assert summary["out"] == str(tmp_path / "run")
    assert summary["counts"] == {"tried": 3, "scored": 2, "failed": 1}
    assert summary["usage"]["calls"] == 0
    assert summary["peak_mb"] > 1
    manifest = read_manifest(run.path)
    assert manifest["config"] == {"seed": 1, "inner": {"k": 5}}
    assert manifest["seeds"] == {"seed": 1}
    assert manifest["inputs"] == {"data": "h1"}
    assert {"python", "undertow", "numpy"} <= manifest["versions"].keys()
    again = open_run(tmp_path / "run")
    assert again.complete
    assert again.summary() == summary


def test_an_inconclusive_run_goes_on_when_it_is_rerun(tmp_path):
    open_run(tmp_path / "run").finish("inconclusive", {})
    run = open_run(tmp_path / "run")
    assert run.resumed
    assert not run.complete
    assert read_manifest(run.path)["status"] == "running"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"verb": "trace"}, 'verb is "surf" there and "trace" here'),
        ({"config": {"seed": 1, "inner": {"k": 9}}}, "inner.k is 5 there and 9 here"),
        ({"config": {"seed": 1, "inner": {"k": 5}, "new": True}}, "new is absent there and true here"),
        ({"inputs": {"data": "h2"}}, "its data had another content"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_run_in_the_folder_is_refused_with_the_difference(tmp_path, changes, named, finished):
    run = open_run(tmp_path / "run")
    if finished:
        run.finish("complete", {})
    before = sorted(entry.name for entry in run.path.iterdir())
    with pytest.raises(UsageError) as caught:
        open_run(tmp_path / "run", **changes)
    assert named in str(caught.value)
    assert "--fresh or another --out" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(entry.name for entry in run.path.iterdir()) == before


def test_fresh_replaces_a_run_of_ours(tmp_path):
    run = open_run(tmp_path / "run")
    run.stage("a", "k", lambda folder: (folder / "f").write_text("x"))
    (run.path / "rows.parquet").write_text("x")
    run.finish("complete", {})
    fresh = open_run(tmp_path / "run", verb="trace", fresh=True)
    assert not fresh.resumed
    assert sorted(entry.name for entry in fresh.path.iterdir()) == [".lock", "config.json"]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_somebody_else_is_never_touched(tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "manifest.json").write_text('{"name": "other tool"}')
    with pytest.raises(UsageError, match="no run directory of undertow"):
        open_run(tmp_path, fresh=fresh)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["manifest.json", "thesis.tex"]


def test_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("x")
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(UsageError, match="is a file or lies below one"):
            open_run(out)
    with pytest.raises(UsageError, match="not a run directory"):
        read_manifest(tmp_path)


def test_a_name_never_leads_out_of_the_run(tmp_path):
    run = open_run(tmp_path / "run")
    assert run.file("models/start/config.json").parent == run.path / "models" / "start"
    for name in ("../other", "/etc/passwd", "a/../../b"):
        with pytest.raises(UsageError, match="leads out"):
            run.file(name)
    with pytest.raises(ValueError, match="stage name"):
        run.stage("../a", "k", lambda folder: None)


def test_a_stage_is_made_once_for_each_key(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "x.txt").write_text(str(len(made)))
        return {"n": len(made), "pair": (1, 2)}

    run = open_run(tmp_path / "run")
    assert run.stage("a", "k1", make) == {"n": 1, "pair": [1, 2]}
    again = open_run(tmp_path / "run")
    assert again.stage("a", "k1", make) == {"n": 1, "pair": [1, 2]}
    assert len(made) == 1
    assert again.stage("a", "k2", make)["n"] == 2
    assert (again.stage_path("a") / "x.txt").read_text() == "2"


def test_a_stage_that_fails_leaves_no_result(tmp_path):
    run = open_run(tmp_path / "run")

    def half(folder):
        (folder / "half.txt").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run.stage("a", "k", half)
    assert not run.stage_path("a").exists()
    run.stage("a", "k", lambda folder: (folder / "whole.txt").write_text("whole"))
    assert sorted(entry.name for entry in run.stage_path("a").iterdir()) == ["done.json", "whole.txt"]


@pytest.mark.parametrize("milliseconds", [5, 60, 130])
def test_kill_at_any_moment_and_the_same_command_completes(tmp_path, milliseconds):
    command = [sys.executable, "-c", WORKER, str(tmp_path / "run")]
    child = subprocess.Popen(command)
    while not (tmp_path / "made.log").exists():
        time.sleep(0.002)
    time.sleep(milliseconds / 1000)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert read_manifest(tmp_path / "run")["status"] == "running"
    subprocess.run(command, check=True)
    run = RunDir.open(tmp_path / "run", "work", {"seed": 1})
    assert run.complete
    assert run.summary()["results"] == [{"stage": stage, "parts": 20} for stage in "abc"]
    made = (tmp_path / "made.log").read_text().split()
    assert len(made) <= 4, "only the stage that was interrupted is made again"
    run.close()
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "complete\n"


def test_two_processes_never_work_in_one_run(tmp_path):
    with open_run(tmp_path / "run").path.joinpath("held").open("w"):
        command = [sys.executable, "-c", WORKER, str(tmp_path / "run")]
        refused = subprocess.run(command, capture_output=True, text=True)
    assert f"another undertow process (pid {os.getpid()}) is working in it" in refused.stderr


def test_hashes_follow_content_only(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "x").write_text("same")
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b")
    assert file_hash(tmp_path / "a" / "deep" / "x") == file_hash(tmp_path / "b" / "deep" / "x")
    (tmp_path / "b" / "deep" / "x").write_text("other")
    assert file_hash(tmp_path / "a") != file_hash(tmp_path / "b")
    assert config_hash({"a": 1, "b": (2,)}) == config_hash({"b": [2], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})
    with pytest.raises(UsageError, match="no such file"):
        file_hash(tmp_path / "none")


def test_a_finished_run_whose_files_were_damaged_is_not_taken_for_whole(tmp_path):
    run = RunDir.open(tmp_path / "run", "index", {})
    run.file("deep").mkdir()
    run.file("deep/a.npy").write_bytes(b"x" * 100)
    run.file("page.html").write_text("page")
    run.finish("complete", {})
    run.file("page.html").write_text("a page that was written again")
    RunDir.open(tmp_path / "run", "index", {}).close()
    for damage in (lambda file: file.write_bytes(b"x" * 50), Path.unlink):
        damage(run.file("deep/a.npy"))
        with pytest.raises(UsageError, match=r"a\.npy: damaged .*--fresh"):
            RunDir.open(tmp_path / "run", "index", {})
    RunDir.open(tmp_path / "run", "index", {}, fresh=True).close()


def test_a_run_with_a_broken_manifest_is_still_ours_and_can_start_afresh(tmp_path):
    run = RunDir.open(tmp_path / "run", "index", {})
    run.finish("complete", {})
    run.file("manifest.json").write_text("{")
    with pytest.raises(UsageError, match="not valid JSON"):
        RunDir.open(tmp_path / "run", "index", {})
    run.close()
    RunDir.open(tmp_path / "run", "index", {}, fresh=True).close()
