"""How an audit is done: frozen data, saved with the run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AuditConfig(BaseModel):
    """Settings of the two pipelines; numbers in brackets are the paper's (Bergen et al. 2026, App. B)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="Halves, clusters, null draws.")
    tau: float = Field(0.01, ge=0, lt=1, description="A response shows a concept above this share (.01).")
    clusters: int = Field(512, ge=2, description="Data clusters K (512); fewer where pairs are few.")
    pairs_per_cluster: int = Field(100, ge=1, description="K is at most pairs over this,")
    prompts_per_cluster: int = Field(20, ge=1, description="and at most distinct prompts over this.")
    prompts_per_group: int = Field(40, ge=1, description="Prompt clusters: at most prompts over this.")
    prompt_clusters: int = Field(256, ge=1, description="Most clusters A_k of a model's prompt features.")
    response_clusters: int = Field(256, ge=1, description="Most clusters R_m of a model's response features.")
    silent: float = Field(0.05, ge=0, lt=1, description="Quantile of activity below which pairs are silent.")
    edge_share: float = Field(0.01, gt=0, le=1, description="Pairs of features that become edges (.01).")
    least_community: int = Field(4, ge=1, description="Smaller communities are dropped (4).")
    least_features: int = Field(10, ge=1, description="Features a cluster of a model's concepts needs (10).")
    single_features: int = Field(
        2048, ge=0, description="Features of a model's SAE up to which each is tested alone too [R]."
    )
    least_pairs: int = Field(25, ge=2, description="Pairs a group needs (25).")
    least_prompts: int = Field(20, ge=2, description="Distinct prompts a group needs.")
    least_firing: int = Field(200, ge=1, description="Pairs a response concept fires in (200), or 1 %.")
    level: float = Field(
        0.05, gt=0, lt=1, description="False-discovery rate; the floor's quantile is 1 less."
    )
    null_draws: int = Field(200, ge=20, description="Label swaps behind the floor.")
    top: int = Field(500, ge=1, description="Hypotheses kept, confirmed ones always.")


class PrefsConfig(BaseModel):
    """Settings of ``undertow prefs``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    audit: AuditConfig = Field(AuditConfig(), description="Groups, tests and floors.")
    identity: tuple[str, str] | None = Field(
        None,
        description="Columns that say who wrote chosen and rejected; None: chosen_model, rejected_model.",
    )
    strata: tuple[str, ...] = Field((), description="Columns within whose values concepts are shown again.")
    embedding: bool = Field(True, description="Embed prompts and responses: topics, and the embedding SAE.")
    embedder: str = Field("minilm", description="`minilm`, or a sentence-transformers id or folder.")
    model: str | None = Field(
        None, description="Policy whose residual stream `sae` and `probes` read: folder or hub id."
    )
    sae: str | None = Field(None, description="Folder of an autoencoder in SAELens' layout.")
    probes: tuple[tuple[str, str], ...] = Field(
        (), description="Concept, and file of examples with `prompt`, `response` and `shows`."
    )
    probe_kind: Literal["means", "logistic", "attention"] = Field(
        "logistic", description="How probes are trained."
    )
    skip_bad: bool = Field(False, description="Leave unreadable lines out and count them.")
