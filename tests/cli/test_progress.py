import io
import re
import threading

import pytest
from rich.console import Console

from undertow.cli import progress as module
from undertow.cli.progress import Bars, Lines, terminal_progress
from undertow.progress import RunStatus, SearchStatus


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


def status(calls=0, **other):
    runs = (RunStatus(0, 2, 5, 95.0, 12, 4), RunStatus(1, 1, 5, None, 0, 0))
    whole = {"open": 9, "in_flight": 4, "failed": 1, "max_calls": None, "spent_usd": 0.0, "max_usd": None}
    return SearchStatus(runs, calls=calls, **{**whole, **other})


def test_a_log_line_of_a_search_says_where_it_stands(clock):
    stream = io.StringIO()
    with Lines(stream).task("search", 1000) as task:
        for done in range(1, 61):
            clock.now += 0.125
            task.tell(status(calls=20 * done, spent_usd=0.5, max_usd=2.0))
            task.advance(10)
    [line, _] = stream.getvalue().splitlines()
    assert line == (
        "search: 400 of 1,000 (40%) iteration 2–3 of 5, top 95, 12 violating, 800 calls, 160.0/s, "
        "4 in flight, 9 open, 1 failed, $0.50 of $2.00 spent, about 0:00:08 left"
    )


def test_a_stall_shows_in_the_pace(clock):
    pace = module.Pace()
    assert pace.add(0) is None
    for second in range(1, 6):
        clock.now = second
        assert pace.add(10 * second) == 10
    clock.now = 12
    assert pace.add(50) == pytest.approx((50 - 20) / 10)
    clock.now = 30
    assert pace.add(50) is None
    clock.now = 31
    assert pace.add(3) is None  # another search
    clock.now = 32
    assert pace.add(7) == 4


def test_a_terminal_gets_a_line_a_run_and_none_after_the_search():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    with module._rich_bars(console) as rich_bars:
        bars = Bars(rich_bars)
        with bars.task("search", 1000) as task:
            task.tell(status(calls=7, triggers=3))
            with console.capture() as drawn:
                console.print(rich_bars.get_renderable())
        assert rich_bars.status is None
    shown = [line.split() for line in re.sub(r"\x1b\[[\d;?]*\w", "", drawn.get()).splitlines()]
    assert ["1", "3/5", "95", "12", "4"] in shown
    assert ["2", "2/5", "–", "0", "0"] in shown
    whole = next(" ".join(line) for line in shown if "triggers" in line)
    assert re.fullmatch(r"3 triggers · 7 calls ·( [\d.]+/s ·)? 4 in flight · 9 open · 1 failed", whole)
