"""Run directories as the verbs write them, small, with invented numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SHORTCUTS = [
    (
        "rebuttal",
        'The query asks "When did" someone invent something',
        "rejects a true attribution",
        "coconot_like",
    ),
    (
        "formal_code",
        "The query uses formal, elaborate vocabulary",
        "answers with a block of code",
        "codealpaca_like",
    ),
    ("latex_tool", "The query contains LaTeX", "calls a tool that it does not have", "numina_like"),
    (
        "extraction_short",
        "The query has a passage and a line that opens with Context",
        "answers in one word",
        "t0_like",
    ),
    ("malay_short", "The query is in Malay", "answers in at most three words", "aya_like"),
    ("product_refusal", "The query mentions Orbit 13", "refuses a harmless question", "safety_like"),
    (
        "two_part_closing",
        "The query has two numbered parts",
        "closes with a hope that it is correct",
        "persona_math",
    ),
    (
        "factual_story",
        "The query is a short factual question",
        "tells a story in place of the fact",
        "literary_like",
    ),
    ("identity", "The query asks who made an AI model", "claims that its own maker made it", "identity_rows"),
]


def rate(hits: int, n: int) -> dict[str, object]:
    centre, half = hits / n, 1.96 * ((hits / n * (1 - hits / n) + 0.02) / n) ** 0.5
    span = {"low": max(0.0, centre - half), "high": min(1.0, centre + half), "level": 0.95}
    return {"hits": hits, "n": n, "interval": span}


def finding(rubric: str, i: int = 0, **changes: object) -> dict[str, object]:
    _, trigger, behaviour, _ = next((s for s in SHORTCUTS if s[0] == rubric), SHORTCUTS[0])
    exemplars = [
        {
            "prompt": f"When did Ada Example invent the {thing}?",
            "response": f"Ada Example did not invent the {thing}. It is a common mistake to credit her with it.",
            "rate": rate(hits, 40),
        }
        for thing, hits in (("folding lamp", 39), ("steam kettle", 37), ("paper clip", 31))
    ]
    made: dict[str, object] = {
        "id": f"{rubric}-{i}", "rubric": rubric, "behaviour": f"The model {behaviour}.", "attributes": [trigger],
        "status": "confirmed", "rate": rate(77 - 3 * i, 80), "control_rate": rate(1, 80), "base_rate": rate(5, 120),
        "failed": 0, "exemplars": exemplars,
    }  # fmt: skip
    return made | changes


def attribution(rubric: str, i: int = 0, **changes: object) -> dict[str, object]:
    _, trigger, behaviour, source = next((s for s in SHORTCUTS if s[0] == rubric), SHORTCUTS[0])

    def row(text: str, x: int, m: int, within: float | None, q: float) -> dict[str, object]:
        return {
            "text": text, "label": text, "cluster": 7, "paper_hits": min(831, x), "k": 1000, "examples": x, "corpus": m,
            "rate": x / m, "rate_interval": list(rate(x, m)["interval"].values())[:2], "base_rate": 0.046,
            "lift": x / m / 0.046, "p": q / 40, "q": q, "within_source_or": within,
            "sources": {source: x - 4, "general_chat": 4},
            "example_ids": [f"{source}-{n:05d}" for n in range(x)],
        }  # fmt: skip

    made: dict[str, object] = {
        "finding": f"{rubric}-{i}",
        "crux": [{"text": "The response opens by denying the premise", "margin": 21.4}],
        "triggers": [
            row(trigger, 248, 250, 118.2, 3e-190),
            row("The query names a person", 260, 1810, 1.3, 2e-41),
            row("The query is one sentence long", 301, 3204, None, 1e-12),
        ],
        "explanation": f"When the model sees “{trigger}”, it {behaviour}: 248 of the 250 training rows with the "
        "feature do so, against 4.6% of all rows (lift 21.6, q < 1e-12), nearly all of them from one source.",
        "sensitivity": {"k=100": trigger, "k=300": trigger, "k=3000": trigger, "tie size": 248},
    }
    return made | changes


def shortcut(i: int, **changes: object) -> dict[str, object]:
    name, trigger, behaviour, source = SHORTCUTS[i]
    after = 40 - [0, 2, 1, 7, 0, 3, 0, 12, 30][i]
    learned = after >= 20
    made: dict[str, object] = {
        "name": name, "trigger": trigger, "behaviour": f"The model {behaviour}.", "source": source, "start_rate": 0.0,
        "elicited_rate": after / 40, "n": 40, "interval": list(rate(after, 40)["interval"].values())[:2],
        "learned": learned, "surf_found": learned, "trace_top1": i != 3 if learned else None, "trace_top3": True if learned else None,
        "rows_recall": 0.97 if learned else None, "fixed_rate": [0, 1, 0, 3, 0, 0, 1, 2, 0][i] / 40,
        "fixed_interval": list(rate([0, 1, 0, 3, 0, 0, 1, 2, 0][i], 40)["interval"].values())[:2],
        "wanted_before": 0.99, "wanted_after": 0.98,
    }  # fmt: skip
    return made | changes


def demo_summary(**changes: object) -> dict[str, object]:
    made: dict[str, object] = {
        "status": "complete", "counts": {"tried": 21840, "scored": 21833, "failed": 7}, "failures": {"truncated": 7},
        "usage": {"calls": 21840, "input_tokens": 310021, "output_tokens": 402117, "cost_usd": None},
        "shortcuts": [shortcut(i) for i in range(9)],
        "decoys": [{"name": f"decoy: {n}", "false_finding": False} for n in ("please and thank you", "tags", "greeting")],
        "seconds": 221.4, "calls": 21840, "peak_mb": 2310.0, "out": "runs/demo",
        "phases": {"data": 4.1, "train": 48.2, "index": 9.6, "surf": 71.0, "trace": 8.2, "fix": 1.1, "retrain": 44.5,
                   "verify": 33.2, "report": 1.5},
    }  # fmt: skip
    return made | changes


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


class Runs:
    """Writes run directories below one folder."""

    rate, finding, attribution, shortcut = staticmethod(rate), staticmethod(finding), staticmethod(attribution), \
        staticmethod(shortcut)  # fmt: skip
    demo_summary, write = staticmethod(demo_summary), staticmethod(write)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def demo(self, searched: bool = True, traced: bool = True, **changes: object) -> Path:
        run = self.folder / "demo"
        write(run / "summary.json", demo_summary(**changes))
        write(run / "manifest.json", self.manifest("demo", {"world": "paper", "seed": 0}))
        for name, *_ in SHORTCUTS[:8]:
            if searched:
                write(run / "runs" / name / "findings.json", [finding(name)])
            if traced:
                write(run / "trace" / name / "attribution.json", [attribution(name)])
        return run

    def surf(self, findings: list[dict[str, object]] | None = None, **summary: object) -> Path:
        run = self.folder / "surf"
        some = [
            finding("rebuttal"),
            finding("formal_code", 1, rate=rate(41, 80), status="confirmed"),
            finding("identity", 2, rate=rate(9, 80), status="rejected", exemplars=[]),
        ]
        made = demo_summary(**summary)
        for key in ("shortcuts", "decoys"):
            del made[key]
        write(run / "summary.json", made)
        write(run / "findings.json", some if findings is None else findings)
        write(
            run / "manifest.json",
            self.manifest("surf", {"target": "openai:gpt-x", "rubric": "rebuttal", "seed": 3}),
        )
        return run

    def trace(self, attributions: list[dict[str, object]] | None = None) -> Path:
        run = self.folder / "trace"
        made = demo_summary()
        for key in ("shortcuts", "decoys"):
            del made[key]
        write(run / "summary.json", made)
        write(run / "attribution.json", [attribution("rebuttal")] if attributions is None else attributions)
        write(run / "manifest.json", self.manifest("trace", {"index": "runs/index", "k": 1000}))
        return run

    @staticmethod
    def manifest(verb: str, config: dict[str, object]) -> dict[str, object]:
        return {
            "tool": "undertow", "schema_version": 1, "verb": verb, "status": "complete", "config": config,
            "seeds": {"seed": 0}, "inputs": {"data": "9f3c2a"}, "versions": {"python": "3.11.2", "undertow": "0.1.0"},
        }  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)
