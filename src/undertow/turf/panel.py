"""The models that a trace asks, over one journal: the index's extractor and the judges of the crux."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from undertow.attributes.llm import Describer, Description, Passage
from undertow.errors import UsageError
from undertow.judging.rubric import Rubric
from undertow.models.base import ChatModel
from undertow.models.budget import Budget
from undertow.models.prices import Price, list_price
from undertow.records import Failure
from undertow.store.journal import Journal
from undertow.turf.judges import TwoJudges
from undertow.turf.query import Query, history_of, text_of


@dataclass(frozen=True, slots=True)
class Asking:
    """Which models a trace may ask beside the index's own, and for how much."""

    judge: str | None = None
    """Model string of the judges of the crux; ``None``: the crux is drawn without a model."""
    max_calls: int | None = None
    """Most calls, restarts included."""
    max_cost: float | None = None
    """Most US dollars, likewise."""
    price: Price | None = None
    """Of the models; ``None``: genai-prices' list."""

    def panel(self, extractor: str | None, journal: Path) -> AbstractContextManager[Panel | None]:
        """Open the panel of an index by ``extractor``; ``None`` where nobody is to be asked."""
        if extractor is None and self.judge is None:
            return nullcontext()
        return Panel(journal, extractor, self)


NOBODY = Asking()
"""No judge, no caps."""


class Panel:
    """Asks models on behalf of a trace; a context manager. Each is opened when it is first asked."""

    def __init__(self, journal: Path, extractor: str | None, asking: Asking) -> None:
        """Prepare to ask.

        Args:
            journal: File that keeps every answer before it is used.
            extractor: Model that wrote the index's attributes; ``None``: the local extractor did.
            asking: The judge, and the caps.

        Raises:
            UsageError: a cap on dollars for a model without a price.
        """
        self.extractor, self.judge = extractor, asking.judge
        for spec in filter(None, (extractor, asking.judge)):
            if asking.max_cost is not None and asking.price is None and list_price(spec) is None:
                raise UsageError(f"--max-cost: no price is known for {spec}; give --price IN,OUT")
        self._journal = Journal(journal)
        paid = self._journal.usage()
        self._budget = Budget(asking.max_calls, asking.max_cost, paid.calls, paid.cost_usd)
        self._price = asking.price
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._opened: dict[str, ChatModel] = {}

    def describe(self, queries: Sequence[Query]) -> list[Description]:
        """Have failing queries described by the index's extractor; in their order.

        Raises:
            UsageError: the model cannot be opened or reached.
        """
        return self._describe([Passage("query", text_of(query), history_of(query)) for query in queries])

    def describe_responses(self, responses: Sequence[str]) -> list[Description]:
        """Have responses described by the index's extractor, as :meth:`describe`."""
        return self._describe([Passage("response", response) for response in responses])

    def _describe(self, passages: list[Passage]) -> list[Description]:
        async def ask() -> list[Description]:
            model = await self._model(self.extractor or "", "extractor")
            return await Describer(model, self._journal.secret()).describe_all(passages)

        return self._runner.run(ask())

    def picks(self, responses: Sequence[str], rubric: Rubric) -> list[tuple[str, ...] | Failure]:
        """Have the two judges pick the responsible attributes of each response; in their order.

        Raises:
            UsageError: the model cannot be opened or reached.
        """

        async def ask() -> list[tuple[str, ...] | Failure]:
            model = await self._model(self.judge or "", "judge")
            return await TwoJudges(model, self._journal.secret()).all_picks(responses, rubric)

        return self._runner.run(ask())

    def usage(self) -> dict[str, Any]:
        """Return calls, tokens and dollars of the journal."""
        return asdict(self._journal.usage())

    @property
    def stopped(self) -> str | None:
        """Why no further call is made; ``None`` while the budget lasts."""
        return self._budget.stopped.detail if self._budget.stopped else None

    async def _model(self, spec: str, role: str) -> ChatModel:
        from undertow.models.open import open_model, preflight

        if role not in self._opened:
            opened = open_model(
                spec, journal=self._journal, role=role, budget=self._budget, price=self._price
            )
            await preflight(await self._stack.enter_async_context(opened))
            self._opened[role] = opened
        return self._opened[role]

    def __enter__(self) -> Panel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing: tuple[Callable[[], object], ...] = (
            lambda: self._runner.run(self._stack.aclose()), self._runner.close, self._journal.close,
        )  # fmt: skip
        for close in closing:
            close()
