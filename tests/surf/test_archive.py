"""The archive search on planted targets: what it names, what it must not, and that it is repeatable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from surf_world import RUBRIC, ScriptedModel, WordPool, bank_generator, unit

from undertow.judging.judge import ChecksJudge
from undertow.models.base import Settings
from undertow.records import Candidate, Failure, FailureKind, Message, Reply, Verdict
from undertow.surf.archive import archive, in_flight
from undertow.surf.ask import Asker, failed, is_violation
from undertow.surf.belief import Belief, Ordinary
from undertow.surf.config import SurfConfig
from undertow.surf.diagnose import Diagnosis
from undertow.surf.generate import Draft
from undertow.surf.loop import Search
from undertow.surf.niches import Niches, fingerprint
from undertow.surf.pipeline import surf
from undertow.surf.pool import Entry
from undertow.surf.run import run_surf

Score = Callable[[set[int], float], float]
"""From the marks and a number in [0, 1) of the prompt's own."""


@dataclass
class Marks:
    """Attributes that prompts carry as marks, realised with probability 0.8; ``score`` of the marks ± 5."""

    m: int
    score: Score
    failing: float = 0.0
    name: str = "marks"
    texts: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.texts = [f"mark {a}" for a in range(self.m)]

    async def generate(self, wanted: Sequence[str], rng: np.random.Generator, avoid: object) -> Draft:
        realised = tuple(text for text in wanted if rng.random() < 0.8)
        prompt = f"{rng.integers(2**50)}: {' '.join(text.split()[1] for text in realised)}"
        return Draft((Message("user", prompt),), realised)

    def incidence(self, candidates: Sequence[Candidate]) -> csr_array:
        dense = np.zeros((len(candidates), self.m), dtype=np.int64)
        for row, candidate in enumerate(candidates):
            dense[row, sorted(self.held(candidate.prompt))] = 1
        return csr_array(dense)

    def held(self, prompt: str) -> set[int]:
        return {int(word) for word in prompt.split(":")[1].split()}

    async def reply(
        self, messages: Sequence[Message], settings: Settings, replicate: int = 0
    ) -> Reply | Failure:
        await asyncio.sleep(0)
        if unit("fail", messages[-1].content) < self.failing:
            return Failure(FailureKind.SERVER_ERROR, "503")
        return Reply("an answer", "stop")

    async def judge(self, prompt: str, response: str, rubric: object, history: object = ()) -> Verdict:
        score = float(
            np.clip(
                self.score(self.held(prompt), unit("luck", prompt)) + 10 * unit("noise", prompt) - 5, 0, 100
            )
        )
        return Verdict(score, score > 70)


def planted(singles: set[int], pairs: Sequence[set[int]] = ()) -> Score:
    def score(held: set[int], luck: float) -> float:
        if held & singles or any(pair <= held for pair in pairs):
            return 90.0
        return 35.0 if any(pair & held for pair in pairs) else 10.0

    return score


def go(marks: Marks, calls: int, seed: int = 0, concurrency: int | None = 1) -> Search:
    config = SurfConfig(
        algorithm="archive", runs=1, iterations=calls // 50, candidates=50, seed=seed, concurrency=concurrency
    )
    return asyncio.run(archive(Asker(marks, marks, RUBRIC, config), marks, config))


def named(found: Search) -> set[frozenset[int]]:
    return {frozenset(int(text.split()[1]) for text in trigger) for trigger in found.triggers}


SINGLES, PAIRS = {3, 50, 77, 120, 199}, [{10, 180}, {60, 61}, {90, 5}]
ALL = {frozenset([a]) for a in SINGLES} | {frozenset(pair) for pair in PAIRS}


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("seed", range(3))
def test_singles_and_pairs_are_named_and_nothing_else(seed: int, concurrency: int):
    assert named(go(Marks(200, planted(SINGLES, PAIRS)), 2_000, seed, concurrency)) == ALL


def test_each_named_trigger_leaves_enough_violating_prompts_to_be_proposed():
    marks = Marks(200, planted(SINGLES, PAIRS))
    found = go(marks, 2_000)
    for trigger in ALL:
        prompts = {s.candidate.prompt for s in found.samples if is_violation(s)}
        assert sum(trigger <= marks.held(prompt) for prompt in prompts) >= SurfConfig().min_hits


