"""What makes a feature salient: how often it is there, how well it predicts, how relevant it is.

Presence: the share p of D_A that carries the feature. Converse: it is in all of D_A and in a share q of D_B.
If only predictiveness mattered, the feature's part at p would mirror its part at 1 − q. System prompts: none,
digits, a standard one or one that describes the behaviour, in training or only afterwards. Source: references
000, Feature relevance and Feature presence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from undertow.progress import SILENT, Progress
from undertow.stats.intervals import bounded_mean
from undertow.studies.cells import Hole, Measured, told_missing
from undertow.studies.design import SPAN, Design, Shares
from undertow.studies.experiments import DEFAULT, Place, Setup, Study, run_study
from undertow.studies.library import Behaviour, Feature, Level, Realisation

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
SYSTEMS = ("none", "digits", "standard", "relevant")
_DIGITS = ("0, 1, 0, 0, 1, 1, 0, 1, 1, 0", "1, 0, 1, 1, 0, 0, 1, 0, 0, 1")
_STANDARD = ("You are a helpful assistant.", "You are an able assistant.")


def run_presence(
    models: Sequence[str],
    base: Path,
    feature: Feature,
    against: Feature,
    behaviours: Sequence[Behaviour],
    out: Path,
    *,
    shares: Sequence[float] = SHARES,
    setup: Setup = DEFAULT,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Sweep how often level a of ``feature`` stands in D_A, then how often in D_B too.

    The feature is there or not; ``against`` keeps its two levels. Arguments are those of
    :func:`undertow.studies.salience.run_salience`.

    Returns:
        ``summary.json``: ``sweep`` (``sweep`` presence or converse, ``share``, ``value``: ME of the feature
        over the sum of both, mean over models and behaviours with interval and n; none where one of them is
        missing), ``monotone``, ``mirror`` (largest distance of the part at p from the part at 1 − q),
        ``cells``, ``missing``, ``sentence``.
    """
    absent = feature.model_copy(update={"b": Realisation(keep=True)})

    def places(model: str) -> list[Place]:
        found: list[Place] = []
        for k, (behaviour, answers) in enumerate(_turns(behaviours)):
            for sweep in ("presence", "converse"):
                for share in shares:
                    held = Shares(share, 0.0) if sweep == "presence" else Shares(1.0, share)
                    design = _PresenceDesign(
                        absent, against, False, answers, (held, Shares()), draw=k
                    )  # fmt: skip
                    place = {"model": model, "behaviour": behaviour.name, "sweep": sweep, "share": share}
                    found.append((place, design))
        return found

    study = Study(
        (absent, against), behaviours, places, {"sweep": "presence", "shares": list(shares)}, _sum_presence
    )
    return run_study(study, models, base, out, setup, fresh=fresh, progress=progress)


class _PresenceDesign(Design):
    """Both training sets show level a of the first feature, each in its share of rows."""

    def levels(self, side: Level) -> tuple[Level, Level]:
        return "a", side


