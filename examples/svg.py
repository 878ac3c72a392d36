"""Charts of the other examples as SVG files: nothing is fetched, the paper is white."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from undertow.store.tables import atomic_write_bytes, read_json


def write(chart: Any, file: Path) -> None:
    """Write an altair chart, whole or not at all."""
    import vl_convert

    drawn: str = vl_convert.vegalite_to_svg(
        chart.configure(background="white").to_dict(), allowed_base_urls=[]
    )
    atomic_write_bytes(file, drawn.encode())


def table_to_svg(draw: Callable[[dict[str, Any]], Any], told: str | None) -> None:
    """Run a script that draws the table of its first argument into the file of its second."""
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("svg", type=Path)
    args = parser.parse_args()
    write(draw(read_json(args.table)), args.svg)
