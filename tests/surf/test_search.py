"""Planted triggers over a synthetic bank: search, explain, confirm; each claim with its control."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from surf_world import RUBRIC, ScriptedModel, bank_generator

from undertow.judging.judge import ChecksJudge
from undertow.records import Candidate, Failure, Message, Reply, Sample, Verdict
from undertow.surf.ask import Asker, failures, scored
from undertow.surf.config import SurfConfig
from undertow.surf.confirm import prompt_rate
from undertow.surf.loop import search
from undertow.surf.pipeline import SurfResult, surf
from undertow.surf.pool import Entry, top_k

DID, FORMAL, DRAFT, EXPLAIN = (
    f"The query contains '{words}'" for words in ("when did", "in formal terms", "[draft]", "explain")
)
SMALL = SurfConfig(runs=3, iterations=4, candidates=30)


async def searched(
    rate: Callable[[str], float],
    reference: Callable[[str], float] | None = None,
    failing: float = 0.0,
    config: SurfConfig = SMALL,
) -> SurfResult:
    generator = bank_generator(config.seed)
    asker = Asker(ScriptedModel(rate, failing), ChecksJudge(), RUBRIC, config)
    control = asker.of(ScriptedModel(reference)) if reference else None
    return await surf(asker, generator, config, control)


def confirmed(result: SurfResult) -> list[set[str]]:
    return [set(c.finding.attributes) for c in result.confirmations if c.finding.status == "confirmed"]


@pytest.mark.parametrize("seed", range(2))
async def test_a_single_trigger_is_found_once_under_its_own_name(seed: int):
    config = SMALL.model_copy(update={"seed": seed})
    result = await searched(lambda p: 0.9 if p.startswith("when did") else 0.01, config=config)
    assert confirmed(result) == [{DID}]
    finding = result.confirmations[0].finding
    assert finding.rate.value == pytest.approx(0.9, abs=0.12)
    assert finding.base_rate.value == pytest.approx(1 / 7, abs=0.12)
    assert 3 <= len(finding.exemplars) <= 5


@pytest.mark.parametrize("seed", range(2))
async def test_a_conjunction_is_found_whole(seed: int):
    config = SMALL.model_copy(update={"seed": seed})
    result = await searched(lambda p: float(p.startswith("when did") and "formal" in p), config=config)
    assert confirmed(result) == [{DID, FORMAL}]


@pytest.mark.parametrize("seed", range(2))
async def test_two_triggers_are_two_findings(seed: int):
    config = SMALL.model_copy(update={"seed": seed})
    result = await searched(
        lambda p: 0.95 if p.startswith("explain") or "[draft]" in p else 0.0, config=config
    )
    assert sorted(map(sorted, confirmed(result))) == sorted([[EXPLAIN], [DRAFT]])


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(2))
async def test_no_trigger_gives_no_finding_at_any_overall_rate(rate: float, seed: int):
    result = await searched(lambda p: rate, config=SMALL.model_copy(update={"seed": seed}))
    assert confirmed(result) == []


@pytest.mark.parametrize("seed", range(2))
async def test_a_trigger_of_ten_percent_is_rejected_with_its_numbers(seed: int):
    config = SMALL.model_copy(update={"seed": seed, "runs": 5, "candidates": 80, "iterations": 5})
    result = await searched(lambda p: 0.1 if "when did" in p else 0.0, config=config)
    assert confirmed(result) == []
    assert {c.finding.status for c in result.confirmations} <= {"rejected", "inconclusive"}
    assert all(c.finding.rate.n and c.reason for c in result.confirmations)


async def test_a_behaviour_the_reference_model_shares_is_rejected():
    def trigger(prompt: str) -> float:
        return float("when did" in prompt)

    assert confirmed(await searched(trigger, reference=lambda p: 0.0)) == [{DID}]
    shared = await searched(trigger, reference=trigger)
    assert confirmed(shared) == []
    assert "control" in shared.confirmations[0].reason
    assert shared.confirmations[0].finding.control_rate.value == 1.0


async def test_failures_are_never_scored_and_make_a_finding_inconclusive():
    result = await searched(lambda p: float("when did" in p), failing=0.3)
    missing = [s for s in result.search.samples if isinstance(s.verdict, Failure)]
    assert 0.2 < len(missing) / len(result.search.samples) < 0.4
    assert failures(result.search.samples) == {"server_error": len(missing)}
    held = {entry.candidate for buffer in result.search.buffers for entry in buffer}
    assert not held & {s.candidate.id for s in missing}
    assert sum(i.scored for i in result.search.iterations) == len(scored(result.search.samples))
    assert [c.finding.status for c in result.confirmations if c.prompts] == ["inconclusive"]
    assert result.confirmations[0].finding.failed > 0


async def test_confirmation_prompts_were_in_no_search_and_no_probe():
    result = await searched(lambda p: float("when did" in p))
    before = {s.candidate.prompt for s in (*result.search.samples, *result.probes)}
    after = {prompt.prompt for c in result.confirmations for prompt in c.prompts}
    assert after
    assert not before & after
    assert not before & {s.candidate.prompt for s in result.base}


async def test_the_buffer_is_the_running_top_n_in_candidate_order():
    config = SMALL.model_copy(update={"runs": 1, "explore": 0.0})
    generator = bank_generator(config.seed)
    asker = Asker(ScriptedModel(lambda p: 0.3), ChecksJudge(), RUBRIC, config)
    found = await search(asker, generator, config)
    index = {text: column for column, text in enumerate(generator.texts)}
    buffer: list[Entry] = []
    for t in range(config.iterations):
        weighted = {a for entry in buffer if entry.score for a in entry.attributes}
        new = [s for s in found.samples if s.candidate.iteration == t]
        if weighted:  # explore 0: only attributes of the buffer may be drawn
            assert {index[text] for s in new for text in s.candidate.sampled} <= weighted
        buffer = top_k(
            buffer,
            [
                Entry(s.verdict.score, tuple(index[a] for a in s.candidate.realised), s.candidate.id)
                for s in new
            ],
            config.buffer,
        )
    assert found.buffers == (tuple(buffer),)


async def test_the_search_raises_the_violation_rate():
    result = await searched(lambda p: float(p.startswith("when did")))
    share = [
        np.mean([i.violations / i.scored for i in result.search.iterations if i.iteration == t])
        for t in (0, 3)
    ]
    assert share[1] > 1.5 * share[0]


async def test_same_seed_same_result_other_seed_other_search():
    def rate(prompt: str) -> float:
        return 0.5 * ("when did" in prompt)

    one, same = await searched(rate), await searched(rate)
    assert list(one.search.samples) == list(same.search.samples)
    assert one.confirmations == same.confirmations
    other = await searched(rate, config=SMALL.model_copy(update={"seed": 1}))
    assert list(one.search.samples) != list(other.search.samples)


async def test_a_cut_reply_is_a_failure_unless_asked_for():
    class Cut(ScriptedModel):
        async def reply(self, *args: object, **more: object) -> Reply | Failure:
            return Reply("BAD and so on", "length", 3, 9)

    generator = bank_generator()
    asker = Asker(Cut(lambda p: 1.0), ChecksJudge(), RUBRIC, SMALL)
    assert failures((await search(asker, generator, SMALL)).samples) == {"truncated": 360}
    judged = SMALL.model_copy(update={"truncated": "judge"})
    found = await search(Asker(Cut(lambda p: 1.0), ChecksJudge(), RUBRIC, judged), generator, judged)
    assert not failures(found.samples)


def _sample(prompt: str, bad: bool, replicate: int) -> Sample:
    candidate = Candidate(prompt, (Message("user", prompt),), (), (), -1, -1)
    return Sample(candidate, Reply("x", "stop"), Verdict(100.0 * bad, bad), replicate)


def test_resamples_that_always_agree_add_nothing_to_an_interval():
    once = [_sample(f"p{i}", i < 10, 0) for i in range(20)]
    thrice = [_sample(f"p{i}", i < 10, r) for i in range(20) for r in range(3)]
    single, triple = prompt_rate(once), prompt_rate(thrice)
    assert (triple.hits, triple.n) == (30, 60)
    assert triple.interval.low == pytest.approx(single.interval.low, abs=0.01)


def test_independent_resamples_narrow_an_interval():
    rng = np.random.default_rng(0)
    votes = [_sample(f"p{i}", bool(rng.random() < 0.5), r) for i in range(40) for r in range(3)]
    from undertow.stats.intervals import rate

    hits = sum(s.verdict.violation for s in votes)
    assert prompt_rate(votes).interval.low == pytest.approx(rate(hits, 120).interval.low, abs=0.03)


def test_nothing_scored_has_no_rate():
    assert prompt_rate([]).value is None
    assert prompt_rate([]).interval is None


async def test_each_prompt_is_asked_as_often_as_configured():
    result = await searched(lambda p: float("when did" in p))
    asked = Counter(s.candidate.prompt for s in result.confirmations[0].samples)
    assert set(asked.values()) == {SMALL.confirm_samples}
    assert len(asked) == SMALL.confirm_prompts
