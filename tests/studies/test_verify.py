"""A fix is judged on the same prompts before and after; what is missing is counted, not scored."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.errors import UsageError
from undertow.fixes.system_prompt import write_system_prompt
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


class Loud(Scripted):
    """Answers with a bold word and an exclamation as well, and knows its sums with probability ``able``."""

    def __init__(self, name, p, loud, able=1.0):
        super().__init__(name, p)
        self._loud, self._able, self.systems = loud, able, []

    async def reply(self, messages, settings, replicate=0):
        self.systems += [m.content for m in messages if m.role == "system"]
        asked = messages[-1].content
        if asked.startswith("sum"):
            number = int(asked.split()[1])
            return Reply(f" {number + 1}. " if number < 40 * self._able else "?", "stop", 1, 1)
        plain = await super().reply(messages[-1:], settings, replicate)
        return Reply(f"{plain.text} **so**!" if self._loud else plain.text, "stop", 1, 1)


def test_what_else_a_fix_changes_is_named_and_what_it_leaves_is_not(search, tmp_path):
    rubric = tmp_path / "so.yaml"
    rubric.write_text(
        "name: so\nbehaviour: Says so.\nwhen_wrong: always\nchecks: [{is: contains, any: [so]}]\n"
    )
    loud = verify(Loud("b", 0.9, False), Loud("a", 0.0, True), search, tmp_path / "1", rubrics=[rubric])
    rows = {row["name"]: row for row in loud["off_target"]["behaviours"]}
    assert {name for name, row in rows.items() if row["changed"]} >= {"bold", "exclamation", "rubric: so"}
    assert rows["bold"]["difference"] == 1
    assert rows["bold"]["before"]["n"] == rows["bold"]["after"]["n"] == 60
    assert rows["bold"]["with_behaviour"] == 0  # all of it is in answers that say yes
    assert "rubric: no" not in rows  # what was verified is no off-target behaviour
    same = verify(Loud("b", 0.5, True), Loud("a", 0.5, True), search, tmp_path / "2")
    assert same["off_target"]["tested"] > 0
    assert same["off_target"]["changed"] == 0


def test_a_lost_capability_is_told_with_its_questions(search, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    rows = [{"prompt": f"sum {i}", "answer": [str(i + 1), "x"]} for i in range(38)]
    rows += [{"prompt": f"sum {i}", "regex": rf"\b{i + 1}\b"} for i in (38, 39)]
    tasks.write_text("\n".join(json.dumps(row) for row in rows))
    kept = verify(Loud("b", 0.9, False), Loud("a", 0.0, False), search, tmp_path / "1", capability=tasks)
    assert kept["capability"]["difference"] == 0
    assert kept["capability"]["before"]["value"] == 1
    lost = verify(Loud("b", 0.9, False), Loud("a", 0.0, False, 0.5), search, tmp_path / "2", capability=tasks)
    able = lost["capability"]
    assert (able["difference"], able["pairs"], able["failed"]) == (-0.5, 40, 0)
    assert able["interval"]["high"] < -0.3
    assert able["lost"][0] == "sum 20"


@pytest.mark.parametrize(("line", "says"), [
    ("{", "is no JSON object"),
    ('{"prompt": "a"}', "answer .* or a regex"),
    ('{"prompt": "a", "answer": "b", "regex": "c"}', "one of them"),
    ('{"prompt": "a", "answer": " . "}', "not empty"),
    ('{"prompt": "a", "regex": "("}', "regex"),
    ('{"answer": "a"}', "has no prompt"),
    ("", "no questions"),
])  # fmt: skip
def test_a_bad_capability_set_is_one_line_that_names_its_place(line, says, search, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(line)
    with pytest.raises(UsageError, match=says) as told:
        verify("local:a", "local:b", search, tmp_path / "out", capability=tasks)
    assert str(told.value).startswith(str(tasks))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()


def test_a_system_prompt_is_read_by_the_model_after_alone(search, tmp_path):
    before, after = Loud("b", 0.6, False), Loud("a", 0.6, False)
    summary = verify(before, after, search, tmp_path / "out", system_after="Do not say no.")
    assert before.systems == []
    assert set(after.systems) == {"Do not say no."}
    assert summary["findings"][0]["verdict"] == "unchanged"  # this model does not heed it


class Heeding(Scripted):
    """Does as its system prompt says."""

    async def reply(self, messages, settings, replicate=0):
        told = any(m.role == "system" and "do not do this: Says no" in m.content for m in messages)
        plain = await super().reply(messages[-1:], settings, replicate)
        return Reply("yes", "stop", 1, 1) if told else plain


def test_a_clause_from_the_finding_is_a_fix_that_verify_tests(search, tmp_path):
    written = write_system_prompt(search, tmp_path / "fix")
    clauses = {each["wording"]: each["text"] for each in written["clauses"]}
    assert clauses["avoid"] == (
        "When the query says please, do not do this: Says no. Answer as you would answer otherwise."
    )
    assert "query" not in clauses["anywhere"]
    assert (tmp_path / "fix" / "system-avoid.txt").read_text() == clauses["avoid"] + "\n"
    both = (Heeding("m", 0.9), Heeding("m", 0.9), search)
    works = verify(*both, tmp_path / "1", system_after=clauses["avoid"])
    assert works["findings"][0]["verdict"] == "fixed"
    fails = verify(*both, tmp_path / "2", system_after=clauses["anywhere"])
    assert fails["findings"][0]["difference"] == 0


@pytest.mark.parametrize(
    ("reply", "clause"),
    [
        ('{"clause": "Do not\\n say no."}', "Do not say no."),
        ('```json\n{"clause": "Stop."}\n```', "Stop."),
        ("Say yes.", None),
        ('{"clause": ""}', None),
        (json.dumps({"clause": "x" * 700}), None),
    ],
)
def test_a_model_may_write_the_clause(reply, clause, search, tmp_path, monkeypatch):
    class Writer:
        name = "writer"

        async def __aenter__(self):
            return self

        async def __aexit__(self, *exc):
            return None

        async def reply(self, messages, settings, replicate=0):
            assert json.loads(messages[-1].content.split("\n\n")[0])["when"] == ["The query says please."]
            return Reply(reply, "stop", 1, 1)

    monkeypatch.setattr("undertow.models.open.open_model", lambda *_a, **_k: Writer())
    if clause is None:
        with pytest.raises(UsageError, match="wrote no clause"):
            write_system_prompt(search, tmp_path / "fix", "local:x")
    else:
        told = write_system_prompt(search, tmp_path / "fix", "local:x")
        assert told["clauses"][-1]["text"] == clause


def test_without_a_finding_there_is_no_clause(tmp_path):
    run = RunDir.open(tmp_path / "index", "index", {})
    run.finish("complete", {})
    with pytest.raises(UsageError, match="not a finished `undertow surf`"):
        write_system_prompt(tmp_path / "index", tmp_path / "fix")
