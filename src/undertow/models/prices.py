"""What a token costs: the user's word first, then genai-prices' offline list, else unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from undertow.errors import UsageError

_MILLION = 1e6
_SOME_TOKENS = 100_000
"""Long enough to divide by, short of the length at which some providers' dearer tier begins."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input: float
    """Read."""
    output: float
    """Written, thoughts included."""

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """Price one call, USD."""
        return (input_tokens * self.input + output_tokens * self.output) / _MILLION


FREE = Price(0.0, 0.0)


def parse_price(text: str) -> Price:
    """Read ``IN,OUT``, US dollars per million tokens.

    Raises:
        UsageError: anything but two numbers that are not negative.
    """
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError:
        read = written = -1.0
    if not (0 <= read < float("inf") and 0 <= written < float("inf")):
        raise UsageError(f"price {text!r}: write IN,OUT in US dollars per million tokens, such as 0.15,0.60")
    return Price(read, written)


ROLES = ("generator", "target", "reference", "judge", "confirm_judge")


def parse_prices(texts: Iterable[str]) -> dict[str, Price]:
    """Read ``IN,OUT`` and ``ROLE=IN,OUT``; the price without a role stands under ``""``.

    Raises:
        UsageError: no price, or no role.
    """
    prices: dict[str, Price] = {}
    for text in texts:
        role, equals, price = text.rpartition("=")
        if equals and role not in ROLES:
            raise UsageError(f"price {text!r}: no role {role!r}; the roles are {', '.join(ROLES)}")
        prices[role] = parse_price(price)
    return prices


def list_price(spec: str) -> Price | None:
    """Look a model string up in genai-prices' list; ``None`` for a model that it does not know."""
    from genai_prices import Usage, calc_price

    kind, _, model = spec.partition(":")
    if kind == "local":
        return FREE
    url: str | None = None
    if kind == "openai-compatible":
        url, _, model = model.partition("#")
    parts = (Usage(input_tokens=_SOME_TOKENS), Usage(output_tokens=_SOME_TOKENS))
    try:
        if url is not None:
            read, written = (calc_price(part, model, provider_api_url=url) for part in parts)
        else:
            read, written = (calc_price(part, model, provider_id=kind) for part in parts)
    except (LookupError, ValueError):
        return None
    per_million = _MILLION / _SOME_TOKENS
    return Price(float(read.total_price) * per_million, float(written.total_price) * per_million)
