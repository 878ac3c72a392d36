"""What an exported Inspect task runs: the confirmation prompts, judged as the search judged them.

Needs the extra ``inspect``; imported by the ``task.py`` of ``undertow export --to inspect`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inspect_ai import Epochs, Task
from inspect_ai.dataset import json_dataset
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import Score, Scorer, Target, grouped, mean, scorer, stderr
from inspect_ai.solver import TaskState, generate

from undertow.judging.judge import ChecksJudge, Judge, LLMJudge
from undertow.judging.rubric import Rubric
from undertow.models.inspected import InspectModel
from undertow.models.providers import ProviderModel
from undertow.models.pydantic_wire import PydanticWire
from undertow.records import Failure, Message
from undertow.store.tables import read_json

CUT = {"max_tokens": "truncated", "model_length": "truncated", "content_filter": "filtered"}
"""Inspect's stop reason → why there is no verdict."""


def confirmation_task(folder: Path) -> Task:
    """Return the task of an exported folder; its score is 1 for a violation, its mean the violation rate.

    Args:
        folder: With ``dataset.jsonl`` and ``task.json``.

    Raises:
        inspect_ai.util.PrerequisiteError: at the first verdict, where a model judges and no
            ``--model-role grader=…`` names it: a model does not judge itself.
    """
    told = read_json(folder / "task.json")
    return Task(
        dataset=json_dataset(str(folder / "dataset.jsonl")),
        solver=generate(),
        scorer=violation(told["rubric"], told["judge"], told["truncated"]),
        config=GenerateConfig(temperature=told["temperature"], max_tokens=told["max_tokens"]),
        epochs=Epochs(told["epochs"], "mean"),
    )


@scorer(metrics=[grouped(mean(), "finding"), stderr()])  # type: ignore[untyped-decorator]
def violation(rubric: Mapping[str, Any], judge: str = "checks", truncated: str = "fail") -> Scorer:
    """Score 1 where the rubric's behaviour is there in the wrong place, 0 where it is not.

    Args:
        rubric: The rubric's fields.
        judge: ``checks``, or anything else for the model of the role ``grader``; ``checks+…`` asks it only
            where the checks hold.
        truncated: ``fail`` leaves a cut reply without a score, ``judge`` judges it.
    """
    known = Rubric.model_validate(rubric)

    async def score(state: TaskState, target: Target) -> Score:
        reason = CUT.get(str(state.output.stop_reason))
        if reason == "filtered" or (reason and truncated == "fail"):
            return Score.unscored(reason=reason, explanation=f"stop reason {state.output.stop_reason}")
        *history, asked = [Message(turn["role"], turn["content"]) for turn in state.metadata["judged"]]
        verdict = await _judge(judge).judge(asked.content, state.output.completion, known, history)
        if isinstance(verdict, Failure):
            return Score.unscored(reason=verdict.kind.value, explanation=verdict.detail)
        about = {"score": verdict.score, "judge": verdict.judge}
        return Score(
            value=int(verdict.violation), answer=state.output.completion, explanation=verdict.reason,
            metadata=about,
        )  # fmt: skip

    return score


def _judge(judge: str) -> Judge:
    if judge == "checks":
        return ChecksJudge()
    grader = get_model(role="grader", required=True)  # Inspect opens and closes it
    model = ProviderModel(f"inspect:{grader}", lambda: PydanticWire(InspectModel(grader)))
    return LLMJudge(model, checks_first=judge.startswith("checks+"))
