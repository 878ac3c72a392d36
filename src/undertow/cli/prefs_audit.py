"""``undertow prefs DATA``: ranked, controlled statements of what pairs reward."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undertow.cli.configure import configure
from undertow.cli.options import AsJson, DryRun, Fresh, Out, Seed
from undertow.cli.output import emit, reasons, table
from undertow.cli.progress import terminal_progress
from undertow.errors import UsageError
from undertow.text import one_line

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN, _FEW = 20, 20


def command(
    data: Annotated[Path, typer.Argument(help="Parquet, JSONL or HF folder of chosen and rejected.")],
    out: Out,
    identity: Annotated[
        str | None,
        typer.Option(help="COL,COL: who wrote chosen and rejected (chosen_model,rejected_model)."),
    ] = None,
    strata: Annotated[list[str] | None, typer.Option(help="Column to show concepts within; again.")] = None,
    embedding: Annotated[
        bool, typer.Option("--embedding/--no-embedding", help="Topics of prompts and the embedding SAE.")
    ] = True,
    embedder: Annotated[
        str | None, typer.Option(help='"minilm", or a sentence-transformers id or folder.')
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Policy that --sae and --probe read: folder or hub id.")
    ] = None,
    sae: Annotated[
        Path | None, typer.Option(help="Folder of its autoencoder in SAELens' layout (undertow prefs sae).")
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE: examples with prompt, response and shows (true or false); again."),
    ] = None,
    probe_kind: Annotated[
        str | None, typer.Option(help="How probes are trained: means, logistic (default) or attention.")
    ] = None,
    clusters: Annotated[int | None, typer.Option(min=2, help="Most data clusters K (512).")] = None,
    level: Annotated[float | None, typer.Option(min=0, max=1, help="False-discovery rate (0.05).")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable lines out.")] = False,
    seed: Seed = 0,
    dry_run: DryRun = False,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Say which concepts the chosen responses have over the rejected ones, and on which prompts."""
    from undertow.preference.config import AuditConfig, PrefsConfig
    from undertow.preference.run import audit_preferences, estimate_audit

    settings = configure(AuditConfig, seed=seed, clusters=clusters, level=level)
    config = configure(
        PrefsConfig, audit=settings, identity=_columns(identity), strata=tuple(strata or ()),
        embedding=embedding, embedder=embedder, model=model, sae=str(sae) if sae else None,
        probes=_probes(probe), probe_kind=probe_kind, skip_bad=skip_bad,
    )  # fmt: skip
    if dry_run:
        return emit(estimate_audit(data, config), as_json, _render_data)
    with terminal_progress() as progress:
        summary = audit_preferences(data, out, config, progress, fresh)
    return emit(summary, as_json, _render)


def _columns(identity: str | None) -> tuple[str, str] | None:
    if identity is None:
        return None
    names = [name.strip() for name in identity.split(",")]
    if len(names) != 2 or not all(names):
        raise UsageError(f"--identity {identity}: give two columns, COL,COL (chosen_model,rejected_model)")
    return names[0], names[1]


def _probes(given: list[str] | None) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(part.strip() for part in each.partition("=")[::2]) for each in given or ()]
    wrong = [each for each, (name, path) in zip(given or (), pairs, strict=True) if not (name and path)]
    if wrong:
        raise UsageError(f"--probe {wrong[0]}: give NAME=FILE, a concept and a file of its examples")
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise UsageError(f"--probe {names[0]}: every probe needs a name of its own")
    return tuple((name, path) for name, path in pairs)


def _render_data(summary: dict[str, Any]) -> Iterator[str | Table]:
    data = summary["data"]
    pairs, prompts, rows = (_counted(data[f"{noun}s"], noun) for noun in ("pair", "prompt", "row"))
    yield f"{pairs} on {prompts}, of {rows}"
    yield from reasons({**data["dropped"], **data["noted"]}, data["first"])


def _render(summary: dict[str, Any]) -> Iterator[str | Table]:
    yield from _render_data(summary)
    found = [c for c in summary["concepts"] if c["confirmed"]]
    if found:
        columns = (
            "concept",
            "delta",
            "log-odds",
            "length held",
            "length, writers held",
            "pairs",
            "prompts",
            "explained by",
        )
        shown = [c for c in found if c.get("alike") in (None, c["name"])][:_SHOWN]
        yield table(columns, [_concept(c) for c in shown], "confirmed concepts, length first")
    held = [h for h in summary["hypotheses"] if h["confirmed"]]
    if held:
        heads = (
            "on prompts or pairs",
            "pushes",
            "concept",
            "Δ",
            "Δ min",
            "q",
            "pairs",
            "prompts",
            "explained by",
        )
        shown = [h for h in held if h.get("alike") in (None, h["id"])][:_SHOWN]
        yield table(heads, [_hypothesis(h) for h in shown], "confirmed hypotheses")
    if summary["data"]["prompts"] < _FEW:
        yield f"fewer than {_FEW} prompts: too few for one half to propose a group and the other to hold it"
    said, floors = summary["confirmed"], summary["null_floors"]
    concepts, hypotheses = (
        _counted(said["concepts"], "concept"), _counted(said["hypotheses"], "hypothesis", "hypotheses")
    )  # fmt: skip
    apart = said.get("concept_heads", said["concepts"]), said.get("hypothesis_heads", said["hypotheses"])
    yield f"{concepts} and {hypotheses} confirmed, on {apart[0]:,} and {apart[1]:,} sets of pairs"
    told = ", ".join(f"{name} {floors[name]:.3g}" for name in ("global", "local") if name in floors)
    yield f"label-swap floor of Δ min: {told or 'none'}"
    yield f"all of them in {summary['out']}"


def _counted(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _concept(c: dict[str, Any]) -> tuple[object, ...]:
    effects = (_span(c, name) for name in ("coef", "coef_length", "coef_length_identity"))
    return (c["name"], f"{c['delta']:+.3f}", *effects, c["n"], c["n_prompts"], _explained(c))


def _span(c: dict[str, Any], name: str) -> str | None:
    value, interval = c[name], c[f"{name}_interval"]
    if value is None:
        return None
    return f"{value:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else f"{value:+.2f}"


def _explained(c: dict[str, Any]) -> str:
    by = [name for name in ("length", "identity") if c.get(f"{name}_explained")]
    words = {"length": "length", "identity": "the writer"}
    return words[by[0]] if by else ""


def _hypothesis(h: dict[str, Any]) -> tuple[object, ...]:
    return (
        one_line(h["prompt_group"], 60), h["direction"], h["concept"], f"{h['delta']:+.2f}", h["delta_min"],
        h["q"], h["n"], h["n_prompts"], _explained(h),
    )  # fmt: skip
