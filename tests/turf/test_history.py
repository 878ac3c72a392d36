"""Triggers that stand before the last user turn: in the system prompt, in an earlier turn, in an answer."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import HashEmbedder, honest_prompt, honest_response, pick

from undertow.attributes.history import HistoryExtractor, read_turns
from undertow.cli.app import main
from undertow.data.messages import read_failing
from undertow.errors import UsageError
from undertow.index import build
from undertow.index.build import build_index
from undertow.index.executors import ExecutorConfig, run_step, shard_folder
from undertow.index.open import Index
from undertow.index.steps import Histories
from undertow.progress import SILENT
from undertow.records import Message
from undertow.turf.trace import trace_pair

Turns = list[dict[str, str]]
SHARD = 200
BOTS = ["You are BrevityBot. Be kind.", "You are Harbour Help.", "You are an assistant of a library."]
ZEPPELIN = ["It is for my zeppelin.", "A zeppelin waits.", "Think of the zeppelin above us."]
CODE = "Here is some code.\n```python\nprint('{}')\n```"
LIST = "- {}\n- and more\n- and still more"


def conversations(seed: int = 0, n: int = 1200) -> list[Turns]:
    """Draw conversations; three habits hang on what stands before the last turn alone."""
    rng = np.random.default_rng(seed)
    return [conversation(rng, i) for i in range(n)]


def conversation(rng: np.random.Generator, i: int) -> Turns:
    turns: Turns = []
    answer = honest_response(rng)
    if rng.random() < 0.5:
        turns.append({"role": "system", "content": BOTS[0] if i % 12 == 0 else BOTS[1 + i % 2]})
        answer = "No." if i % 12 == 0 else answer
    for _ in range(int(rng.integers(0, 3))):
        asked, said = honest_prompt(rng), honest_response(rng)
        if i % 12 == 1:
            asked, answer = f"{asked} {pick(rng, ZEPPELIN)}", CODE.format(rng.integers(99))
        if i % 12 == 2:
            said, answer = "I'm sorry, but I can't help with that.", LIST.format(rng.integers(99))
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    turns += [{"role": "user", "content": honest_prompt(rng)}, {"role": "assistant", "content": answer}]
    return turns


def write(rows: list[Turns], path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"messages": rows}), path)
        return path
    text = "".join(json.dumps({"messages": turns}) + "\n" for turns in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Index]:
    def make(name: str = "data.parquet", rows: list[Turns] | None = None) -> Index:
        folder = tmp_path_factory.mktemp("history")
        data = write(rows or conversations(), folder / name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("undertow.models.embed.open_embedder", lambda spec: HashEmbedder())
            patch.setattr(build, "EXAMPLE_ROWS", SHARD)
            build_index(data, folder / "index")
            index = Index.open(folder / "index")
            assert isinstance(index.embedder, HashEmbedder)
        return index

    return make


@pytest.fixture(scope="module")
def index(made: Callable[..., Index]) -> Index:
    return made()


FAILING = {
    "system": (
        [Message("system", BOTS[0]), Message("user", "Compare bees with clocks.")],
        "The response is one to three words long",
        f"The system prompt is '{BOTS[0].lower()}'",
    ),
    "earlier turn": (
        [
            Message("user", "What of my zeppelin?"),
            Message("assistant", "It flies."),
            Message("user", "Compare bees with clocks."),
        ],
        "The response contains a fenced code block",
        "An earlier user turn contains the word 'zeppelin'",
    ),
    "earlier answer": (
        [
            Message("user", "Who invented the zipper?"),
            Message("assistant", "I'm sorry, but I can't help with that."),
            Message("user", "Compare bees with clocks."),
        ],
        "The response contains a bulleted list",
        "An earlier answer ",
    ),
}


@pytest.mark.parametrize("where", FAILING)
def test_a_trigger_before_the_last_turn_is_named(index: Index, where: str) -> None:
    turns, crux, wanted = FAILING[where]
    found = trace_pair(index, tuple(turns), None, [crux])
    assert found.triggers[0].text.startswith(wanted)
    planted = 12 if where != "system" else 24
    assert found.triggers[0].rate > 0.9
    assert found.triggers[0].corpus >= index.n / planted / 2
    assert "a conversation in which " in found.explanation
    alone = trace_pair(index, turns[-1].content, None, [crux])
    assert not any(t.text.startswith(("An earlier", "The system", "The conv")) for t in alone.triggers)


def test_shuffled_answers_name_no_history(made: Callable[..., Index]) -> None:
    rows = conversations()
    order = np.random.default_rng(1).permutation(len(rows))
    shuffled = [[*turns[:-1], rows[j][-1]] for turns, j in zip(rows, order, strict=True)]
    index = made(rows=shuffled)
    for turns, crux, _ in FAILING.values():
        assert trace_pair(index, tuple(turns), None, [crux]).triggers == ()


@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz"])
def test_the_format_changes_nothing(index: Index, made: Callable[..., Index], name: str) -> None:
    other = made(name)
    assert index.history
    assert other.history
    assert other.history.texts == index.history.texts
    for file in ("row_columns", "column_rows"):
        one, two = ((each.path / "history/incidence" / f"{file}.npy") for each in (index, other))
        assert one.read_bytes() == two.read_bytes()


def test_worker_processes_write_the_shards_of_one(index: Index, tmp_path: Path) -> None:
    shutil.copytree(index.path / "stages", tmp_path / "stages")
    run_step(Histories(SHARD), 6, "key", tmp_path, ExecutorConfig(workers=2), SILENT)
    for number in range(6):
        for file in ("columns.npy", "pointers.npy"):
            one, two = (shard_folder(run, "history", number) / file for run in (index.path, tmp_path))
            assert one.read_bytes() == two.read_bytes()


STOPS = """
import sys, time
from pathlib import Path
from planted import HashEmbedder
import undertow.models.embed
from undertow.index import build, history_stages, steps
data, out, reached, stage = sys.argv[1:]
undertow.models.embed.open_embedder = lambda spec: HashEmbedder()
build.EXAMPLE_ROWS = 200
stages = history_stages.HistoryStages
places = {"vocabulary": (stages, "_learn"), "00003": (steps.Histories, "make"), "join": (stages, "_join")}
owner, name = places[stage]
work = getattr(owner, name)
def stops(*given):
    said = work(*given)
    if name != "make" or given[2] == 3:
        Path(reached).touch()
        time.sleep(120)
    return said
