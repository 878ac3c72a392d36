"""Draw what an offset of λ makes of a trait, of what is wanted and of soundness.

python examples/dose_curve.py OUT/amplify/table.json docs/images/dose.svg
"""

from __future__ import annotations

import altair as alt
from svg import table_to_svg

COLOURS = ["#d55e00", "#0072b2", "#6f6b64"]


def points(table: dict[str, dict]) -> list[dict[str, object]]:
    """Rates of every arm that is an offset, ``none`` at λ = 0."""
    found = []
    for arm, rates in table.items():
        if arm != "none" and not arm.startswith("shape "):
            continue
        for name, rate in rates.items():
            value, (low, high) = rate["hits"] / rate["n"], (rate["interval"]["low"], rate["interval"]["high"])
            told = {"λ": 0.0 if arm == "none" else float(arm.split()[1]), "what": name}
            found.append({**told, "share of answers": value, "low": low, "high": high})
    return found


def chart_of(table: dict[str, dict]) -> alt.LayerChart:
    """Draw the curve."""
    rows = points(table)
    names = list(dict.fromkeys(str(row["what"]) for row in rows))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("λ:Q", title="λ of the offset: below 0 amplifies, above 0 suppresses"),
        color=alt.Color("what:N", title=None, scale=alt.Scale(domain=names, range=COLOURS[: len(names)])),
    )
    y = alt.Y("share of answers:Q", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    bars = base.mark_rule().encode(y=alt.Y("low:Q", title="share of answers"), y2="high:Q")
    return (base.mark_line(point=True).encode(y=y, shape=alt.Shape("what:N", title=None)) + bars).properties(
        width=560, height=260
    )


if __name__ == "__main__":
    table_to_svg(chart_of, __doc__)
