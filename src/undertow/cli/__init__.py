"""The command line: one file a verb over one public function each."""

from __future__ import annotations

from undertow.cli.app import main

__all__ = ["main"]