@pytest.mark.parametrize("seed", range(2))
def test_failures_neither_earn_credit_nor_hide_a_trigger(seed: int):
    found = go(Marks(200, planted(SINGLES, PAIRS), failing=0.3), 3_000, seed)
    missing = [s for s in found.samples if isinstance(s.verdict, Failure)]
    assert 0.25 < len(missing) / len(found.samples) < 0.35
    assert sum(i.failed for i in found.iterations) == len(missing)
    assert not {e.candidate for e in found.buffers[0]} & {s.candidate.id for s in missing}
    assert named(found) == ALL


def test_a_trigger_that_acts_on_half_its_prompts_is_named():
    found = go(Marks(100, lambda held, luck: 90.0 if 7 in held and luck < 0.5 else 10.0), 1_500)
    assert named(found) == {frozenset([7])}


class Beside(Marks):
    """Mark 3 stands in a fifth of all prompts, and in nine of ten that carry mark 50."""

    async def generate(self, wanted: Sequence[str], rng: np.random.Generator, avoid: object) -> Draft:
        draft = await super().generate(wanted, rng, avoid)
        there = rng.random() < (0.9 if "mark 50" in draft.realised else 0.2)
        if not there or "mark 3" in draft.realised:
            return draft
        return Draft((Message("user", f"{draft.prompt} 3"),), (*draft.realised, "mark 3"))


def test_a_wide_trigger_does_not_hide_a_narrow_one_that_mostly_comes_with_it():
    found = go(Beside(200, lambda held, luck: 90.0 if held & {3, 50} and luck < 0.9 else 10.0), 2_000)
    assert {frozenset([3]), frozenset([50])} <= named(found)


@pytest.mark.parametrize("m", [1, 2, 40])
def test_where_everything_violates_the_whole_budget_is_spent_and_little_is_named(m: int):
    found = go(Marks(m, lambda held, luck: 90.0), 500)
    assert sum(map(is_violation, found.samples)) == len(found.samples) == 500
    assert len(found.triggers) <= 2


@pytest.mark.parametrize("concurrency", [1, None])
def test_where_nothing_violates_nothing_is_named(concurrency: int | None):
    found = go(Marks(60, lambda held, luck: 10.0), 500, concurrency=concurrency)
    assert found.triggers == ()
    assert {i.violations for i in found.iterations} == {0}


def test_a_pool_of_one_trigger_is_named():
    assert named(go(Marks(1, planted({0})), 100)) <= {frozenset([0])}


def test_a_dead_target_gives_no_numbers():
    found = go(Marks(20, planted({3}), failing=1.0), 200)
    assert {(i.scored, i.mean_score, i.buffer_mean) for i in found.iterations} == {(0, None, None)}
    assert found.buffers == ((),)


def test_same_seed_same_search_other_seed_another():
    def ids(seed: int) -> list[tuple[str, str]]:
        found = go(Marks(200, planted(SINGLES, PAIRS)), 500, seed)
        return [(s.candidate.id, s.candidate.prompt) for s in found.samples]

    assert ids(0) == ids(0) != ids(1)


def test_no_more_candidates_are_in_flight_than_allowed():
    class Counting(Marks):
        now = most = 0

        async def reply(self, *args: object, **more: object) -> Reply:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            return Reply("an answer", "stop")

    for concurrency, most in ((1, 1), (4, 16)):
        marks = Counting(200, planted(SINGLES))
        go(marks, 200, concurrency=concurrency)
        assert marks.most == most == in_flight(SurfConfig(concurrency=concurrency))


def test_candidates_are_numbered_once_and_in_order():
    found = go(Marks(200, planted(SINGLES, PAIRS)), 500, concurrency=16)
    ids = [tuple(map(int, s.candidate.id.split("/"))) for s in found.samples]
    assert ids == [(0, block, place) for block in range(10) for place in range(50)]
    assert [(i.run, i.iteration, i.tried) for i in found.iterations] == [(0, t, 50) for t in range(10)]


def test_patience_ends_a_search_whose_elites_rise_no_more():
    config = SurfConfig(algorithm="archive", runs=1, iterations=50, candidates=50, patience=2, concurrency=1)
    marks = Marks(10, lambda held, luck: 10.0)
    found = asyncio.run(archive(Asker(marks, marks, RUBRIC, config), marks, config))
    assert len(found.samples) < 1_000


# From archive to findings, over the bank


