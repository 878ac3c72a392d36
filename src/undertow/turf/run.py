"""``undertow trace`` in a run directory: findings of a search, or one pair with the help of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.index.open import Index
from undertow.progress import SILENT, Progress
from undertow.records import Attribution
from undertow.store.run import RunDir, config_hash, file_hash
from undertow.store.undo import working_in
from undertow.turf.config import TraceConfig
from undertow.turf.panel import NOBODY, Asking, Panel
from undertow.turf.query import Query
from undertow.turf.trace import FAILED, trace_exchange, trace_findings, write_traced

if TYPE_CHECKING:
    from undertow.judging.rubric import Rubric


def trace_run(
    index: Path,
    run: Path,
    out: Path,
    config: TraceConfig | None = None,
    progress: Progress = SILENT,
    fresh: bool = False,
    asking: Asking = NOBODY,
) -> dict[str, Any]:
    """Trace a search run's findings into the run directory ``out``: ``undertow trace RUN``.

    Returns:
        the summary; ``attributions`` has each finding's id, explanation and first trigger.

    Raises:
        UsageError: an input is missing or unfinished, or ``out`` holds something else.
    """
    config = config or TraceConfig()
    opened = Index.open(index)
    inputs = {"index": str(opened.info["key"]), "run": file_hash(Path(run) / "findings.json")}

    def trace(panel: Panel | None, folder: Path) -> list[Attribution]:
        return trace_findings(opened, run, folder, config, progress, panel)

    return _in_run(opened, Path(out), config, asking, inputs, trace, fresh)


def trace_pair_run(
    index: Path,
    out: Path,
    prompt: Query,
    response: str | None,
    crux: Sequence[str] | None = None,
    rubric: Rubric | None = None,
    config: TraceConfig | None = None,
    fresh: bool = False,
    asking: Asking = NOBODY,
) -> dict[str, Any]:
    """Trace one failing pair with the help of models, into the run directory ``out``.

    Raises:
        UsageError: as :func:`trace_pair`; a model cannot be reached; ``out`` holds something else.
    """
    config = config or TraceConfig()
    opened = Index.open(index)
    said = prompt if isinstance(prompt, str) else [[turn.role, turn.content] for turn in prompt]
    asked = [said, response, list(crux or ()), rubric.model_dump(mode="json") if rubric else None]
    inputs = {"index": str(opened.info["key"]), "pair": config_hash(asked)}

    def trace(panel: Panel | None, folder: Path) -> list[Attribution]:
        traced = trace_exchange(opened, prompt, response, crux, rubric, config, panel)
        write_traced([traced], folder)
        return [traced.attribution]

    return _in_run(opened, Path(out), config, asking, inputs, trace, fresh)


def _in_run(
    index: Index,
    out: Path,
    config: TraceConfig,
    asking: Asking,
    inputs: dict[str, str],
    trace: Callable[[Panel | None, Path], list[Attribution]],
    fresh: bool,
) -> dict[str, Any]:
    """Trace in a run directory, with the models that the index and the user name."""
    judged = {"judge": asking.judge} if asking.judge else {}
    directory = RunDir.open(out, "trace", {**config.model_dump(), **judged}, inputs, fresh)
    with working_in(directory):
        if directory.complete:
            return directory.summary()
        with asking.panel(index.model, directory.file("journal.sqlite")) as panel:
            attributions = trace(panel, directory.path)
            asked = {"usage": panel.usage(), "stopped": panel.stopped} if panel else {}
        failed = sum(FAILED in each.sensitivity for each in attributions)
        tried = len(attributions)
        summary = {
            "counts": {"tried": tried, "scored": tried - failed, "failed": failed},
            "named": sum(bool(each.triggers) for each in attributions),
            "attributions": [_digest(each) for each in attributions],
            **asked,
        }
        missing = failed or asked.get("stopped")
        return directory.finish("inconclusive" if missing else "complete", summary)


def _digest(attribution: Attribution) -> dict[str, object]:
    best = attribution.triggers[0] if attribution.triggers else None
    return {
        "finding": attribution.finding,
        "crux": [each.text for each in attribution.crux],
        "trigger": best.text if best else None,
        "examples": best.examples if best else None,
        "corpus": best.corpus if best else None,
        "sources": best.sources if best else {},
        "explanation": attribution.explanation,
    }
