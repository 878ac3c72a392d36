"""How a trace is done: frozen data, saved with the run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TraceConfig(BaseModel):
    """Settings of a trace; the defaults are the paper's where it has one (§4.1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(1000, ge=1, description="Retrieved (example, attribute) pairs per crux (paper: 1000).")
    k_others: tuple[int, ...] = Field((100, 300, 3000), description="Further k of the sensitivity check.")
    seed: int = Field(0, ge=0, description="Breaks ties at the k-th similarity.")
    cruxes: int = Field(3, ge=1, le=10, description="Response attributes held responsible (paper: 3).")
    level: float = Field(0.05, gt=0, lt=1, description="False-discovery rate under which a trigger is named.")
    support: int = Field(5, ge=1, description="Least rows with feature and behaviour.")
    effect: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Least rise of the rate over the base rate, or a quarter of the base rate.",
    )
    triggers: int = Field(5, ge=1, description="Most independent triggers that are reported.")
    majority: float = Field(
        0.5, ge=0, le=1, description="Share of a finding's failing queries a trigger holds for, more than."
    )
    threshold: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Cosine from which a response attribute counts as the crux; None: by kind.",
    )
