"""Concepts that are read off a policy: the features of an autoencoder, and probes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy import sparse

from undertow.errors import UsageError
from undertow.models.local import model_revision
from undertow.preference.concepts import Activations, Concept, PromptActivations
from undertow.preference.config import PrefsConfig
from undertow.progress import SILENT, Progress
from undertow.store.run import config_hash, file_hash

if TYPE_CHECKING:
    from undertow.data.preferences import PreferenceData
    from undertow.preference.policy import Policy
    from undertow.preference.probes import Probe
    from undertow.store.run import RunDir

LEAST_SHARED = 0.2
"""Least correlation of a feature with a local concept for the concept to be named in its text."""
_TABLES = ("chosen", "rejected", "prompts", "chosen_max", "rejected_max")


@dataclass(frozen=True, slots=True)
class PolicyGathered:
    """What a policy says of n pairs."""

    activations: tuple[Activations, ...]
    """One for each family."""
    prompts: PromptActivations | None
    """Of the autoencoder; ``None`` without."""
    told: dict[str, Any]
    """For the summary."""


def policy_inputs(config: PrefsConfig) -> dict[str, str]:
    """Content hashes of the policy, the autoencoder and the probes' examples, for the run's identity.

    Raises:
        UsageError: a file is missing, or a policy is asked for without its name.
    """
    if (config.sae or config.probes) and not config.model:
        raise UsageError("--sae and --probe read a policy's residual stream; name it by --model")
    if config.model and not (config.sae or config.probes):
        raise UsageError("--model alone says nothing; add --sae DIR or --probe NAME=EXAMPLES")
    if config.model is None:
        return {}
    from undertow.preference.model_sae import WEIGHTS

    named = {"sae": Path(config.sae) / WEIGHTS} if config.sae else {}
    named |= {f"probe {name}": Path(path) for name, path in config.probes}
    absent = [path for path in named.values() if not path.is_file()]
    if absent:
        raise UsageError(f"{absent[0]}: no such file")
    hashes = {name: file_hash(path) for name, path in named.items()}
    return {"model": model_revision(config.model) or config.model, **hashes}


def gather_policy(
    pairs: PreferenceData, local: Activations, config: PrefsConfig, run: RunDir | None,
    progress: Progress = SILENT,
) -> PolicyGathered:  # fmt: skip
    """Read what ``config`` asks for off its policy; what was read is kept as stages of ``run``."""
    from undertow.preference.policy import Policy

    if config.model is None:
        return PolicyGathered((), None, {})
    policy = Policy(config.model)
    key = config_hash([pairs.hash, policy_inputs(config), config.probe_kind, config.audit.seed])
    parts: list[Activations] = []
    prompts: PromptActivations | None = None
    told: dict[str, Any] = {}
    if config.sae:
        responses, prompts = _model(pairs, policy, config.sae, local, key, run, progress)
        parts.append(responses)
        told["sae"] = {"features": len(responses.concepts), "folder": config.sae}
    if config.probes:
        found, told["probes"] = _probes(pairs, policy, config, key, run, progress)
        parts.append(found)
    return PolicyGathered(tuple(parts), prompts, told)


def _model(
    pairs: PreferenceData, policy: Policy, folder: str, local: Activations, key: str, run: RunDir | None,
    progress: Progress,
) -> tuple[Activations, PromptActivations]:  # fmt: skip
    from undertow.preference.model_concepts import feature_concepts, model_concepts
    from undertow.preference.model_sae import load_sae

    sae = load_sae(Path(folder))

    def read() -> dict[str, sparse.csr_matrix]:
        found = model_concepts(pairs, policy, sae, progress)
        tables = (found.responses.chosen, found.responses.rejected, found.prompts.values)
        return dict(zip(_TABLES, (*tables, found.chosen_max, found.rejected_max), strict=True))

    kept = _kept(run, "model_concepts", key, read)
    concepts = feature_concepts(sae)
    responses = Activations(concepts, kept["chosen"], kept["rejected"])
    return described(responses, local), PromptActivations(concepts, kept["prompts"])


def _probes(
    pairs: PreferenceData, policy: Policy, config: PrefsConfig, key: str, run: RunDir | None,
    progress: Progress,
) -> tuple[Activations, list[dict[str, Any]]]:  # fmt: skip
    from undertow.preference.probes import probe_concepts, probes_concepts

    probes = {name: _trained(name, Path(path), policy, config) for name, path in config.probes}

    def read() -> dict[str, sparse.csr_matrix]:
        found = probe_concepts(pairs, policy, probes, progress)
        return {"chosen": found.chosen, "rejected": found.rejected}

    kept = _kept(run, "probe_concepts", key, read)
    told = [{"name": n, "kind": p.kind, "layer": p.layer, "auc": p.auc} for n, p in probes.items()]
    return Activations(probes_concepts(probes), kept["chosen"], kept["rejected"]), told


def _trained(name: str, path: Path, policy: Policy, config: PrefsConfig) -> Probe:
    from undertow.preference.probe_examples import load_probe_examples
    from undertow.preference.probes import train_probe

    examples = load_probe_examples(path)
    exchanges = [each.exchange(policy) for each in examples]
    shows = [each.shows for each in examples]
    try:
        probe = train_probe(policy, exchanges, shows, config.probe_kind, seed=config.audit.seed)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    if not probe.beyond_chance:
        raise UsageError(
            f"{path}: the probe {name!r} does not tell its own held-out examples apart "
            f"(AUC {probe.auc:.2f}); give more examples, or clearer ones"
        )
    return probe


def described(features: Activations, local: Activations) -> Activations:
    """Say with which local concepts each feature's difference between the sides goes together."""
    mine, other = (
        _unit_columns(sparse.csc_matrix(each.chosen - each.rejected)) for each in (features, local)
    )
    shared = sparse.csr_matrix(mine.T @ other)
    concepts = []
    for i, concept in enumerate(features.concepts):
        row = shared[i]
        best = row.indices[(-row.data).argsort(kind="stable")][:2]
        near = [local.concepts[j].name for j in best if row[0, j] >= LEAST_SHARED]
        text = f"{concept.text.rstrip('.')}, beside {', '.join(near)}." if near else concept.text
        concepts.append(Concept(concept.name, text, concept.family))
    return Activations(tuple(concepts), features.chosen, features.rejected)


def _unit_columns(table: sparse.csc_matrix) -> sparse.csc_matrix:
    import numpy as np

    size = np.sqrt(np.asarray(table.multiply(table).sum(axis=0)).ravel())
    return sparse.csc_matrix(table @ sparse.diags(1 / np.maximum(size, 1e-12)))


def _kept(run: RunDir | None, name: str, key: str, read: Any) -> dict[str, sparse.csr_matrix]:
    """Read tables once for a run."""
    if run is None:
        return dict(read())

    def write(folder: Path) -> list[str]:
        tables = read()
        for table, values in tables.items():
            sparse.save_npz(folder / f"{table}.npz", sparse.csr_matrix(values))
        return list(tables)

    names = run.stage(name, key, write)
    return {each: sparse.csr_matrix(sparse.load_npz(run.stage_path(name) / f"{each}.npz")) for each in names}
