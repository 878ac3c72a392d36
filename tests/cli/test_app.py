import json
import os
import signal
import subprocess
import sys
import time

import pytest

from undertow import __version__
from undertow.cli.app import main

VERBS = """
import os, signal, sys, time
from pathlib import Path
import typer
from undertow.cli.options import AsJson, Out, Seed
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress
from undertow.errors import InconclusiveError, UsageError

def command(what: str, out: Out = Path("run"), seed: Seed = 0, as_json: AsJson = False) -> None:
    "Do what is asked."
    if what == "usage":
        raise UsageError("data.jsonl:3: no text\\x1b[2J; give one")
    if what == "unsure":
        raise InconclusiveError("half of the calls failed")
    if what == "crash":
        raise ValueError("key sk-canary-123456")
    if what == "disk":
        raise OSError(28, "No space left on device", "rows.parquet")
    if what == "wait":
        print("waiting", flush=True)
        time.sleep(60)
    if what == "flood":
        for _ in range(100000):
            print("line of output")
        return
    with terminal_progress() as progress:
        print("a library says hello")
        progress.say("searching \\u202e")
        with progress.task("work", 3) as task:
            for _ in range(3):
                task.advance(note="[bold]n[/bold]")
    summary = {"status": what, "seed": seed, "out": str(out), "text": "[red]x[/red] \\x1b[31m \\u202e"}
    render = lambda s: [f"seed {s['seed']} {s['text']}", table(["a", "n"], [(s["text"], 0.12345)])]
    emit(summary, as_json, render)
"""
RUN = "import sys; from undertow.cli.app import main; sys.exit(main(verbs=[('work', 'some_verbs')]))"


@pytest.fixture
def verbs(tmp_path, monkeypatch):
    (tmp_path / "some_verbs.py").write_text(VERBS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_verbs", raising=False)
    return [("work", "some_verbs")]


def child(tmp_path, *arguments, **options):
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen([sys.executable, "-c", RUN, *arguments], env=environment, text=True, **options)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["work", "usage"], 2, r"error: data.jsonl:3: no text\x1b[2J; give one"),
        (["work", "unsure"], 3, "error: half of the calls failed"),
        (["work", "disk"], 1, "error: rows.parquet: No space left on device"),
        (["work"], 2, "error: Missing argument 'what'."),
        (
            ["work", "complete", "--seed", "x"],
            2,
            "error: Invalid value for '--seed': Input should be a valid integer",
        ),
        (["nonsense"], 2, "error: No such command 'nonsense'."),
        (["--nonsense"], 2, "error: No such option: --nonsense"),
    ],
)
def test_every_fault_is_one_line_and_its_exit_code(verbs, capsys, arguments, code, line):
    assert main(arguments, verbs) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(line)
    assert shown.err.count("\n") == 1


def test_an_unexpected_error_hides_its_traceback_and_any_secret(verbs, capsys, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-canary-123456")
    assert main(["work", "crash"], verbs) == 1
    assert capsys.readouterr().err == (
        "error: unexpected ValueError: key *** (UNDERTOW_DEBUG=1 shows where; please report it)\n"
    )
    monkeypatch.setenv("UNDERTOW_DEBUG", "1")
    assert main(["work", "crash"], verbs) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "sk-canary" not in shown


@pytest.mark.parametrize(("status", "code"), [("complete", 0), ("inconclusive", 3), ("failed", 1)])
def test_json_alone_is_on_stdout_and_the_status_is_the_exit_code(verbs, capsys, status, code):
    assert main(["work", status, "--seed", "7", "--json"], verbs) == code
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert summary["seed"] == 7
    assert summary["text"] == "[red]x[/red] \x1b[31m \u202e"
    assert "a library says hello" in shown.err
    assert "searching \\u202e" in shown.err


def test_untrusted_text_is_shown_as_it_is(verbs, capsys):
    assert main(["work", "complete"], verbs) == 0
    shown = capsys.readouterr().out
    assert "seed 0 [red]x[/red] \\x1b[31m \\u202e" in shown
    assert "0.123" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_help_and_version(verbs, capsys):
    assert main(["--version"], verbs) == 0
    assert capsys.readouterr().out == f"undertow {__version__}\n"
    for arguments in (["--help"], [], ["-h"]):
        assert main(arguments, verbs) == 0
        assert "Do what is asked." in capsys.readouterr().out


@pytest.fixture
def ctrl_c():
    """Children hear Ctrl-C even where a shell started the tests in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_tells_that_the_same_command_goes_on(verbs, tmp_path, number):
    process = child(tmp_path, "work", "wait", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors == "stopped; the same command goes on\n"


def test_a_closed_pipe_is_no_error(verbs, tmp_path):
    process = child(tmp_path, "work", "flood", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(30) == 141
    assert errors == ""
    process.stderr.close()


def test_import_and_help_load_nothing_heavy():
    heavy = (
        "numpy scipy torch transformers pandas pyarrow duckdb faiss pydantic_ai altair datasets statsmodels"
    )
    for statement in ("import undertow", "from undertow.cli import main; main(['--help'])"):
        probe = f"import sys; {statement}; print(sorted(set({heavy.split()}) & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", statement
