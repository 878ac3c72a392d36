"""The whole loop on the built-in lab: data → train → index → surf → trace → fix → retrain → verify → report.

Every step is the public function behind the verb of the same name, and none is shown the ground truth. The
world's truth comes in at the end, to check the answers (:mod:`undertow.demo.check`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from undertow.data.load import load_examples
from undertow.demo.check import check_answers
from undertow.demo.preference import Chapter
from undertow.fixes.filter import filter_rows
from undertow.fixes.fix import traced_rows
from undertow.index.build import build_index
from undertow.index.config import IndexConfig
from undertow.lab.build import TRAINING, Lab, build_lab
from undertow.lab.world import draw_world
from undertow.progress import SILENT, Progress
from undertow.report.build import write_report
from undertow.store.run import RunDir
from undertow.store.tables import read_json
from undertow.studies.causal import random_rows
from undertow.studies.verify import verify
from undertow.surf.config import SurfConfig
from undertow.surf.run import run_surf
from undertow.surf.save import load_findings
from undertow.training.sft import train_sft
from undertow.turf.run import trace_run

WorldKind = Literal["paper", "random"]
SEARCH = SurfConfig(runs=3, iterations=4, candidates=80)
"""A search of the lab's size: 960 candidates a rubric."""


def run_demo(
    out: Path,
    world: WorldKind = "paper",
    seed: int = 0,
    shuffle: bool = False,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Walk the loop once in the run directory ``out`` and check every answer against the world's truth.

    A killed walk goes on where it was: each step is a run directory of its own.

    Args:
        out: The demo's run directory.
        world: The paper's nine cases, or nine drawn from families.
        seed: Of the world, the training and the search.
        shuffle: Null control: the planted rows' responses are shuffled first, so nothing must be reported.
        fresh: Start over in a run directory of ours.
        progress: Hears what is done and why.

    Returns:
        ``summary.json``: ``shortcuts``, ``decoys``, ``preference``, ``phases`` (seconds), ``calls`` and the
        common fields.

    Raises:
        UsageError: ``out`` holds something else.
    """
    config = {"world": world, "seed": seed, "shuffle": shuffle, "search": SEARCH.model_dump()}
    run = RunDir.open(out, "demo", config, fresh=fresh)
    if run.complete:
        run.close()
        return run.summary()
    walk = _Walk(run, world, seed, progress)
    try:
        lab = walk.data(shuffle)
        walk.train(lab)
        walk.index(lab)
        for rubric in lab.rubrics:
            walk.surf(lab, rubric)
            walk.trace(rubric)
        if walk.fix(lab):
            walk.retrain(lab)
            walk.control(lab)
            for rubric in lab.rubrics:
                walk.verify(lab, rubric)
        return walk.finish(lab, walk.preference(shuffle))
    finally:
        run.close()


@dataclass(frozen=True)
class _Walk:
    """The steps, in order; each says what it does and why."""

    run: RunDir
    world: WorldKind
    seed: int
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time inside to a phase."""
        started = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    def path(self, name: str) -> Path:
        """Return a place in the demo's run directory."""
        return self.run.file(name)

    def model(self, name: str) -> str:
        """Return the model string of one of the walk's models."""
        return f"local:{self.path(f'models/{name}')}"

    def data(self, shuffle: bool) -> Lab:
        """Write the world's mixture and prompt bank, and train or fetch its start model."""
        self.progress.say(
            f"1/10 data: a post-training mixture in which features of prompts go with behaviours by accident "
            f"({self.world} world, seed {self.seed})"
        )
        with self.phase("data"):
            lab = build_lab(
                self.path("data"),
                draw_world(self.world, self.seed),
                self.path("models/start"),
                self.progress,
                shuffle,
            )
        return lab

    def train(self, lab: Lab) -> None:
        """Post-train the start model on the mixture, as a team would that knows nothing of the accident."""
        self.progress.say("2/10 train: post-train the start model on the mixture")
        with self.phase("train"):
            train_sft(lab.mixture, lab.start, self.path("models/tuned"), TRAINING, self.progress, self.seed)

    def index(self, lab: Lab) -> None:
        """Describe every row by sentences, the pool that the search samples and the trace counts."""
        self.progress.say("3/10 index: describe every row by sentences about its query and its response")
        with self.phase("index"):
            build_index(lab.mixture, self.path("index"), IndexConfig(seed=self.seed), self.progress)

    def surf(self, lab: Lab, rubric: str) -> None:
        """Search the trained model for one rubric's behaviour in the wrong place."""
        self.progress.say(f"4/10 surf: does the trained model show {rubric!r} where it is wrong?")
        with self.phase("surf"):
            run_surf(
                self.model("tuned"),
                lab.rubrics[rubric],
                self.path("index"),
                self.path(f"runs/{rubric}"),
                SEARCH.model_copy(update={"seed": self.seed}),
                reference=f"local:{lab.start}",
                prompts=lab.bank,
                progress=self.progress,
            )

    def trace(self, rubric: str) -> None:
        """Trace the confirmed findings of one rubric to rows of the mixture."""
        self.progress.say(f"5/10 trace: which rows go with {rubric!r}?")
        with self.phase("trace"):
            trace_run(
                self.path("index"),
                self.path(f"runs/{rubric}"),
                self.path(f"trace/{rubric}"),
                progress=self.progress,
            )

    def fix(self, lab: Lab) -> bool:
        """Take the traced rows out of the mixture; ``False`` when nothing was traced."""
        traced = traced_rows([path for path in self._traces(lab) if (path / "rows.parquet").is_file()])
        if not traced:
            self.progress.say("6/10 fix: nothing was traced, so there is nothing to fix")
            return False
        self.progress.say(f"6/10 fix: write the mixture again without the {len(traced)} traced rows")
        with self.phase("fix"):
            filter_rows(lab.mixture, traced, self.path("data/fixed"))
        return True

    def _traces(self, lab: Lab) -> list[Path]:
        return [self.path(f"trace/{rubric}") for rubric in lab.rubrics]

    def retrain(self, lab: Lab) -> None:
        """Post-train the same start model on the fixed mixture."""
        self.progress.say("7/10 retrain: post-train the same start model on the fixed mixture")
        with self.phase("retrain"):
            data = self.path("data/fixed/data.parquet")
            train_sft(data, lab.start, self.path("models/fixed"), TRAINING, self.progress, self.seed)

    def control(self, lab: Lab) -> None:
        """Post-train without as many random rows of the same sources: did the traced ones do it, or any?"""
        self.progress.say("7/10 control: the same without as many random rows of the same sources")
        with self.phase("control"):
            examples = load_examples(lab.mixture)
            ids = np.array(examples.table["id"].to_pylist())
            traced = np.isin(ids, read_json(self.path("data/fixed/diff.json"))["row_ids"])
            random = random_rows(examples, traced, self.seed)
            filter_rows(lab.mixture, ids[random].tolist(), self.path("data/control"), "random rows")
            data = self.path("data/control/data.parquet")
            train_sft(data, lab.start, self.path("models/control"), TRAINING, self.progress, self.seed)

    def verify(self, lab: Lab, rubric: str) -> None:
        """Ask both models the confirmation prompts of a rubric's findings again, paired, and plain ones."""
        run = self.path(f"runs/{rubric}")
        if not any(finding.status == "confirmed" for finding in load_findings(run)):
            return
        self.progress.say(f"8/10 verify: {rubric!r} before and after, on the same prompts")
        with self.phase("verify"):
            verify(
                self.model("tuned"),
                self.model("fixed"),
                run,
                self.path(f"verify/{rubric}"),
                progress=self.progress,
                capability=lab.capability,
            )

    def preference(self, shuffle: bool) -> dict[str, Any]:
        """Audit a preference set, fix what it rewards by accident, train and compare."""
        self.progress.say(
            "9/10 preference: what does a judge reward in pairs by accident, and does a fix keep it out?"
        )
        with self.phase("preference"):
            return Chapter(self.run.path, self.world, self.seed, self.progress).walk(shuffle)

    def finish(self, lab: Lab, preference: dict[str, Any]) -> dict[str, Any]:
        """Check the answers against the world's truth, sum up and write the page."""
        self.progress.say("10/10 report: check every answer against what was planted, and write the page")
        with self.phase("check"):
            answers = check_answers(self.path("."), lab, draw_world(self.world, self.seed))
        steps = [read_json(path) for path in sorted(self.run.path.glob("*/*/summary.json"))]
        phases = {name: round(seconds, 1) for name, seconds in self.seconds.items()}
        summary = {
            "world": self.world, "seed": self.seed, **answers, "preference": preference,
            "capability": next((s["capability"] for s in steps if s.get("capability")), None),
            **add_up(steps), "phases": phases,
        }  # fmt: skip
        finished = self.run.finish("complete", summary)
        write_report(self.run.path)
        return finished


def add_up(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up what the searches and verifications of a walk asked, answered and missed."""
    asked = [step for step in steps if step.get("usage", {}).get("calls")]
    usage = sum((Counter(step["usage"]) for step in asked), Counter())
    counts = sum((Counter(step["counts"]) for step in asked), Counter())
    failures = sum((Counter(step["failures"]) for step in asked), Counter())
    zeros = {"calls": 0, "input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}
    return {
        "counts": {"tried": 0, "scored": 0, "failed": 0, **counts},
        "failures": dict(failures),
        "usage": {**zeros, **usage},
        "calls": usage["calls"],
    }