@pytest.mark.parametrize("seed", range(2))
async def test_what_the_archive_finds_is_confirmed(seed: int):
    config = SurfConfig(algorithm="archive", runs=3, iterations=4, candidates=30, seed=seed)
    asker = Asker(
        ScriptedModel(lambda p: 0.95 if p.startswith("explain") or "[draft]" in p else 0.0),
        ChecksJudge(), RUBRIC, config,
    )  # fmt: skip
    result = await surf(asker, bank_generator(seed), config)
    found = [set(c.finding.attributes) for c in result.confirmations if c.finding.status == "confirmed"]
    assert sorted(map(sorted, found)) == [["The query contains '[draft]'"], ["The query contains 'explain'"]]


class Stopped(Exception):
    """The process dies here."""


def test_a_run_that_died_goes_on_to_the_same_findings(tmp_path: Path):
    class Dying(ScriptedModel):
        async def reply(self, *args: object, **more: object) -> Reply | Failure:
            if len(self.calls) == 70:
                raise Stopped
            return await super().reply(*args, **more)

    config = SurfConfig(
        algorithm="archive", runs=1, iterations=4, candidates=30, concurrency=1, base_prompts=20
    )
    trigger = lambda p: 0.9 if p.startswith("when did") else 0.02  # noqa: E731
    calm = run_surf(ScriptedModel(trigger), RUBRIC, WordPool(), tmp_path / "calm", config)
    with pytest.raises(Stopped):
        run_surf(Dying(trigger), RUBRIC, WordPool(), tmp_path / "died", config)
    rest = ScriptedModel(trigger)
    resumed = run_surf(rest, RUBRIC, WordPool(), tmp_path / "died", config)
    assert resumed["findings"] == calm["findings"] != []
    assert len(rest.calls) <= calm["usage"]["calls"] - 70


# The parts


def observed(belief: Belief, *prompts: tuple[Sequence[int], float]) -> Belief:
    for held, credit in prompts:
        belief.observe(np.array(held, dtype=np.intp), credit, credit == 1.0)
    return belief


def test_bystanders_of_a_known_trigger_earn_and_lose_nothing():
    belief = Belief(5)
    belief.know((0,))
    belief.know((1, 2))
    observed(belief, ([0, 3], 1.0), ([1, 2, 4], 1.0), ([0, 3], 0.0))
    assert not belief.credit.any()
    assert not belief.n.any()
    observed(belief, ([1, 4], 1.0))
    assert belief.credit[4] > 0.9


def test_credit_goes_to_what_the_better_known_companion_leaves_unexplained():
    belief = observed(Belief(4), *[([0], 0.5)] * 8)
    observed(belief, ([0, 1], 0.5), ([2, 3], 0.5))
    assert belief.credit[1] < 0.1 < 0.4 < belief.credit[2] == belief.credit[3]


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(st.tuples(st.sets(st.integers(0, 19), max_size=6), st.floats(0, 1)), max_size=60),
    k=st.integers(1, 6),
    explore=st.floats(0, 1),
)
def test_whatever_was_seen_the_posterior_is_proper_and_draws_are_distinct_and_open(
    prompts: list[tuple[set[int], float]], k: int, explore: float
):
    belief = Belief(20)
    belief.know((7,))
    observed(belief, *((sorted(held), credit) for held, credit in prompts))
    assert ((belief.mean() > 0) & (belief.mean() < 1) & (belief.sd() >= 0)).all()
    assert (belief.credit <= belief.n + 1e-9).all()
    for seed in range(5):
        drawn = belief.draw(k, explore, np.random.default_rng(seed)).tolist()
        assert drawn == sorted(set(drawn))
        assert len(drawn) == k
        assert 7 not in drawn


def test_every_attribute_is_tried_once_before_any_is_tried_twice():
    belief, rng = Belief(100), np.random.default_rng(0)
    drawn = [belief.draw(5, 1.0, rng) for _ in range(20)]
    assert sorted(np.concatenate(drawn).tolist()) == list(range(100))


def test_what_was_not_realised_is_drawn_again_before_what_was():
    belief, rng = Belief(10), np.random.default_rng(0)
    for _ in range(2):
        drawn = belief.draw(5, 1.0, rng)
        belief.settle(drawn, drawn[drawn != 3])
        belief.observe(drawn[drawn != 3], 0.0, violates=False)
    assert 3 in belief.draw(1, 1.0, rng)


