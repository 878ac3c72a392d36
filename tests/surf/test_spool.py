"""What a search asked is on disk, not in memory, and is read back as it was."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surf_world import RUBRIC, ScriptedModel, WordPool

from undertow.progress import SILENT
from undertow.records import Candidate, Failure, FailureKind, Message, Reply, Sample, Verdict
from undertow.surf.ask import Tally
from undertow.surf.config import SurfConfig
from undertow.surf.run import run_surf
from undertow.surf.seen import Seen
from undertow.surf.spool import Spool

texts = st.text(max_size=20)
failures = st.builds(Failure, st.sampled_from(FailureKind), texts)
replies = st.builds(
    Reply,
    texts,
    st.sampled_from(("stop", "length", "filter", "tool", "unknown")),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.none() | st.floats(0, 10),
)
verdicts = st.builds(Verdict, st.floats(0, 100), st.booleans(), texts, texts)
turns = st.lists(st.builds(Message, st.sampled_from(("user", "assistant")), texts), min_size=1, max_size=3)
candidates = st.builds(
    Candidate, st.uuids().map(str), turns.map(tuple), st.tuples(texts), st.tuples(), st.just(0), st.just(3)
)
samples = st.one_of(
    st.builds(lambda c, f: Sample(c, f, f), candidates, failures),
    st.builds(Sample, candidates, replies, verdicts | failures, st.integers(0, 5)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(samples, max_size=4)), max_size=6))
def test_samples_come_back_lane_by_lane_as_they_were(parts: list[tuple[int, list[Sample]]]):
    with Spool() as spool:
        for lane, part in parts:
            spool.add(lane, part)
        inorder = [sample for lane in range(4) for its, part in parts if its == lane for sample in part]
        assert list(spool) == inorder
        assert len(spool) == len(inorder)
        assert spool.tally == Tally().add(inorder)
        ids = {sample.candidate.id for sample in inorder[::2]}
        assert list(spool.pick(ids)) == [sample for sample in inorder if sample.candidate.id in ids]


def test_half_a_character_is_no_reason_to_lose_a_search():
    cut = Candidate("a", (Message("user", "a\ud83d"),), (), (), 0, 0)
    with Spool() as spool:
        spool.add(0, [Sample(cut, Reply("b\ud83d", "length"), Verdict(1.0, False))])
        [back] = spool
    assert back.candidate.prompt == "a\ufffd"
    assert back.reply == Reply("b\ufffd", "length")


@pytest.mark.parametrize("algorithm", ["surf", "archive"])
def test_a_search_keeps_no_sample_in_memory_but_those_of_an_iteration(tmp_path: Path, algorithm: str):
    held = []

    class Watching(type(SILENT)):
        def say(self, line: str) -> None:
            if "looking for" in line:  # said between search and confirmation
                held.append(sum(type(thing) is Sample for thing in gc.get_objects()))

    config = SurfConfig(algorithm=algorithm, runs=2, iterations=20, candidates=20, concurrency=4)
    model = ScriptedModel(lambda p: 0.2)
    before = sum(type(thing) is Sample for thing in gc.get_objects())
    summary = run_surf(model, RUBRIC, WordPool(), tmp_path / "run", config, progress=Watching())
    assert summary["counts"]["scored"] == 800
    assert held[0] - before <= 2 * 20


def test_what_was_seen_is_known_by_its_text():
    seen = Seen(["a", "b"])
    seen.add("a")
    assert len(seen) == 2
    assert "a" in seen
    assert "c" not in seen
