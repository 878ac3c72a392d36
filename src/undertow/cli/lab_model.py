"""The model of a study that trains, where none is named: the lab's start model."""

from __future__ import annotations

from collections.abc import Sequence

from undertow.progress import Progress


def start_models(named: Sequence[str] | None, progress: Progress) -> list[str]:
    """Return the models that were named, or else the lab's start model, trained once and kept.

    Raises:
        UndertowError: the lab's model did not learn.
    """
    if named:
        return list(named)
    from undertow.lab.build import cache_folder
    from undertow.lab.start import train_start_model

    return [str(train_start_model(cache_folder(), progress))]