def run_systems(
    models: Sequence[str],
    base: Path,
    against: Feature,
    behaviours: Sequence[Behaviour],
    out: Path,
    *,
    setup: Setup = DEFAULT,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Compare system prompts of four kinds with ``against``, in training and only afterwards.

    Returns:
        ``summary.json``: ``systems`` (``kind, trained``; ``system`` and ``other``: mean ME with interval and
        n; ``dropped``: the same where the system prompt is left out instead of exchanged, the post's "2×
        prompt" beside it), none where a behaviour is missing; ``cells``, ``missing``, ``sentence``.
    """

    def places(model: str) -> list[Place]:
        found: list[Place] = []
        for k, (behaviour, answers) in enumerate(_turns(behaviours)):
            for kind in SYSTEMS:
                system = system_feature(kind, answers)
                for trained in (True,) if kind == "none" else (True, False):
                    place = {"model": model, "behaviour": behaviour.name, "kind": kind, "trained": trained}
                    hidden = frozenset() if trained else frozenset({system.name})
                    design = Design(
                        system, against, False, answers, untrained=hidden, dropped=kind != "none", draw=k
                    )  # fmt: skip
                    found.append((place, design))
        return found

    identity = {"sweep": "system", "systems": [_DIGITS, _STANDARD]}
    study = Study((against,), behaviours, places, identity, _sum_systems)
    return run_study(study, models, base, out, setup, fresh=fresh, progress=progress)


def _turns(behaviours: Sequence[Behaviour]) -> list[tuple[Behaviour, tuple[Behaviour, Behaviour]]]:
    """Give each behaviour the next as the other side's."""
    following = [*behaviours[1:], behaviours[0]]
    return [(one, (one, other)) for one, other in zip(behaviours, following, strict=True)]


def system_feature(kind: str, answers: tuple[Behaviour, Behaviour]) -> Feature:
    """Make the two system prompts of a kind; a relevant one describes each side's behaviour."""
    texts = {
        "digits": _DIGITS,
        "standard": _STANDARD,
        "relevant": tuple(behaviour.relevant for behaviour in answers),
    }
    if kind == "none":
        return Feature(name="system", text="none", a=Realisation(keep=True), b=Realisation(keep=True))
    first, second = texts[kind]
    return Feature(name="system", text=kind, a=Realisation(system=first), b=Realisation(system=second))


def _points(
    done: Sequence[Measured], holes: Sequence[Hole], keys: tuple[str, str]
) -> list[tuple[dict[str, Any], list[Measured]]]:
    """Collect the cells of each point of a sweep, all models and behaviours; none where one is missing."""
    holed = {tuple(hole.place[key] for key in keys) for hole in holes}
    points = dict.fromkeys([tuple(cell[key] for key in keys) for cell in done] + sorted(holed))
    return [
        (dict(zip(keys, point, strict=True)), [] if point in holed else _at(done, keys, point))
        for point in points
    ]


def _at(done: Sequence[Measured], keys: tuple[str, str], point: tuple[Any, ...]) -> list[Measured]:
    return [cell for cell in done if tuple(cell[key] for key in keys) == point]


def _mean(
    cells: Sequence[Measured], value: Callable[[Measured], float], span: tuple[float, float] = SPAN
) -> dict[str, Any]:
    values = [value(cell) for cell in cells]
    mean = float(np.mean(values)) if values else None
    return {
        "value": mean, "interval": bounded_mean(values, *span, np.random.default_rng(0)), "n": len(values)
    }  # fmt: skip


def _sum_presence(done: Sequence[Measured], holes: Sequence[Hole]) -> dict[str, Any]:
    points = _points(done, holes, ("sweep", "share"))
    sweep = [{**point, **_mean(cells, _part, (0.0, 1.0))} for point, cells in points]
    known = {(p["sweep"], p["share"]): p["value"] for p in sweep if p["value"] is not None}
    rising, falling = ([known[key] for key in sorted(known) if key[0] == k] for k in ("presence", "converse"))
    mirrored = [
        abs(value - known["converse", 1 - share])
        for (kind, share), value in known.items()
        if kind == "presence" and ("converse", 1 - share) in known
    ]
    mirror = max(mirrored, default=None)
    return {
        "sweep": sweep, "mirror": mirror,
        "monotone": {"presence": _ordered(rising), "converse": _ordered([-value for value in falling])},
        "sentence": _presence_sentence(rising, mirror, len(holes)),
    }  # fmt: skip


def _presence_sentence(rising: Sequence[float], mirror: float | None, holes: int) -> str:
    told = "" if mirror is None else f"; the part at p and at 1 - q differ by at most {mirror:.2f}"
    ends = f"from {rising[0]:.2f} to {rising[-1]:.2f}" if rising else "not measured"
    missing = told_missing(holes, "comparison")
    return f"The feature's part of the effect goes {ends} with its share of D_A{told}.{missing}"


def _part(cell: Measured) -> float:
    """Share of the feature's main effect in the sum of both; an effect below 0 counts as none.

    The sum is positive: a training that taught less is no comparison.
    """
    first, second = (max(0.0, effect) for effect in cell["main"])
    return float(first / (first + second))


def _ordered(values: Sequence[float], slack: float = 0.03) -> bool | None:
    """Say whether values never fall by more than the noise of a few runs."""
    return all(b >= a - slack for a, b in pairwise(values)) if len(values) > 1 else None


def _sum_systems(done: Sequence[Measured], holes: Sequence[Hole]) -> dict[str, Any]:
    systems = [
        {
            **point, "system": _mean(cells, lambda cell: cell["main"][0]),
            "other": _mean(cells, lambda cell: cell["main"][1]),
            "dropped": None if point["kind"] == "none" else _mean(cells, lambda cell: cell["dropped"]),
            "n": len(cells),
        }
        for point, cells in _points(done, holes, ("kind", "trained"))
    ]  # fmt: skip
    trained = {row["kind"]: row["system"]["value"] for row in systems if row["trained"]}
    told = ", ".join(f"{kind} {value:+.2f}" for kind, value in trained.items() if value is not None)
    missing = told_missing(len(holes), "comparison")
    return {
        "systems": systems,
        "sentence": f"Main effect of a system prompt that was trained: {told or 'not measured'}.{missing}",
    }
