"""Lets the tests of this folder import ``surf_world`` and the servers; one server of scripted judges."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVERS = Path(__file__).parents[1] / "servers"
sys.path[:0] = [str(Path(__file__).parent), str(SERVERS)]


@pytest.fixture(scope="session")
def judges() -> Iterator[str]:
    """The model string of the scripted judges, but for the name."""
    import fault_server

    with fault_server.running(script=str(SERVERS / "judge_server.py")) as url:
        yield f"openai-compatible:{url}/v1#"
