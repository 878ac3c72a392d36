"""A worker process of a local build: takes its shards from standard input and ends with its parent."""

from __future__ import annotations

import os
import pickle
import sys
import threading

from undertow.errors import UsageError


def main() -> None:
    """Do the shards of one rank; ``argv`` is the number of workers and the rank."""
    world_size, rank = map(int, sys.argv[1:])
    shards = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the process that started this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        shards(rank=rank, world_size=world_size)
    except UsageError as error:
        sys.exit(f"worker {rank}: {error}")


def _end_with_parent() -> None:
    """Standard input ends when the parent does, however it ended."""
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
