"""What an audit finds of what was planted, and that it finds nothing where nothing is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from planted_pairs import BOLD, LONG, PHYSICS, PRAISE, planted
from scipy import sparse

from undertow.preference.audit import LENGTH, audit
from undertow.preference.concepts import Activations
from undertow.preference.config import AuditConfig
from undertow.preference.contrasts import cells_test, concepts_test
from undertow.preference.controls import effect as effect_of
from undertow.preference.swaps import SwapHalf
from undertow.stats.paired import Opponents

CONFIG = AuditConfig(null_draws=100)


def confirmed(found):
    return {c.cluster.name: c for c in found.concepts if c.confirmed}, [
        h for h in found.hypotheses if h.confirmed
    ]


@pytest.mark.parametrize("seed", range(3))
def test_plants_are_confirmed_and_nothing_else(seed):
    found = audit(planted(seed), AuditConfig(seed=seed, null_draws=100))
    concepts, hypotheses = confirmed(found)
    assert found.concepts[0].cluster.name == LENGTH
    assert {LENGTH, f"c{BOLD}", f"c{LONG}"} <= set(concepts) <= {LENGTH, f"c{BOLD}", f"c{PRAISE}", f"c{LONG}"}
    assert concepts[f"c{BOLD}"].controlled.length_explained is False
    assert concepts[f"c{LONG}"].controlled.length_explained is True
    local = [h for h in hypotheses if h.pipeline == "local"]
    assert [(h.prompt_group, h.cluster.name, h.direction) for h in local] == [
        (f"topic {PHYSICS}", f"c{PRAISE}", "towards")
    ]
    assert local[0].length_explained is False
    assert local[0].n_prompts < local[0].n, "prompts are counted apart from pairs"
    assert len(local[0].examples) == 5


def test_swapped_labels_confirm_nothing():
    found = [confirmed(audit(planted(seed, 600, swapped=True), CONFIG)) for seed in range(6)]
    assert sum(bool(concepts) or bool(hypotheses) for concepts, hypotheses in found) == 0


def test_the_same_seed_gives_the_same_audit():
    first, second = (audit(planted(5, 300), CONFIG) for _ in range(2))
    assert first.hypotheses == second.hypotheses
    assert first.floors == second.floors
    for one, other in zip(first.concepts, second.concepts, strict=True):
        for a, b in zip(leaves(one), leaves(other), strict=True):
            # a matrix product may differ in the last bit by where it lies in memory
            assert a == pytest.approx(b, rel=1e-9) if isinstance(b, float) else a == b


def leaves(value: Any) -> Iterator[Any]:
    """Numbers and texts of nested records, in order."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def test_one_prompt_in_hundreds_of_pairs_does_not_become_a_hypothesis():
    material = planted(1, 600)
    rows = np.arange(len(material.prompts))
    repeated = np.flatnonzero(material.topics[0] == 7)[:1].repeat(400)
    rows = np.concatenate([rows[material.topics[0] != 7], repeated])
    names = material.topics[1]
    sides = [side.tolil() for side in (material.activations.chosen, material.activations.rejected)]
    sides[0][repeated[0], 9], sides[1][repeated[0], 9] = 0.9, 0
    chosen, rejected = (sparse.csr_matrix(side)[rows] for side in sides)
    again = dataclasses.replace(
        material,
        activations=dataclasses.replace(material.activations, chosen=chosen, rejected=rejected),
        topics=(material.topics[0][rows], names),
        prompts=np.unique(material.prompts[rows], return_inverse=True)[1],
        length=material.length[rows],
    )
    _, hypotheses = confirmed(audit(again, CONFIG))
    assert not [h for h in hypotheses if h.cluster.name == "c9" or h.n_prompts < CONFIG.least_prompts]


