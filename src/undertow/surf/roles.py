"""The models of a search, opened, journalled and counted: target, reference, generator, judge."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from undertow.errors import UsageError
from undertow.judging.judge import Judge, LLMJudge, open_judge
from undertow.models.base import ChatModel
from undertow.models.budget import Budget, BudgetedModel
from undertow.models.journaled import JournaledModel
from undertow.models.prices import Price, list_price
from undertow.models.providers import ProviderModel
from undertow.store.journal import Journal
from undertow.surf.ask import Asker
from undertow.surf.config import SurfConfig

if TYPE_CHECKING:
    from undertow.judging.rubric import Rubric

Model = str | ChatModel
"""A model string, or a model that is ready."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Who does what, as the user named them."""

    target: Model
    """The model under search."""
    reference: Model | None
    """The control, or none."""
    generator: Model
    """``local`` or a model that writes prompts."""
    judge: Model
    """``checks`` or a model that scores."""

    def revisions(self) -> dict[str, str]:
        """Hash the weights of the roles that are model folders: a retrained model is another input."""
        from undertow.models.local import model_revision

        specs = {role: name for role, name in self.names().items() if name and name.startswith("local:")}
        hashes = {role: model_revision(name.removeprefix("local:")) for role, name in specs.items()}
        return {role: revision for role, revision in hashes.items() if revision}

    def names(self) -> dict[str, str | None]:
        """Name every role, for the run's identity and summary."""
        return {role: _name(getattr(self, role)) for role in ("target", "reference", "generator", "judge")}


def _name(model: Model | None) -> str | None:
    return model if model is None or isinstance(model, str) else model.name


@dataclass(frozen=True, slots=True)
class Opened:
    """What a search works with."""

    target: Asker
    """Asks and judges the target."""
    reference: Asker | None
    """Asks and judges the reference model."""
    generator: ChatModel | None
    """Writes prompts; ``None``: they are retrieved."""


@dataclass(frozen=True, slots=True)
class Models:
    """Opens the roles over one journal."""

    roles: Roles
    """Who does what."""
    rubric: Rubric
    """What the judge judges by."""
    journal: Journal
    """Keeps every reply before it is used."""
    config: SurfConfig
    """How the models are used."""
    budget: Budget = field(default_factory=Budget)
    """What every call is paid from, once the journal has no answer."""

    async def open(self, stack: AsyncExitStack) -> Opened:
        """Open and preflight every model; ``stack`` closes them.

        Raises:
            UsageError: an unknown model string, or a model that cannot be reached.
        """
        roles = self.roles
        asker = Asker(
            await self._model(stack, roles.target, "target"),
            await self._judge(stack),
            self.rubric,
            self.config,
            self.budget,
        )
        reference = roles.reference and await self._model(stack, roles.reference, "reference")
        return Opened(
            target=asker,
            reference=asker.of(reference) if reference else None,
            generator=None
            if roles.generator == "local"
            else await self._model(stack, roles.generator, "generator"),
        )

    async def _judge(self, stack: AsyncExitStack) -> Judge:
        judge = self.roles.judge
        if not isinstance(judge, str):
            return LLMJudge(await self._model(stack, judge, "judge"), secret=self.journal.secret())
        if judge == "checks":
            return open_judge(judge, self.rubric)
        model = await self._model(stack, judge.removeprefix("checks+"), "judge")
        return open_judge(judge, self.rubric, model, self.journal.secret())

    async def _model(self, stack: AsyncExitStack, model: Model, role: str) -> ChatModel:
        """Open one model; only what is not in the journal yet reaches it."""
        price = self.config.prices.get(role) or self.config.prices.get("")
        if not isinstance(model, str):
            return JournaledModel(_under(model, self.budget, price), self.journal, role)
        from undertow.models.open import open_model, preflight

        self._check_price(model, role, price)
        opened = open_model(
            model,
            journal=self.journal,
            role=role,
            concurrency=self.config.concurrency_of(role),
            budget=self.budget,
            price=price,
        )
        await preflight(await stack.enter_async_context(opened))
        return opened

    def _check_price(self, model: str, role: str, price: Price | None) -> None:
        """Refuse a cap on dollars that could not be kept."""
        if self.budget.max_cost is not None and price is None and list_price(model) is None:
            raise UsageError(
                f"--max-cost: no price is known for {role} {model}; give --price {role}=IN,OUT "
                "(US dollars per million tokens)"
            )


def _under(model: ChatModel, budget: Budget, price: Price | None) -> ChatModel:
    if isinstance(model, ProviderModel):
        return model.under(budget, price)
    return BudgetedModel(model, budget)
