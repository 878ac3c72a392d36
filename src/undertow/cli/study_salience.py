"""``undertow study salience``: which features of a prompt does a model condition on?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from undertow.cli.configure import configure
from undertow.cli.lab_model import start_models
from undertow.cli.options import AsJson, Fresh, Out, Seed
from undertow.cli.output import emit, table
from undertow.cli.progress import terminal_progress
from undertow.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from undertow.studies.library import Feature


def command(
    base: Annotated[Path, typer.Option(help="Rows of prompt and plain response, with topic if you like.")],
    out: Out,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Start model, a folder or Hugging Face id; may repeat. Default: the lab's."),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="YAML of features; default: the ten of the study.")
    ] = None,
    behaviours: Annotated[
        Path | None, typer.Option(help="YAML of behaviours; default: the four of the study.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only these features, by name; may repeat.")] = None,
    sweep: Annotated[
        Literal["none", "presence", "system"],
        typer.Option(help="none: rank all pairs. presence, system: sweep --feature against --against."),
    ] = "none",
    feature: Annotated[str | None, typer.Option(help="Feature that presence sweeps.")] = None,
    against: Annotated[str | None, typer.Option(help="The other feature of a sweep.")] = None,
    writer: Annotated[str | None, typer.Option(help="Model that writes what no rule can.")] = None,
    judge: Annotated[str, typer.Option(help='"checks", or a model that judges by the rubric.')] = "checks",
    rows: Annotated[int, typer.Option(min=1, help="Training rows of each side.")] = 150,
    ask: Annotated[int, typer.Option(min=1, help="Questions of each combination.")] = 40,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; default 2e-5.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data; default 2.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows a step; default 64.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest row, tokens; default 1024.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, tokens.")] = 64,
    seed: Seed = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Confound features in small fine-tunes, tell them apart afterwards, and rank them (Bradley-Terry)."""
    from undertow.report.build import write_report
    from undertow.studies.asking import AskingConfig
    from undertow.studies.experiments import Setup
    from undertow.studies.library import SHIPPED, Behaviour, Feature, load_library
    from undertow.studies.salience import run_salience
    from undertow.studies.sweeps import run_presence, run_systems
    from undertow.training.config import SFTConfig

    training = configure(SFTConfig, lr=lr, epochs=epochs, batch=batch, max_length=max_length)
    asking = AskingConfig(temperature=0.0, max_tokens=max_tokens)
    setup = Setup(rows, ask, seed, training, asking, writer, judge)
    known = load_library(features or SHIPPED / "features.yaml", Feature)
    shown = load_library(behaviours or SHIPPED / "behaviours.yaml", Behaviour)
    chosen = [_named(known, name, "--only") for name in only] if only else known
    swept = _named(known, feature, "--feature") if sweep == "presence" else None
    other = _named(known, against, "--against") if sweep != "none" else None
    with terminal_progress() as progress:
        models = start_models(model, progress)
        if other is None:
            summary = run_salience(
                models, base, chosen, shown, out, setup, fresh=fresh, progress=progress
            )  # fmt: skip
        elif swept is None:
            summary = run_systems(
                models, base, other, shown, out, setup=setup, fresh=fresh, progress=progress
            )  # fmt: skip
        else:
            summary = run_presence(
                models, base, swept, other, shown, out, setup=setup, fresh=fresh, progress=progress
            )
    write_report(Path(summary["out"]))
    emit(summary, as_json, _render)


def _named(known: Sequence[Feature], name: str | None, option: str) -> Feature:
    for each in known:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in known)
    told = f"{option}: name a feature" if name is None else f"{option} {name}: no such feature"
    raise UsageError(f"{told}; known: {names}")


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    if "ranking" in summary:
        yield _ranking(summary)
    elif "sweep" in summary:
        swept = [(r["sweep"], r["share"], r["value"], _span(r["interval"]), r["n"]) for r in summary["sweep"]]
        yield table(("sweep", "share", "part of the effect", "95 % interval", "n"), swept)
    else:
        systems = [
            (r["kind"], "yes" if r["trained"] else "no", r["system"]["value"], r["other"]["value"], r["n"])
            for r in summary["systems"]
        ]
        yield table(("system prompt", "trained", "its effect", "the other's", "n"), systems)
    if (tau := summary.get("kendall_tau")) is not None:
        yield f"agreement of {len(summary['models'])} models: Kendall tau {tau:.2f} on average"
    for hole in summary["missing"][:10]:
        where = " × ".join(str(v) for k, v in hole.items() if k != "reason")
        yield f"missing: {where}: {hole['reason']}"
    yield summary["sentence"]
    yield f"open {summary['out']}/report.html"


def _ranking(summary: dict[str, Any]) -> Table:
    """Show the ranking over all models, and each model's own beside it."""
    models = summary["models"] if len(summary["models"]) > 1 else {}
    each = [{row["feature"]: row["theta"] for row in ranking} for ranking in models.values()]
    rows = [
        (r["feature"], r["theta"], _span(r["interval"]), r["n"], *(own.get(r["feature"]) for own in each))
        for r in summary["ranking"]
    ]
    names = (model.rstrip("/").rpartition("/")[2] for model in models)
    return table(("feature", "theta", "95 % interval", "n", *names), rows)


def _span(interval: dict[str, Any] | None) -> str | None:
    return f"{interval['low']:.2f} to {interval['high']:.2f}" if interval else None