def test_writers_are_told_from_concepts():
    """Concept 5 marks the better writer and nothing else; 6 is preferred whoever writes."""
    rng = np.random.default_rng(0)
    n, prompt = 4000, np.repeat(np.arange(1000), 4)
    first, second = rng.integers(0, 3, n), rng.integers(0, 3, n)
    marks = [(writer == 0) & (rng.random(n) < 0.8) for writer in (first, second)]
    liked = [rng.random(n) < 0.3 for _ in range(2)]
    log_odds = 2.0 * ((first == 0) * 1.0 - (second == 0)) + 1.0 * (liked[0] * 1.0 - liked[1])
    wins = rng.random(n) < 1 / (1 + np.exp(-log_odds))
    material = planted(0, 1000)
    sides = [np.zeros((n, 30)), np.zeros((n, 30))]
    for column, (a, b) in ((5, marks), (6, liked)):
        sides[0][:, column], sides[1][:, column] = np.where(wins, a, b), np.where(wins, b, a)
    writer = np.zeros((n, 3))
    np.add.at(writer, (np.arange(n), np.where(wins, first, second)), 1.0)
    np.add.at(writer, (np.arange(n), np.where(wins, second, first)), -1.0)
    chosen, rejected = (sparse.csr_matrix(side.astype(np.float32)) for side in sides)
    length = rng.normal(size=n)
    found = audit(
        dataclasses.replace(
            material,
            activations=dataclasses.replace(material.activations, chosen=chosen, rejected=rejected),
            length=length,
            writers=Opponents.of(np.where(wins, first, second), np.where(wins, second, first)),
        ),
        CONFIG,
    )
    held = {c.cluster.name: c.controlled for c in found.concepts}
    assert held["c5"].length_explained is False
    assert held["c5"].identity_explained is True
    assert held["c6"].identity_explained is False
    u = (sides[0] - sides[1])[:, [5]]
    for extra, effect in (([], held["c5"].raw), ([length[:, None]], held["c5"].length),
                          ([length[:, None], writer[:, 1:]], held["c5"].identity)):  # fmt: skip
        fit = sm.GLM(np.ones(n), np.hstack([u, *extra]), family=sm.families.Binomial()).fit(
            cov_type="cluster", cov_kwds={"groups": prompt}
        )
        low, high = fit.conf_int()[0]
        assert effect.value == pytest.approx(fit.params[0], rel=2e-3, abs=2e-3)
        assert (effect.interval.low, effect.interval.high) == pytest.approx((low, high), rel=5e-3, abs=5e-3)


def shown_by(material, chosen, rejected):
    """Replace the sides of a material, dense (N, M)."""
    sides = (sparse.csr_matrix(side.astype(np.float32)) for side in (chosen, rejected))
    return dataclasses.replace(material, activations=Activations(material.activations.concepts, *sides))


def test_what_every_pair_shows_is_confirmed_and_its_interval_is_not_a_point():
    """All rows agree, everywhere or in one group: the robust error is 0, the evidence is not."""
    material = planted(0, 1000, per=2)
    chosen, rejected = (
        side.toarray() for side in (material.activations.chosen, material.activations.rejected)
    )
    on = material.topics[0] == PHYSICS
    chosen[:, BOLD], rejected[:, BOLD] = 0.5, 0
    chosen[:, PRAISE], rejected[:, PRAISE] = np.where(on, 0.5, 0), 0
    length = np.abs(material.length) + 0.1
    found = audit(dataclasses.replace(shown_by(material, chosen, rejected), length=length), CONFIG)
    concepts, hypotheses = confirmed(found)
    for name in (LENGTH, f"c{BOLD}"):
        assert concepts[name].delta == 1
        assert 0.97 < concepts[name].interval.low < concepts[name].interval.high == 1
        assert concepts[name].controlled.raw.interval.low > 2
    (praise,) = (h for h in hypotheses if h.pipeline == "local" and h.cluster.name == f"c{PRAISE}")
    assert praise.prompt_group == f"topic {PHYSICS}"
    assert praise.interval.low > 0


