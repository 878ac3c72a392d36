"""Samples as rows of a table, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from undertow.records import Candidate, Failure, FailureKind, Message, Reply, Sample, Verdict
from undertow.text import whole_text

if TYPE_CHECKING:
    import pyarrow as pa

Labelled = tuple[str, str, Sample]
"""(phase, finding id or "", sample)."""


VOTES = ("judge_score", "confirm_score")
"""Columns for what each of two judges said alone."""


def messages_json(messages: Sequence[Message]) -> str:
    """Write a conversation as the JSON list of OpenAI-style messages."""
    return json.dumps([{"role": m.role, "content": m.content} for m in messages], ensure_ascii=False)


def messages_from_json(text: str) -> tuple[Message, ...]:
    """Read what :func:`messages_json` wrote."""
    return tuple(Message(m["role"], m["content"]) for m in json.loads(text))


def sample_row(phase: str, finding: str, sample: Sample) -> dict[str, object]:
    """Lay one sample out as a row, usage and price of the target's call; what is missing is null."""
    candidate, reply, verdict = sample.candidate, sample.reply, sample.verdict
    answered = reply if isinstance(reply, Reply) else None
    judged = verdict if isinstance(verdict, Verdict) else None
    missing = verdict if isinstance(verdict, Failure) else None
    return {
        "id": candidate.id,
        "phase": phase,
        "finding": finding,
        "run": candidate.run,
        "iteration": candidate.iteration,
        "replicate": sample.replicate,
        "prompt": candidate.prompt,
        "messages": messages_json(candidate.messages),
        "sampled": list(candidate.sampled),
        "realised": list(candidate.realised),
        "response": answered.text if answered else None,
        "finish_reason": answered.finish_reason if answered else None,
        "input_tokens": answered.input_tokens if answered else None,
        "output_tokens": answered.output_tokens if answered else None,
        "cost_usd": answered.cost_usd if answered else None,
        "score": judged.score if judged else None,
        "violation": judged.violation if judged else None,
        "reason": judged.reason if judged else None,
        "judge": judged.judge if judged else None,
        **dict.fromkeys(VOTES),
        **dict(zip(VOTES, (vote.score for vote in sample.votes), strict=False)),
        "failure": missing.kind.value if missing else None,
        "failure_detail": missing.detail if missing else None,
    }


def sample_of(row: Mapping[str, Any]) -> Sample:
    """Read what :func:`sample_row` laid out; of the votes of two judges it keeps no more than the scores."""
    candidate = Candidate(
        row["id"], messages_from_json(row["messages"]), tuple(row["sampled"]), tuple(row["realised"]),
        row["run"], row["iteration"],
    )  # fmt: skip
    missing = Failure(FailureKind(row["failure"]), row["failure_detail"]) if row["failure"] else None
    used = (row["input_tokens"], row["output_tokens"], row["cost_usd"])
    answered = row["response"] is not None
    reply = Reply(row["response"], row["finish_reason"], *used) if answered else missing
    verdict = missing or Verdict(row["score"], row["violation"], row["reason"], row["judge"])
    assert reply is not None  # noqa: S101 - narrows the type: what has no answer has a failure
    return Sample(candidate, reply, verdict, row["replicate"])


def sample_schema() -> pa.Schema:
    """Return the columns of a table of samples."""
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    return pa.schema(
        [
            *((name, text) for name in ("id", "phase", "finding")),
            *((name, pa.int32()) for name in ("run", "iteration", "replicate")),
            *((name, text) for name in ("prompt", "messages")),
            *((name, texts) for name in ("sampled", "realised")),
            *((name, text) for name in ("response", "finish_reason")),
            *((name, pa.int64()) for name in ("input_tokens", "output_tokens")),
            ("cost_usd", pa.float64()),
            ("score", pa.float64()),
            ("violation", pa.bool_()),
            *((name, text) for name in ("reason", "judge")),
            *((name, pa.float64()) for name in VOTES),
            *((name, text) for name in ("failure", "failure_detail")),
        ]
    )


def sample_table(labelled: Iterable[Labelled]) -> pa.Table:
    """Build the table of samples, one row a sample."""
    import pyarrow as pa

    rows = [sample_row(*item) for item in labelled]
    try:
        return pa.Table.from_pylist(rows, schema=sample_schema())
    except UnicodeEncodeError:  # a reply cut in the middle of a character
        return pa.Table.from_pylist([_encodable(row) for row in rows], schema=sample_schema())


def _encodable(row: Mapping[str, object]) -> dict[str, object]:
    return {name: whole_text(value) if isinstance(value, str) else value for name, value in row.items()}
