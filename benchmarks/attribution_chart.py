"""Draw top-1 accuracy by prevalence: `python benchmarks/attribution_chart.py attribution.json chart.svg`.

Reads what ``benchmarks/attribution.py --out`` wrote: one failing query, the copies of the mixture that no
rule was made with; whiskers are 95 % Wilson intervals.
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path

from attribution import BANDS, is_fresh

from undertow.stats.intervals import rate

METHODS = {
    "ours": ("ours", "#1f5fbf"),
    "keyword log-odds": ("keyword log-odds", "#c2571a"),
    "paper score": ("the paper's score, local attributes", "#5f6368"),
    "query kNN": ("nearest prompts by embedding", "#2e7d4f"),
}
"""Method → name shown, colour."""
LEFT, TOP, WIDTH, HEIGHT, STEP = 64, 92, 720, 300, 22


def text(
    x: float, y: float, said: str, anchor: str = "middle", colour: str = "#202124", size: int = 14
) -> str:
    style = f'text-anchor="{anchor}" fill="{colour}" font-size="{size}"'
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(said)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def height(share: float) -> float:
    """Place of a share on the page."""
    return TOP + HEIGHT * (1 - share)


def axes(names: list[tuple[str, int]]) -> list[str]:
    parts = []
    for percent in range(0, 101, 25):
        y = height(percent / 100)
        parts += [line(LEFT, y, LEFT + WIDTH, y, "#dadce0"), text(LEFT - 8, y + 5, f"{percent} %", "end")]
    for column, (name, plants) in enumerate(names):
        x = LEFT + WIDTH * (column + 0.5) / len(names)
        parts.append(text(x, TOP + HEIGHT + 24, name))
        parts.append(text(x, TOP + HEIGHT + 42, f"{plants} plants", size=12, colour="#5f6368"))
    parts.append(
        text(LEFT + WIDTH / 2, TOP + HEIGHT + 68, "share of the mixture's rows that have the trigger")
    )
    return parts


def points(records: list[dict], method: str, place: int) -> list[str]:
    """One method's shares and intervals, band by band."""
    _, colour = METHODS[method]
    parts = []
    for column, (low, high, _) in enumerate(BANDS):
        some = [r for r in records if r["method"] == method and low <= r["prevalence"] < high]
        measured = rate(sum(r["top1"] for r in some), len(some))
        if measured.value is None or measured.interval is None:
            continue
        x = LEFT + WIDTH * (column + 0.5) / len(BANDS) + (place - (len(METHODS) - 1) / 2) * STEP
        parts.append(line(x, height(measured.interval.low), x, height(measured.interval.high), colour, 2))
        parts.append(f'<circle cx="{x:.1f}" cy="{height(measured.value):.1f}" r="5" fill="{colour}"/>')
    return parts


def chart(records: list[dict]) -> str:
    records = [r for r in records if r["queries"] == 1 and is_fresh(r)]
    mine = [r["prevalence"] for r in records if r["method"] == "ours"]
    names = [(name, sum(low <= p < high for p in mine)) for low, high, name in BANDS]
    parts = [text(LEFT, 26, "Planted trigger named first, one failing query", "start", size=17)]
    for i, (shown, colour) in enumerate(METHODS.values()):
        x, y = LEFT + 8 + 320 * (i % 2), 50 + 20 * (i // 2)
        parts += [f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{colour}"/>', text(x + 12, y, shown, "start")]
    parts += axes(names)
    for place, method in enumerate(METHODS):
        parts += points(records, method, place)
    size = (LEFT + WIDTH + 24, TOP + HEIGHT + 84)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif">'
    )
    return "\n".join(
        [head, f'<rect width="{size[0]}" height="{size[1]}" fill="#ffffff"/>', *parts, "</svg>\n"]
    )


if __name__ == "__main__":
    results = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    Path(sys.argv[2]).write_text(chart(results["mixture"]["cases"]), "utf-8")
