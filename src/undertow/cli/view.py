"""``undertow view``: look through all runs of a folder in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path, typer.Argument(help="Folder that holds runs, at any depth.")],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")
    ] = 8420,
) -> None:
    """Serve the runs of a folder on this machine, read-only, until Ctrl-C."""
    from undertow.view.server import serve

    serve(folder, port, lambda address: typer.echo(f"{address}  (Ctrl-C stops it)"))