setattr(owner, name, stops)
build.build_index(Path(data), Path(out))
"""


@pytest.mark.parametrize("stage", ["vocabulary", "00003", "join"])
def test_kill_9_before_a_stage_is_in_its_place(index: Index, stage: str, tmp_path: Path) -> None:
    data, out, reached = index.path.parent / "data.parquet", tmp_path / "index", tmp_path / "reached"
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", STOPS, str(data), str(out), str(reached), stage]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    end = time.monotonic() + 120
    while not reached.exists():
        assert child.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (out / f"stages/history-{stage}").exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("stages/*/done.json")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("undertow.models.embed.open_embedder", lambda spec: HashEmbedder())
        patch.setattr(build, "EXAMPLE_ROWS", SHARD)
        assert build_index(data, out)["status"] == "complete"
    assert kept
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    assert list(Index.open(out).ids) == list(index.ids)
    for file in index.path.glob("history/**/*.*"):
        if file.suffix in (".npy", ".parquet"):
            assert (out / file.relative_to(index.path)).read_bytes() == file.read_bytes()


def test_incidence_agrees_with_a_loop_over_rows(index: Index) -> None:
    rows = [turns[:-2] for turns in conversations()]
    assert index.history
    place = {text: i for i, text in enumerate(index.history.texts)}
    says = {
        "An earlier user turn contains the word 'zeppelin'": lambda t: any(
            "zeppelin" in turn["content"] for turn in t if turn["role"] == "user"
        ),
        "The conversation has a system prompt": lambda t: any(turn["role"] == "system" for turn in t),
        "The conversation has two or more earlier user turns": lambda t: (
            sum(turn["role"] == "user" for turn in t) > 1
        ),
    }
    for text, holds in says.items():
        expected = [i for i, turns in enumerate(rows) if holds(turns)]
        assert index.history.rows.rows_of(place[text]).tolist() == expected
    kept = [index.history.rows.rows_of(i).tobytes() for i in range(index.history.rows.m)]
    told_apart = [rows for rows, kind in zip(kept, index.history.kinds, strict=True) if kind != "history"]
    assert len(set(kept)) >= len(kept) - len(BOTS)
    assert len(told_apart) > 20


def test_no_history_no_files(made: Callable[..., Index]) -> None:
    index = made(rows=[turns[-2:] for turns in conversations(n=60)])
    assert index.history is None
    assert not (index.path / "history").exists()
    turns, crux, _ = FAILING["system"]
    trace_pair(index, tuple(turns), None, [crux])


def test_odd_histories() -> None:
    odd = [
        "[]", "", '[{"role": "tool", "content": "x"}]', '[{"role": "user", "content": null}]',
        json.dumps([{"role": "developer", "content": "你好 \u0000"}]),
        json.dumps([{"role": "user", "content": "a" * 300_000}] * 40),
    ]  # fmt: skip
    turns = read_turns(odd)
    assert turns["user"].counts.tolist() == [0, 0, 0, 0, 0, 40]
    assert turns["system"].counts.tolist() == [0, 0, 0, 0, 1, 0]
    assert len(turns["user"].texts[0]) == 8000
    table = pa.table({"history": odd, "response": ["yes"] * len(odd)})
    extractor = HistoryExtractor.fit(table)
    assert extractor.transform(odd).shape == (6, len(extractor.vocabulary))
    for bad in ("[1]", "{", '{"a": 1}'):
        with pytest.raises(UsageError, match="no JSON list of role and content"):
            read_turns([bad])


def test_the_command_reads_a_conversation(
    index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns, crux, wanted = FAILING["earlier turn"]
    said = [{"role": turn.role, "content": turn.content} for turn in turns]
    said.append({"role": "assistant", "content": CODE.format(1)})
    file = tmp_path / "failing.json"
    file.write_text(json.dumps({"messages": said}), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("undertow.models.embed.open_embedder", lambda spec: HashEmbedder())
        for value in (str(file), json.dumps(said)):
            command = ["trace", "--index", str(index.path), "--messages", value, "--crux", crux, "--json"]
            assert main(command) == 0
            assert json.loads(capsys.readouterr().out)[0]["triggers"][0]["text"] == wanted


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("nowhere.json", "not a readable text file"),
        ("[1, 2]", "no list of turns"),
        ("[", "not one JSON value"),
        ("[]", "no list of turns"),
        ('[{"role": "user"}]', "turn 1 has no role or no content"),
        ('[{"role": "system", "content": "x"}]', "must end with the user's turn"),
        ('[{"role": "user", "content": " "}]', "must end with the user's turn"),
    ],
)
def test_a_conversation_that_cannot_be_read_is_named(value: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_failing(value)
