"""Inspect reads the log of a confirmation, and asks its prompts again of its mock model."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from undertow.errors import UsageError
from undertow.judging.rubric import load_rubric
from undertow.records import Candidate, Failure, FailureKind, Message, Reply, Sample, Verdict
from undertow.report.export import export
from undertow.stats.intervals import rate
from undertow.store.run import RunDir
from undertow.store.tables import atomic_write_json, write_table
from undertow.surf.config import SurfConfig
from undertow.surf.rows import sample_table
from undertow.surf.save import rate_json

inspect_ai = pytest.importorskip("inspect_ai", reason="needs the extra inspect")

HOSTILE = "{{ x }} data:text/plain,<b> attachment://1 \u2028 \u202e 'Formal'?"
CODE = "```python\ndef f():\n    return 1\n```"
PROMPTS = {"code-0/0": HOSTILE, "code-0/1": "Kindly elucidate.", "code-1/0": "A story."}


def samples() -> list[tuple[str, str, Sample]]:
    """Two resamples a prompt: hit, hit; miss, failed call; hit, failed verdict; and what does not count."""
    hit, miss = Verdict(100.0, True, "code"), Verdict(0.0, False, "not all checks hold")
    lost = Failure(FailureKind.TIMEOUT, "no answer")
    unread = Failure(FailureKind.UNPARSABLE_VERDICT, "not JSON")
    said = Reply(CODE, "stop", 5, 7)
    made = {
        "code-0/0": ((said, hit), (said, hit)),
        "code-0/1": ((Reply("No.", "stop", 5, 2), miss), (lost, lost)),
        "code-1/0": ((said, hit), (said, unread)),
    }
    asked = {name: Candidate(name, (Message("user", PROMPTS[name]),), (), (), -1, -1) for name in made}
    rows = [
        ("confirm", name.split("/")[0], Sample(asked[name], reply, verdict, replicate))
        for name, both in made.items()
        for replicate, (reply, verdict) in enumerate(both)
    ]
    return [*rows, ("base", "", rows[0][2]), ("confirm", "code-2", rows[0][2])]


def searched(out: Path, judge: str = "checks") -> Path:
    config = {**SurfConfig(system="Be brief.").identity(), "target": "local:m", "judge": judge,
              "rubric": load_rubric("code").model_dump(mode="json")}  # fmt: skip
    run = RunDir.open(out, "surf", config)
    rates = {"code-0": rate(2, 3), "code-1": rate(1, 1), "code-2": rate(0, 9)}
    findings = [
        {"id": name, "status": "confirmed" if found.hits else "rejected", "rate": rate_json(found),
         "attributes": ["The query is formal"], "base_rate": None}
        for name, found in rates.items()
    ]  # fmt: skip
    atomic_write_json(run.file("findings.json"), findings)
    write_table(sample_table(samples()), run.file("confirm_samples.parquet"))
    run.finish("complete", {})
    return out


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    told = export(searched(tmp_path / "run"), "inspect", tmp_path / "out")
    assert (told["findings"], told["samples"], told["prompts"]) == (2, 6, 3)
    return tmp_path / "out"


def test_inspect_reads_the_log_and_a_failure_is_no_zero(exported: Path):
    log = inspect_ai.log.read_eval_log(str(exported / "confirmed.eval"))
    [score] = log.results.scores
    assert {name: metric.value for name, metric in score.metrics.items()} == {"code-0": 2 / 3, "code-1": 1.0}
    assert (score.scored_samples, score.unscored_samples) == (4, 2)
    assert score.metrics["code-0"].metadata["n"] == 3
    by = {(sample.id, sample.epoch): sample for sample in log.samples}
    assert len(by) == 6
    assert [m.text for m in by["code-0/0", 2].messages] == ["Be brief.", HOSTILE, CODE]
    assert by["code-0/1", 1].scores["violation"].value == 0
    lost, unread = by["code-0/1", 2], by["code-1/0", 2]
    assert lost.error.message == "timeout: no answer"
    assert not lost.scores
    assert unread.scores["violation"].as_float() != unread.scores["violation"].as_float()  # NaN: unscored
    assert unread.scores["violation"].reason == "unparsable_verdict"


def test_its_command_line_reads_the_log(exported: Path):
    dump = [sys.executable, "-m", "inspect_ai", "log", "dump", str(exported / "confirmed.eval")]
    told = json.loads(subprocess.run(dump, capture_output=True, check=True, timeout=120).stdout)
    assert (told["status"], told["eval"]["task"], len(told["samples"])) == ("success", "no_code", 6)


def replies(answer):
    """The mock model with ``answer(messages, tools)``: text and stop reason, or an output.

    With usage, for it would count tokens by a file from the network.
    """
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    def reply(messages, tools, choice, config):
        said = answer(messages, tools)
        made = said if isinstance(said, ModelOutput) else ModelOutput.from_content("mockllm/model", *said)
        made.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return made

    return get_model("mockllm/model", custom_outputs=reply, memoize=False)


def evaluated(folder: Path, model, **options):
    with contextlib.chdir(folder):  # Inspect takes relative paths of tasks
        [log] = inspect_ai.eval("task.py", model=model, display="none", log_dir="logs", **options)
    return log


def test_the_task_asks_the_same_prompts_and_judges_by_the_rubric(exported: Path):
    asked = []

    def answer(messages, tools):
        asked.append([m.text for m in messages])
        if messages[-1].text == PROMPTS["code-1/0"]:
            return "def", "max_tokens"
        return (CODE if messages[-1].text == HOSTILE else "Gladly."), "stop"

    log = evaluated(exported, replies(answer))
    assert log.status == "success"
    assert sorted(asked) == sorted(2 * [["Be brief.", prompt] for prompt in PROMPTS.values()])
    [score] = log.results.scores
    rates = {name: metric.value for name, metric in score.metrics.items()}
    assert rates["code-0"] == rates["all"] == 0.5
    assert score.unscored_samples == 1  # the prompt whose answers were cut


def test_a_model_judges_where_one_did_and_never_itself(tmp_path: Path):
    from inspect_ai.model import ModelOutput

    export(searched(tmp_path / "run", judge="openai:judge"), "inspect", tmp_path / "out")
    seen = []

    def grade(messages, tools):
        seen.append(messages[-1].text)
        nonce = re.search(r"The nonce is (\w+)\.", seen[-1])[1]
        form = {"nonce": nonce, "reason": "so", "score": 90 if "Kindly" in seen[-1] else 10}
        return ModelOutput.for_tool_call("mockllm/model", tools[0].name, form)

    target = replies(lambda messages, tools: (CODE, "stop"))
    log = evaluated(tmp_path / "out", target, model_roles={"grader": replies(grade)})
    assert {name: log.results.scores[0].metrics[name].value for name in ("code-0", "code-1")} == {
        "code-0": 0.5, "code-1": 0.0,
    }  # fmt: skip
    assert len(seen) == 6
    assert not any("Be brief." in text for text in seen)
    alone = evaluated(tmp_path / "out", target)
    assert alone.status == "error"
    assert "grader" in alone.error.message


def test_a_search_without_a_finding_writes_nothing(tmp_path: Path):
    run = searched(tmp_path / "run")
    atomic_write_json(run / "findings.json", [])
    with pytest.raises(UsageError):
        export(run, "inspect", tmp_path / "out")
    assert not (tmp_path / "out").exists()
