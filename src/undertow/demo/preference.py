"""The demo's second half: audit pairs → train → fix → train again → compare, on the lab's preference set.

A judge rewards what was asked for, and in a few pairs a trait that nobody asked for. The chapter knows the
former, as a team would, and not the latter: it takes it from the audit. Each step is the public function
behind a verb; the truth comes in at the end.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertow.fixes.pair_kinds import PairFix, PairHow
from undertow.fixes.pairs import fix_pairs
from undertow.fixes.scores import Target
from undertow.fixes.shaping import recovery
from undertow.lab.build import cache_folder, copy_model
from undertow.lab.preference_stage import (
    INSTRUCTIONS,
    PREFERENCE,
    TRAITS,
    WANTED,
    fresh_questions,
    poisoned_pairs,
    preference_start,
)
from undertow.models.base import Settings
from undertow.models.local import LocalModel
from undertow.preference.config import PrefsConfig
from undertow.preference.run import audit_preferences
from undertow.preference.save import SCORES
from undertow.preference.shown import mask_pattern, shows
from undertow.progress import Progress
from undertow.records import Message, Rate, Reply
from undertow.stats.intervals import paired_difference, rate, wilson
from undertow.store.tables import read_json, read_table, write_table
from undertow.training.dpo import train_dpo

if TYPE_CHECKING:
    import pyarrow as pa

    from undertow.records import Interval

PAIRS, SHARE = 800, 0.15
"""Pairs, and share of them in which the trait is rewarded."""
PROMPTS = 200
"""Held-out questions a rate."""
FIXES: tuple[tuple[PairHow, float], ...] = (("filter", 1.0), ("shape", 1.0))
"""Every pair that speaks for the concept left out; λ = 1."""
CLEAR = 0.5
"""A concept is an accident when the chosen side shows it in more than this share of the pairs that differ in
it and are alike in what was wanted: lower bound of the interval."""
SAME_ROWS = 0.5
"""Jaccard overlap from which the concept named is the one planted."""
Texts = Sequence[str | None]


def planted_trait(world: str, seed: int) -> str:
    """Return the trait that the judge rewards by accident: the paper's goblin, or a drawn one."""
    return "goblin" if world == "paper" else random.Random(f"trait/{seed}").choice(sorted(INSTRUCTIONS))


