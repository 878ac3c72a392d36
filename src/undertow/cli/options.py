"""Options that mean the same in every verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[
    Path, typer.Option("--out", help="Run directory; the same command on the same directory resumes.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Fixes every random choice.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print summary.json on stdout; logs go to stderr.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Empty a run directory of undertow first.")]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", min=0, help="Stop before more than this many US dollars are spent."),
]
MaxCalls = Annotated[
    int | None, typer.Option("--max-calls", min=0, help="Stop before more than this many model calls.")
]
Prices = Annotated[
    list[str] | None,
    typer.Option(
        "--price",
        help="IN,OUT in US dollars per million tokens where none is known; ROLE=IN,OUT for one role.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print calls, tokens and cost, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
System = Annotated[
    Path | None,
    typer.Option("--system", exists=True, dir_okay=False, help="File: system prompt of every candidate."),
]
Context = Annotated[
    Path | None,
    typer.Option(
        "--context",
        exists=True,
        dir_okay=False,
        help="File before every candidate: .json or .jsonl turns of role and content, else text.",
    ),
]
Turns = Annotated[
    int,
    typer.Option("--turns", min=1, max=8, help="Most user turns of a conversation that --generator writes."),
]
ConfirmJudge = Annotated[
    str | None,
    typer.Option("--confirm-judge", help="Second judge, of another family, that must agree to confirm."),
]
JudgeThinking = Annotated[
    int | None, typer.Option("--judge-thinking", min=1, help="Thinking budget of the judge, tokens.")
]
ConfirmJudgeThinking = Annotated[
    int | None,
    typer.Option("--confirm-judge-thinking", min=1, help="Thinking budget of the confirming judge, tokens."),
]
