"""How an index is built: frozen data, saved with the run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from undertow.index.executors import ExecutorConfig
from undertow.models.prices import Price

LOCAL = "local"
"""The extractor without a model."""
_MEANS = {"concurrency", "max_calls", "max_cost", "price", "failure_share", "executor", "batch"}
"""Settings that change how the index is worked, or when it is given up, not what stands in it."""


class IndexConfig(BaseModel):
    """Settings of an index build."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    extractor: str = Field(LOCAL, description="Where attributes come from: `local` or a model string.")
    embedder: str = Field(
        "minilm", description="Embedder spec: `minilm` or a sentence-transformers id or path."
    )
    clusters: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="K of the k-means over model-written attributes; None: attributes / 376.",
    )
    seed: int = Field(0, ge=0, description="Mining and k-means.")
    skip_bad: bool = Field(False, description="Leave malformed rows out and count them.")
    failure_share: float = Field(
        0.1, ge=0, lt=1, description="Share of a side's rows without attributes above which nothing is built."
    )
    batch: bool = Field(False, description="Ask by the provider's batch API: half the price, up to a day.")
    concurrency: int | None = Field(
        None, ge=1, description="Calls in flight; None: as the model's limiter allows."
    )
    max_calls: int | None = Field(None, ge=0, description="Most model calls, restarts included.")
    max_cost: float | None = Field(None, ge=0, description="Most US dollars, restarts included.")
    price: Price | None = Field(None, description="Of the model; None: genai-prices' list.")
    executor: ExecutorConfig = Field(ExecutorConfig(), description="Where the steps run.")

    @property
    def by_model(self) -> bool:
        """Whether a language model writes the attributes."""
        return self.extractor != LOCAL

    def identity(self) -> dict[str, object]:
        """Return what shapes the index."""
        return self.model_dump(exclude=_MEANS)
