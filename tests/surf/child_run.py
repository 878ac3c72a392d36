"""A search in a process of its own, to be killed: ``python child_run.py OUT CALLS DELAY``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from surf_world import RUBRIC, ScriptedModel, WordPool

from undertow.models.base import Settings
from undertow.records import Failure, Message, Reply
from undertow.surf.config import SurfConfig
from undertow.surf.run import run_surf

CONFIG = SurfConfig(runs=2, iterations=3, candidates=30, base_prompts=40, confirm_prompts=20)


class Slow(ScriptedModel):
    """Logs each call it really gets, and takes its time."""

    def __init__(self, log: Path, delay: float) -> None:
        super().__init__(lambda prompt: 0.9 if prompt.startswith("when did") else 0.02)
        self.log, self.delay = log, delay

    async def reply(
        self, messages: Sequence[Message], settings: Settings = Settings(), replicate: int = 0
    ) -> Reply | Failure:
        await asyncio.sleep(self.delay)
        with self.log.open("a") as file:
            file.write(f"{replicate} {messages[-1].content!r}\n")
        return await super().reply(messages, settings, replicate)


if __name__ == "__main__":
    out, log = map(Path, sys.argv[1:3])
    run_surf(Slow(log, float(sys.argv[3])), RUBRIC, WordPool(), out, CONFIG)