def test_a_prompt_with_most_of_the_pairs_makes_no_interval_narrow():
    rng = np.random.default_rng(3)
    prompts = np.concatenate([np.zeros(400, np.int64), np.arange(1, 301)])
    u = np.where(rng.random(700) < 0.3, 1.0, np.where(rng.random(700) < 0.05, -1.0, 0.0))
    tested = concepts_test(sparse.csr_matrix(u[:, None]), prompts, CONFIG, 0)
    assert tested.clusters == pytest.approx(700**2 / (400**2 + 300))
    independent = 1.96 * u.std(ddof=1) / np.sqrt(700)
    interval = effect_of(float(tested.delta[0]), float(tested.se[0]), tested.clusters).interval
    assert (interval.high - interval.low) / 2 > independent


def test_writers_who_never_change_sides_are_not_held():
    """One writer always wins: whatever else is asked, the writers alone tell the label."""
    material = planted(1, 300)
    n = len(material.length)
    ones, zeros = np.ones(n, np.int64), np.zeros(n, np.int64)
    found = audit(dataclasses.replace(material, writers=Opponents.of(ones, zeros)), CONFIG)
    assert all(c.controlled.identity is None for c in found.concepts)
    assert all(c.controlled.identity_explained is None for c in found.concepts)
    # a third writer who always loses to two that beat each other: only the two are compared
    first, second = np.arange(n) % 2, 1 - np.arange(n) % 2
    lost = np.arange(n) % 3 == 0
    opponents = Opponents.of(first, np.where(lost, 2, second))
    assert (opponents.comparable() == ~lost).all()
    held = audit(dataclasses.replace(material, writers=opponents), CONFIG)
    rows = np.flatnonzero(~lost)
    u = found.signed.toarray()[rows][
        :, [i for i, c in enumerate(found.concepts) if c.cluster.name == f"c{BOLD}"]
    ]
    x = np.hstack([u, material.length[rows, None], (first - second)[rows, None]])
    fit = sm.GLM(np.ones(len(rows)), x, family=sm.families.Binomial()).fit()
    (bold,) = (c for c in held.concepts if c.cluster.name == f"c{BOLD}")
    assert bold.controlled.identity.value == pytest.approx(fit.params[0], rel=5e-3)


def test_the_error_over_swaps_is_that_of_a_thousand_swaps():
    rng = np.random.default_rng(4)
    prompts = rng.integers(0, 60, 300)
    values = sparse.csr_matrix((rng.random((300, 5)) < 0.3) * rng.normal(size=(300, 5)))
    inside = sparse.csr_matrix((rng.random((4, 300)) < [[0.1], [0.3], [0.6], [0.9]]).astype(np.float32))
    half = SwapHalf(inside, values, np.unique(prompts, return_inverse=True)[1])
    signs = rng.choice(np.array([-1, 1], np.int8), (60, 4000))
    for group in range(4):
        seen = half.swapped(group, signs, half.total(signs))[0].std(axis=1)
        assert half.errors(group)[0] == pytest.approx(seen, rel=0.06)


def test_a_rare_concept_in_a_small_group_does_not_hide_a_plant_in_a_large_one():
    """The largest plain Δ of chance is that of the rarest concept: about five deviations in a group of 30."""
    rng = np.random.default_rng(2)
    n = 6000
    prompts = np.arange(n)
    group = np.where(prompts < 1200, 0, 1 + prompts % 60)
    inside = sparse.csr_matrix((np.ones(n, np.float32), (group, prompts)))
    rare = (rng.random((n, 300)) < 0.004) * rng.choice([-1, 1], (n, 300))
    planted_one = ((group == 0) & (rng.random(n) < 0.15)) * 1 + (rng.random(n) < 0.1) * rng.choice([-1, 1], n)
    values = np.column_stack([planted_one, rare]).astype(float)
    tested = cells_test(inside, sparse.csr_matrix(values / values.std(axis=0)), prompts, CONFIG, 0)
    assert np.argwhere(tested.confirmed).tolist() == [[0, 0]]
    assert tested.floor > tested.delta_min[0, 0], "the plain floor alone would hide it"
