import io
import threading

import pytest
from rich.console import Console

from undertow.cli import progress as module
from undertow.cli.progress import Bars, Lines, terminal_progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    return clock


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(clock):
    stream = io.StringIO()
    with Lines(stream).task("embed", 1000) as task:
        for _ in range(100):
            clock.now += 0.12
            task.advance(10, "batch\x1b[2J")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("embed: 420 of 1,000 (42%) batch\\x1b[2J")
    assert lines[-1] == "embed: 1,000 of 1,000 (100%) in 12.0 s"


def test_what_is_over_in_two_seconds_says_nothing(clock):
    stream = io.StringIO()
    with Lines(stream).task("quick") as task:
        clock.now += 1.5
        task.advance(3)
    assert stream.getvalue() == ""


def test_lines_of_many_threads_stay_whole():
    stream = io.StringIO()
    lines = Lines(stream)
    threads = [threading.Thread(target=lambda: [lines.say("x" * 50) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(stream.getvalue().splitlines()) == {"x" * 50}


def test_a_terminal_gets_a_bar_that_goes_and_said_lines_that_stay(monkeypatch):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with module._rich_bars(console) as rich_bars:
        bars = Bars(rich_bars)
        with bars.task("train [bold]", 4) as task:
            task.advance(2, "loss [red]0.5")
            rich_bars.refresh()
        bars.say("trained [bold]well[/bold] \x1b[2J")
        assert not rich_bars.tasks
    shown = stream.getvalue()
    assert "train [bold]" in shown
    assert "2/4" in shown
    assert "loss [red]0.5" in shown
    assert "trained [bold]well[/bold] \\x1b[2J" in shown


def test_no_colour_is_obeyed_and_a_pipe_gets_plain_lines(monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal_progress() as progress:
        assert isinstance(progress, Lines)
        progress.say("hello")
        print("from a library")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "hello\nfrom a library\n"