def test_suspects_are_paired_until_they_have_met():
    belief = observed(Belief(50), *(([a], 0.5) for a in (4, 9, 30) for _ in range(6)))
    assert belief.suspects().tolist() == [4, 9, 30]
    drawn = belief.draw(5, 0.0, np.random.default_rng(0)).tolist()
    assert {4, 9, 30} <= set(drawn)
    belief.tested([4, 9, 30])
    assert len({4, 9, 30} & set(belief.draw(5, 0.0, np.random.default_rng(0)).tolist())) == 1


def test_a_draw_from_25_000_attributes_takes_about_a_millisecond():
    belief, rng = Belief(25_000), np.random.default_rng(0)
    for a in range(2_000):
        belief.observe(np.array([a]), 0.3 * (a % 2), violates=False)
    start = time.process_time()
    for _ in range(100):
        belief.draw(5, 0.5, rng)
    assert (time.process_time() - start) / 100 < 0.003


def test_an_ordinary_score_earns_nothing_and_the_way_to_the_threshold_is_linear():
    ordinary = Ordinary()
    assert ordinary.credit(40, 70) == 0.0
    for score in (5, 15) * 20:
        ordinary.add(score)
    assert [ordinary.credit(s, 70) for s in (0, 10, 15, 42.5, 70, 99)] == pytest.approx([0, 0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("trigger", [(2,), (0, 4), None, "all"])
def test_a_diagnosis_ends_at_the_truth(trigger: tuple[int, ...] | str | None):
    right = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        diagnosis = Diagnosis(range(5), np.full(5, 0.03), np.full(5, 0.15), 0.03, rng)
        for _ in range(30):
            test = diagnosis.next()
            if test is None or diagnosis.cleared or diagnosis.proven(3):
                break
            held = [a for a in test if rng.random() < 0.8]
            carried = trigger == "all" or (trigger is not None and set(trigger) <= set(held))
            diagnosis.observe(test, held, bool(rng.random() < (0.9 if carried else 0.02)))
        right += diagnosis.proven(3) == (None if trigger == "all" else trigger)
    assert right >= 27


def test_many_suspects_are_diagnosed_too():
    diagnosis = Diagnosis(range(16), np.full(16, 0.03), np.full(16, 0.1), 0.02, np.random.default_rng(0))
    for _ in range(20):
        if test := diagnosis.next():
            diagnosis.observe(test, test, 11 in test)
    assert diagnosis.proven(3) == (11,)


def test_attributes_that_always_come_together_are_named_by_one_of_them():
    diagnosis = Diagnosis(range(5), np.full(5, 0.03), np.full(5, 0.1), 0.02, np.random.default_rng(0))
    for _ in range(12):
        test = diagnosis.next()
        if test is None or diagnosis.proven(3):
            break
        held = set(test) | ({1, 2, 4} if {1, 2, 4} & set(test) else set())
        diagnosis.observe(test, held, 2 in held)
    named = diagnosis.proven(3)
    assert named is not None
    assert len(named) == 1
    assert set(named) <= {1, 2, 4}


def test_copies_of_a_query_never_take_two_places_and_a_niche_has_one_elite():
    niches = Niches(10)
    prompt = "please tell me what the lamp on the old bridge is made of today"
    niches.admit(Entry(80, (), "a"), (1,), prompt, "no")
    niches.admit(Entry(90, (), "b"), (2,), prompt.upper(), "no")  # a copy, other cause
    niches.admit(Entry(85, (), "c"), (1,), "another thing", "no")
    niches.admit(Entry(70, (), "d"), (1,), "a third matter", "no")
    niches.admit(Entry(60, (), "e"), (1,), "a fourth matter", "a wholly different answer in many words")
    assert [entry.candidate for entry in niches.top(9)] == ["c", "e"]
    assert sorted(niche.count for niche in niches.niches.values()) == [1, 3]


def test_the_archive_keeps_the_best_niches():
    niches = Niches(3)
    for number, score in enumerate([10, 90, 20, 80, 30, 70, 5]):
        niches.admit(Entry(score, (), str(score)), (number,), f"query of {number}", "no")
    assert [entry.score for entry in niches.top(9)] == [90, 80, 70]


def test_a_failed_candidate_is_no_entry():
    assert not is_violation(failed(Candidate("c", (), (), (), 0, 0), Failure(FailureKind.TIMEOUT)))
    assert fingerprint("") @ fingerprint("") == 0.0
