"""Says on the console why a run stands still, while it waits for a model that only fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from undertow.models.health import Health
from undertow.models.limiter import silences

_SECONDS_BETWEEN = 1.0


@asynccontextmanager
async def telling(say: Callable[[str], object]) -> AsyncIterator[None]:
    """Tell once of every spell in which a model of this event loop gives no answer, while in the block."""
    watching = asyncio.create_task(_watch(say))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _watch(say: Callable[[str], object]) -> None:
    told: set[Health] = set()
    while True:
        silent = silences()
        for health in silent.keys() - told:
            say(silent[health])
        told = set(silent)
        await asyncio.sleep(_SECONDS_BETWEEN)
