"""A fix is judged on the same prompts before and after; what is missing is counted, not scored."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.errors import UsageError
from undertow.judging.rubric import Rubric
from undertow.records import Exemplar, Failure, FailureKind, Finding, Rate, Reply
from undertow.stats.intervals import Difference, paired_difference, rate
from undertow.store.run import RunDir
from undertow.store.tables import atomic_write_json, to_jsonable
from undertow.studies.verify import verdict_word, verify
from undertow.surf.config import SurfConfig

RUBRIC = Rubric.model_validate(
    {
        "name": "no",
        "behaviour": "Says no.",
        "when_wrong": "always",
        "checks": [{"is": "starts_with", "any": ["no"]}],
    }
)
PROMPTS = [f"please {i}" for i in range(30)]


class Scripted:
    """Says no with probability ``p``, fails on the prompts of ``fails``; all share their noise."""

    def __init__(self, name, p, fails=()):
        self.name, self._p, self._fails, self.seen = name, p, fails, []

    async def reply(self, messages, settings, replicate=0):
        prompt = messages[-1].content
        self.seen.append((prompt, replicate, settings.seed))
        if prompt in self._fails:
            return Failure(FailureKind.TIMEOUT)
        number = int(prompt.split()[1])
        noise = np.random.default_rng([settings.seed, number, replicate]).random()
        return Reply("no" if noise < self._p else "yes", "stop", 1, 1)


@pytest.fixture
def search(tmp_path):
    config = {**SurfConfig(seed=3).model_dump(exclude={"concurrency"}), "judge": "checks",
              "rubric": RUBRIC.model_dump(mode="json")}  # fmt: skip
    run = RunDir.open(tmp_path / "surf", "surf", config)
    common = {
        "rubric": "no",
        "behaviour": "Says no.",
        "rate": rate(50, 60),
        "control_rate": None,
        "base_rate": None,
        "failed": 0,
        "exemplars": (Exemplar("please 0", "no", Rate(1, 1, None)),),
    }
    findings = [
        Finding(id="f0", attributes=("The query says please.",), status="confirmed", **common),
        Finding(id="f1", attributes=("The query is odd.",), status="rejected", **common),
    ]
    atomic_write_json(run.file("findings.json"), [to_jsonable(each) for each in findings])
    rows = [("f0", p) for p in PROMPTS] + [("f1", "odd 0")]
    table = pa.table({
        "finding": [f for f, _ in rows],
        "prompt": [p for _, p in rows],
        "messages": [json.dumps([{"role": "user", "content": p}]) for _, p in rows],
        "replicates": pa.array([2] * len(rows), pa.int32()),
    })  # fmt: skip
    pq.write_table(table, run.file("confirm_prompts.parquet"))
    run.finish("complete", {})
    return tmp_path / "surf"


def test_a_fix_that_works_is_fixed(search, tmp_path):
    before, after = Scripted("before", 0.9), Scripted("after", 0.0)
    summary = verify(before, after, search, tmp_path / "out")
    (finding,) = summary["findings"]  # the rejected finding is not asked
    assert finding["verdict"] == "fixed"
    assert (finding["pairs"], finding["prompts"], finding["failed"]) == (60, 30, 0)
    assert finding["before"]["value"] > 0.75
    assert finding["after"]["value"] == 0
    assert finding["difference"] == pytest.approx(-finding["before"]["value"])
    assert finding["difference_interval"]["high"] < -0.5
    assert sorted(before.seen) == sorted(after.seen)  # same prompts, replicates and seed
    assert all(seed != 3 for _, _, seed in before.seen)  # new samples, not those that confirmed the finding
    assert pq.read_table(tmp_path / "out" / "samples.parquet").num_rows == 120
    assert verify(Scripted("before", 0.9), Scripted("after", 0.0), search, tmp_path / "out") == summary


def test_a_model_against_itself_is_unchanged(search, tmp_path):
    summary = verify(Scripted("a", 0.6), Scripted("b", 0.6), search, tmp_path / "out")
    (finding,) = summary["findings"]
    assert finding["difference"] == 0
    assert finding["verdict"] == "unchanged"


def test_failures_are_left_out_and_too_many_make_it_inconclusive(search, tmp_path):
    some = verify(Scripted("b", 1.0), Scripted("a", 0.0, PROMPTS[:1]), search, tmp_path / "some")
    (finding,) = some["findings"]
    assert (finding["pairs"], finding["failed"]) == (58, 2)
    assert finding["before"]["n"] == finding["after"]["n"] == 58
    assert finding["verdict"] == "fixed"
    assert some["status"] == "complete"
    many = verify(Scripted("b", 1.0), Scripted("a", 0.0, PROMPTS[:9]), search, tmp_path / "many")
    assert many["findings"][0]["verdict"] == "inconclusive"
    assert many["status"] == "inconclusive"
    assert many["counts"] == {"tried": 120, "scored": 102, "failed": 18}
    assert many["failures"] == {"timeout": 18}


def _compared(before, after, n=60):
    b, a = np.arange(n) < before * n, np.arange(n) < after * n
    return rate(int(a.sum()), n), paired_difference(b, a)


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        (0.9, 0.0, "fixed"),
        (0.9, 0.05, "fixed"),
        (0.9, 0.4, "reduced"),
        (0.1, 0.5, "worse"),
        (0.5, 0.5, "unchanged"),
    ],
)
def test_the_word_follows_from_rates_and_interval(before, after, word):
    assert verdict_word(*_compared(before, after), 0.0, 0.1) == word


def test_nothing_follows_from_little():
    assert verdict_word(*_compared(0.5, 0.4, 10), 0.0, 0.1) == "inconclusive"
    assert verdict_word(*_compared(0.9, 0.0), 0.2, 0.1) == "inconclusive"
    assert verdict_word(rate(0, 0), Difference(None, None, 0), 0.0, 0.1) == "inconclusive"


def test_only_a_finished_search_can_be_verified(search, tmp_path):
    with pytest.raises(UsageError, match="not a run directory"):
        verify("local:a", "local:b", tmp_path / "nothing", tmp_path / "out")
    other = RunDir.open(tmp_path / "index", "index", {})
    other.finish("complete", {})
    with pytest.raises(UsageError, match="give a finished `undertow surf`"):
        verify("local:a", "local:b", tmp_path / "index", tmp_path / "out")
    with pytest.raises(UsageError):
        verify("nonsense", "local:b", search, tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()