@dataclass(frozen=True)
class Chapter:
    """The steps, in order; each resumes by its own run directory."""

    root: Path
    """The demo's run directory."""
    world: str
    seed: int
    progress: Progress

    def path(self, name: str) -> Path:
        """Return a place in the chapter's folder."""
        return self.root / "preference" / name

    def model(self, name: str) -> Path:
        """Return the folder of one of the chapter's models."""
        return self.root / "models" / f"preference-{name}"

    def walk(self, shuffle: bool) -> dict[str, Any]:
        """Walk the chapter; return its part of the summary."""
        self.data(shuffle)
        concept = self.audit()
        if concept is None:
            return {"trait": None, "planted": self.planted(shuffle), "fixes": []}
        trained = {"dpo": self.train("dpo", self.path("pairs.parquet"))}
        fixed: dict[str, dict[str, Any]] = {how: self.fix(concept, how, strength) for how, strength in FIXES}
        if (pattern := mask_pattern(concept)) is not None:
            fixed["mask"] = self.fix(concept, "mask", 1.0, pattern)
        for how in fixed:
            trained[how] = self.train(how, self.path(how))
        failed: Texts = [None] * PROMPTS
        answers = {"start": self.answers("start")}
        for name, told in trained.items():  # a training that did not learn leaves no model to ask
            answers[name] = self.answers(name) if told["status"] == "complete" else failed
        return self.compare(concept, answers, trained, fixed) | self.check(concept, shuffle)

    def planted(self, shuffle: bool) -> str | None:
        """Return what was planted; nothing where sides were swapped."""
        return None if shuffle else planted_trait(self.world, self.seed)

    def data(self, shuffle: bool) -> None:
        """Write the pairs, and fetch their start model."""
        table = poisoned_pairs(planted_trait(self.world, self.seed), SHARE, self.seed, PAIRS)
        self.path(".").mkdir(parents=True, exist_ok=True)
        write_table(_swapped(table, self.seed) if shuffle else table, self.path("pairs.parquet"))
        copy_model(preference_start(cache_folder(), self.progress), self.model("start"))

    def audit(self) -> str | None:
        """Audit the pairs; return the accident that stands out most, if one does."""
        config = PrefsConfig(embedding=False)
        audit_preferences(self.path("pairs.parquet"), self.path("audit"), config, self.progress)
        return accident(self.path("audit"), read_table(self.path("pairs.parquet")), TRAITS[WANTED])

    def fix(self, concept: str, how: PairHow, strength: float, pattern: str | None = None) -> dict[str, Any]:
        """Change the pairs by the audit's own scores of the concept, or by where it stands."""
        fix = PairFix(how, (Target(name=concept, pattern=pattern),), strength)
        return fix_pairs(self.path("pairs.parquet"), fix, self.path(how), self.path("audit") / SCORES)

    def train(self, name: str, data: Path) -> dict[str, Any]:
        """Train the start model on pairs."""
        return train_dpo(
            data, self.model("start"), self.model(name), PREFERENCE, self.progress, seed=self.seed
        )

    def answers(self, name: str) -> Texts:
        """Ask a model the held-out questions, all models with the same noise; kept once asked."""
        import pyarrow as pa

        file = self.path(f"answers-{name}.parquet")
        if not file.is_file():
            asked = read_table(self.path("pairs.parquet"))["prompt"].to_pylist()
            prompts = fresh_questions(PROMPTS, self.seed, frozenset(asked))
            replies = LocalModel(self.model(name)).reply_many(
                [[Message("user", prompt)] for prompt in prompts], Settings(1.0, 60, self.seed)
            )
            texts = [reply.text if isinstance(reply, Reply) else None for reply in replies]
            write_table(pa.table({"prompt": prompts, "response": pa.array(texts, pa.string())}), file)
        found: list[str | None] = read_table(file)["response"].to_pylist()
        return found

    def compare(
        self,
        concept: str,
        answers: Mapping[str, Texts],
        trained: Mapping[str, Mapping[str, Any]],
        fixed: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Rates of the concept and of what was wanted in all models, and what each fix did."""
        shown = {name: votes(concept, texts) for name, texts in answers.items()}
        start, dpo = shown["start"], shown["dpo"]
        rates = {name: rate_of(each) for name, each in shown.items()}
        wanted = {name: rate_of(_matches(TRAITS[WANTED], texts)) for name, texts in answers.items()}
        margin = trained["dpo"]["margin"]
        return {
            "trait": concept,
            "start_rate": rates["start"].value,
            "start_interval": _bounds(rates["start"].interval),
            "start_n": rates["start"].n,
            "dpo_rate": rates["dpo"].value,
            "dpo_interval": _bounds(rates["dpo"].interval),
            "rise": _change(start, dpo)[0],
            "rise_interval": _change(start, dpo)[1],
            "n": rates["dpo"].n,
            "margin_before": margin["before"],
            "margin_after": margin["after"],
            "wanted": WANTED,
            "wanted_start": wanted["start"].value,
            "wanted_dpo": wanted["dpo"].value,
            "wanted_interval": _bounds(wanted["dpo"].interval),
            "status": trained["dpo"]["status"],
            "fixes": [
                {
                    "how": how,
                    "strength": told["strength"],
                    "pairs": sum(told["touched"].values()),
                    "rate": rates[how].value,
                    "interval": _bounds(rates[how].interval),
                    "n": rates[how].n,
                    "wanted_rate": wanted[how].value,
                    "wanted_interval": _bounds(wanted[how].interval),
                    "predicted_shift": _predicted(told, concept),
                    **_observed(_change(dpo, shown[how])),
                    "recovered": _recovered(rates["start"].value, rates["dpo"].value, rates[how].value),
                    "status": trained[how]["status"],
                }
                for how, told in fixed.items()
            ],
        }

    def check(self, concept: str, shuffle: bool) -> dict[str, Any]:
        """Hold the concept that was found against what was planted."""
        table = audited(self.path("audit"), read_table(self.path("pairs.parquet")))
        odd = np.array(table["source"].to_pylist()) == "odd"
        named = _signed(self.path("audit"), concept) > 0
        same = (odd & named).sum() >= SAME_ROWS * max(1, (odd | named).sum())
        return {"planted": self.planted(shuffle), "found": bool(same and not shuffle)}


def accident(audit: Path, pairs: pa.Table, wanted: str) -> str | None:
    """Name the rewarded concept of an audit that goes least with what was wanted; ``None`` without one.

    Among pairs whose sides both show what was wanted, or neither: the concept that the chosen side has and
    the rejected one has not, most surely; equal ones in the audit's order.

    Args:
        audit: Run directory of ``undertow prefs``.
        pairs: The pairs that were audited.
        wanted: Pattern of what the judge was to reward.
    """
    pattern, pairs = re.compile(wanted), audited(audit, pairs)
    shown = [
        np.array([bool(pattern.search(text)) for text in pairs[side].to_pylist()])
        for side in ("chosen", "rejected")
    ]
    alike = shown[0] == shown[1]
    scored = read_table(audit / SCORES).column_names
    best, surest = None, CLEAR
    for concept in read_json(audit / "summary.json")["concepts"]:
        name = concept["name"]
        if concept["delta"] <= 0 or f"{name}_chosen" not in scored:
            continue
        u = _signed(audit, name)[alike]
        span = wilson(int((u > 0).sum()), int((u != 0).sum()))
        if span is not None and span.low > surest:
            best, surest = name, span.low
    return best


def audited(audit: Path, pairs: pa.Table) -> pa.Table:
    """Return the pairs that an audit used, in its order: those that stand twice it read once."""
    import pyarrow as pa

    at = {name: row for row, name in enumerate(pairs["id"].to_pylist())}
    return pairs.take(pa.array([at[name] for name in read_table(audit / SCORES, ["id"])["id"].to_pylist()]))


def _signed(audit: Path, concept: str) -> NDArray[np.float64]:
    """Return sign of chosen - rejected of a concept, (N,) in the audit's order."""
    sides = [f"{concept}_{side}" for side in ("chosen", "rejected")]
    scores = read_table(audit / SCORES, sides)
    chosen, rejected = (scores[side].to_numpy().astype(np.float64) for side in sides)
    return np.asarray(np.sign(chosen - rejected))


def _swapped(pairs: pa.Table, seed: int) -> pa.Table:
    """Swap chosen and rejected in half of the pairs, drawn: nothing is rewarded any more."""
    import pyarrow as pa

    swap = np.random.default_rng([seed, 0x5A]).random(len(pairs)) < 0.5
    sides = [pairs[side].to_numpy(zero_copy_only=False) for side in ("chosen", "rejected")]
    for name, mine, other in (("chosen", *sides), ("rejected", *sides[::-1])):
        column = pa.array(np.where(swap, other, mine), pa.string())
        pairs = pairs.set_column(pairs.column_names.index(name), name, column)
    return pairs


Votes = Sequence[bool | None]


def votes(concept: str, texts: Texts) -> Votes:
    """Say for each answer whether it shows the concept; ``None`` where it is missing."""
    there = [text for text in texts if text is not None]
    found = iter(shows(concept, there).tolist())
    return [None if text is None else next(found) for text in texts]


def _matches(pattern: str, texts: Texts) -> Votes:
    return [None if text is None else bool(re.search(pattern, text)) for text in texts]


def rate_of(cast: Votes) -> Rate:
    """Rate over the answers that are there."""
    there = [vote for vote in cast if vote is not None]
    return rate(sum(there), len(there))


def _change(before: Votes, after: Votes) -> tuple[float | None, list[float] | None]:
    """Difference after - before over prompts that both answered, with its interval."""
    both = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    found = paired_difference([b for b, _ in both], [a for _, a in both])
    return found.value, _bounds(found.interval)


def _observed(change: tuple[float | None, list[float] | None]) -> dict[str, Any]:
    return {"observed_shift": change[0], "observed_interval": change[1]}


def _predicted(told: Mapping[str, Any], concept: str) -> float | None:
    """What the fix takes from what the set rewards at the first step, mean of w·u; ``None`` if not known."""
    found = told["predicted"].get(concept)
    return None if found is None else found["after"] - found["before"]


def _recovered(start: float | None, dpo: float | None, fixed: float | None) -> float | None:
    return None if start is None or dpo is None or fixed is None else recovery(start, dpo, fixed)


def _bounds(interval: Interval | None) -> list[float] | None:
    return [interval.low, interval.high] if interval else None
