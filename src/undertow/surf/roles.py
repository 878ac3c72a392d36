"""The models of a search, opened, journalled and counted: target, reference, generator, judge."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from undertow.errors import UsageError
from undertow.judging.judge import Judge, LLMJudge, open_judge
from undertow.models.base import ChatModel
from undertow.models.budget import Budget, BudgetedModel
from undertow.models.journaled import JournaledModel
from undertow.models.prices import Price, list_price
from undertow.models.providers import Limits, ProviderModel
from undertow.store.journal import Journal
from undertow.surf.ask import Asker
from undertow.surf.config import SurfConfig
from undertow.surf.estimate import dearest_calls
from undertow.surf.shares import Steps

if TYPE_CHECKING:
    from undertow.judging.rubric import Rubric

Model = str | ChatModel
"""A model string, or a model that is ready."""


JudgeRole = Literal["judge", "confirm_judge"]
NAMES = ("target", "reference", "generator", "judge", "confirm_judge")
"""The roles."""


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
    confirm_judge: Model | None = None
    """A second judge, without whose agreement nothing is confirmed; or none."""

    def check(self) -> None:
        """Refuse a confirming judge that would only agree with itself.

        Raises:
            UsageError: both judges are the same.
        """
        names = self.names()
        if names["confirm_judge"] is not None and names["confirm_judge"] == names["judge"]:
            raise UsageError(
                f"--confirm-judge {names['judge']}: is the judge itself; name a model of another family"
            )

    def revisions(self) -> dict[str, str]:
        """Hash the weights of the roles that are model folders: a retrained model is another input."""
        specs = {role: name for role, name in self.names().items() if name and name.startswith("local:")}
        if not specs:
            return {}
        from undertow.models.local import model_revision

        hashes = {role: model_revision(name.removeprefix("local:")) for role, name in specs.items()}
        return {role: revision for role, revision in hashes.items() if revision}

    def names(self) -> dict[str, str | None]:
        """Name every role, for the run's identity and summary."""
        return {role: _name(getattr(self, role)) for role in NAMES}


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
        """Open and preflight every model, all at once; ``stack`` closes them.

        Raises:
            UsageError: an unknown model string, or a model that cannot be reached.
        """
        roles = self.roles
        roles.check()
        generator = None if roles.generator == "local" else roles.generator
        target, judge, second, reference, writer = await all_or_first_error(
            self._model(stack, roles.target, "target"),
            self._judge(stack, roles.judge, "judge"),
            self._judge(stack, roles.confirm_judge, "confirm_judge") if roles.confirm_judge else _nobody(),
            self._model(stack, roles.reference, "reference") if roles.reference else _nobody(),
            self._model(stack, generator, "generator") if generator else _nobody(),
        )
        steps = Steps(dearest_calls(roles, self.config))
        asker = Asker(target, judge, self.rubric, self.config, self.budget, second, steps=steps)
        return Opened(target=asker, reference=asker.of(reference) if reference else None, generator=writer)

    async def _judge(self, stack: AsyncExitStack, judge: Model, role: JudgeRole) -> Judge:
        thinking: int | None = getattr(self.config, f"{role}_thinking")
        if judge == "checks":
            if thinking is not None:
                raise UsageError(f"--{role.replace('_', '-')}-thinking: checks do not think; name a model")
            return open_judge("checks", self.rubric)
        secret = self.journal.secret()
        if not isinstance(judge, str):
            return LLMJudge(await self._model(stack, judge, role, thinking), secret=secret)
        model = await self._model(stack, judge.removeprefix("checks+"), role, thinking)
        return open_judge(judge, self.rubric, model, secret)

    async def _model(
        self, stack: AsyncExitStack, model: Model, role: str, thinking: int | None = None
    ) -> ChatModel:
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
            limits=Limits(timeout=self.config.timeout),
            budget=self.budget,
            price=price,
            thinking=thinking,
        )
        await preflight(await stack.enter_async_context(opened), self.config.timeout)
        return opened

    def _check_price(self, model: str, role: str, price: Price | None) -> None:
        """Refuse a cap on dollars that could not be kept."""
        if self.budget.max_cost is not None and price is None and list_price(model) is None:
            raise UsageError(
                f"--max-cost: no price is known for {role} {model}; give --price {role}=IN,OUT "
                "(US dollars per million tokens)"
            )


async def all_or_first_error(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Await all of ``work``, and only then raise the first error in the order given."""
    done = await asyncio.gather(*work, return_exceptions=True)
    for result in done:
        if isinstance(result, BaseException):
            raise result
    return done


async def _nobody() -> None:
    """Open no model."""


def _under(model: ChatModel, budget: Budget, price: Price | None) -> ChatModel:
    if isinstance(model, ProviderModel):
        return model.under(budget, price)
    return BudgetedModel(model, budget)
