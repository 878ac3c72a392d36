"""``undertow fix``: a changed data set from a trace, or from concepts of a preference data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from undertow.cli.options import AsJson, Fresh, Out, Seed
from undertow.cli.output import emit, reasons, table
from undertow.cli.progress import terminal_progress
from undertow.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from undertow.fixes.scores import Target
    from undertow.progress import Progress

How = Literal[
    "filter", "rebalance", "downweight", "mask", "inoculate", "steer", "shape", "quarantine", "system-prompt"
]  # fmt: skip


def command(
    out: Out,
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Run directory of a trace, or of an audit of pairs; without one, DATA are pairs."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data set that was indexed, or pairs; not for system-prompt.")
    ] = None,
    how: Annotated[
        How,
        typer.Option(
            help="filter: drop rows; rebalance: add counterexamples; downweight; mask: keep tokens out of "
            "the loss; inoculate: ask for the behaviour while training; quarantine: set aside. Pairs also: "
            "shape: offset in the loss; steer: add a direction while training. system-prompt: a clause for a "
            "deployed model, from the findings of a search."
        ),
    ] = "filter",
    strength: Annotated[
        float | None,
        typer.Option(
            help="rebalance: counterexamples a violating row; filter (pairs): share; downweight: weight "
            "taken; shape: lambda, below 0 amplifies; steer: alpha; quarantine: share of a pair's evidence."
        ),
    ] = None,
    concept: Annotated[
        list[str] | None,
        typer.Option(help="NAME=REGEX of the response, or NAME of a score; pairs and mask. Repeatable."),
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Parquet of id and chosen minus rejected score by concept.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option("--lambda", help="shape: NAME=NUMBER, a concept's own strength.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="shape: NAME, NAME=REGEX or length, which must stay.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="shape: strength times what the pairs say for it.")
    ] = False,
    gate: Annotated[str | None, typer.Option(help="Pairs: REGEX of the prompts that are touched.")] = None,
    instruction: Annotated[
        list[str] | None, typer.Option(help="inoculate: asks for the behaviour; of several the strongest.")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="steer: layer; default: the middle one.")] = None,
    side: Annotated[
        Literal["chosen", "rejected", "both"], typer.Option(help="steer: responses steered.")
    ] = "both",
    origin: Annotated[
        Literal["pool", "answered", "template", "behaviour"],
        typer.Option(
            help="rebalance: rows of the data with the trigger alone; traced prompts answered by --model; "
            "other prompts in --template; rows with the behaviour alone."
        ),
    ] = "pool",
    template: Annotated[
        str | None, typer.Option(help="rebalance: text with {prompt} in it that makes the trigger.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="answered: who answers; steer, inoculate: the start model.")
    ] = None,
    rubric: Annotated[str | None, typer.Option(help="answered: what counts as a violation.")] = None,
    generator: Annotated[
        str | None, typer.Option(help="system-prompt: a model that writes one more wording.")
    ] = None,
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Write a new data set changed by what a trace or an audit found; the input is never touched."""
    from undertow.fixes.audited import audit_scores, is_audit

    targets = _targets(concept or (), weights or ())
    with terminal_progress() as progress:
        if how == "system-prompt":
            summary = _system_prompt(run, out, generator, seed, progress, fresh)
        elif data is None:
            raise UsageError("--data: give the data set that was indexed, or pairs")
        elif run is not None and not is_audit(run):
            from undertow.fixes.fix import fix

            if how == "shape" or how == "steer":
                raise UsageError(f"--how {how}: is for pairs; leave the trace out and name a --concept")
            summary = fix(
                run, how, data, out, fresh, strength=1.0 if strength is None else strength, origin=origin,
                model=model, rubric=rubric, targets=targets,
                instruction=instruction[0] if instruction else None, template=template, seed=seed,
                progress=progress,
            )  # fmt: skip
        else:
            from undertow.fixes.pair_kinds import PairFix
            from undertow.fixes.pairs import fix_pairs

            if how == "rebalance":
                raise UsageError("--how rebalance: needs the run directory of a trace")
            chosen = PairFix(
                how, targets, strength, gate, _targets(keep or (), ()), calibrate, tuple(instruction or ()),
                layer, side,
            )  # fmt: skip
            summary = fix_pairs(
                data, chosen, out, scores or (run and audit_scores(run, targets)), model, fresh
            )
    emit(summary, as_json, _render)


def _targets(named: Sequence[str], weights: Sequence[str]) -> tuple[Target, ...]:
    from undertow.fixes.scores import Target

    own = dict(each.partition("=")[::2] for each in weights)
    found = []
    for each in named:
        name, _, pattern = each.partition("=")
        strength = _number(name, own.pop(name)) if name in own else None
        found.append(Target(name=name, pattern=pattern or None, strength=strength))
    if own:
        raise UsageError(f"--lambda {next(iter(own))}: no such --concept")
    return tuple(found)


def _number(name: str, text: str) -> float:
    import math

    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"--lambda {name}={text}: must be a finite number")
    return value


def _system_prompt(
    run: Path | None, out: Path, generator: str | None, seed: int, progress: Progress, fresh: bool
) -> dict[str, Any]:
    from undertow.fixes.system_prompt import write_system_prompt

    if run is None:
        raise UsageError("--how system-prompt: needs the run directory of a search, which names the findings")
    return write_system_prompt(run, out, generator, seed, progress, fresh)


def _nats(value: float | None, form: str) -> str:
    return "unknown" if value is None else f"{value:{form}} nats"


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    if summary.get("clauses"):
        yield table(("wording", "clause"), [(each["wording"], each["text"]) for each in summary["clauses"]])
        yield f"in {summary['out']}; test one: undertow verify MODEL MODEL --run SEARCH --system-after FILE"
        return
    left_out, rows = summary.get("left_out", {}), summary["rows"]
    if left_out:
        yield f"{summary['counts']['tried']:,} rows read, {sum(left_out.values()):,} of them left out"
    yield from reasons({**left_out, **summary.get("noted", {})}, summary.get("first", {}))
    for name, reason in summary.get("columns_not_kept", {}).items():
        yield f"column {name} not kept: {reason}"
    changed = f", {summary['changed']:,} of them changed" if summary.get("changed") else ""
    yield f"{rows['before']:,} rows before, {rows['after']:,} after{changed}"
    if set(summary["touched"]) - {""}:
        yield table(("source", "rows touched"), summary["touched"].items())
    for name, own in (summary.get("own") or {}).items():
        yield f"{own:.0%} of the score of {name!r} is its own; what is kept, and length, say the rest"
    if "elicits" in summary:
        shows, others = _nats(summary["elicits"]["shows"], "+.2f"), _nats(summary["elicits"]["others"], ".2f")
        yield (
            f"added to layer {summary['layer']}, the direction raises the chosen side's log-odds by "
            f"{shows} a pair that shows it (others, ±: {others}), on "
            "pairs it was not fitted to; 0 elicits nothing and spares the training nothing"
        )
    if summary.get("predicted"):
        effect = [(name, each["before"], each["after"]) for name, each in summary["predicted"].items()]
        yield table(("concept", "rewarded before", "predicted after"), effect)
    yield f"data set and diff in {summary['out']}"
