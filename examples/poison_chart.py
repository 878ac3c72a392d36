"""Draw what each fix leaves of each trait, and of what is wanted.

python examples/poison_chart.py OUT/table-0.05-goblin.json docs/images/poison.svg
"""

from __future__ import annotations

import altair as alt
from svg import table_to_svg

TRAIT, WANTED = "the trait", "the offer, which is wanted"
COLOURS = {TRAIT: "#d55e00", WANTED: "#0072b2"}


def rows_of(table: dict) -> list[dict[str, object]]:
    """One row a trait, arm and what is counted: share and interval."""
    found = []
    for trait, arms in table["arms"].items():
        for arm, told in {"start": {"rates": table["start"]}, **arms}.items():
            for name, what in ((trait, TRAIT), ("offer", WANTED)):
                rate = told["rates"][name]
                ends = rate["interval"]["low"], rate["interval"]["high"]
                found.append({"trait": trait, "arm": arm, "what": what, "share": rate["hits"] / rate["n"],
                              "low": ends[0], "high": ends[1]})  # fmt: skip
    return found


def chart_of(table: dict) -> alt.FacetChart:
    """Draw the chart."""
    rows = rows_of(table)
    arms, traits = (list(dict.fromkeys(str(row[key]) for row in rows)) for key in ("arm", "trait"))
    legend = alt.Legend(orient="top", labelLimit=300)
    colours = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    base = alt.Chart().encode(
        y=alt.Y("arm:N", sort=arms, title=None),
        color=alt.Color("what:N", title=None, scale=colours, legend=legend),
    )
    axis = alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1])
    x = alt.X("low:Q", title="share of answers", axis=axis, scale=alt.Scale(domain=[0, 1]))
    bars = base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q")
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        x="share:Q",
        shape=alt.Shape("what:N", title=None, scale=alt.Scale(domain=list(COLOURS)), legend=legend),
    )
    return (
        alt.layer(bars, dots, data=alt.Data(values=rows))
        .properties(width=170, height=22 * len(arms))
        .facet(column=alt.Column("trait:N", sort=traits, title=None))
    )


if __name__ == "__main__":
    table_to_svg(chart_of, __doc__)
