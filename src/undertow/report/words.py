"""Numbers in words, the same way on every page."""

from __future__ import annotations

from undertow.records import Interval


def percent(value: float) -> str:
    """Write a proportion in [0, 1] as a percentage: two significant digits, and never 0 or 100 for less."""
    hundred = 100 * value
    if 99 < hundred < 100:
        return f"{min(hundred, 99.9):.1f}%"
    return f"{hundred:.0f}%" if abs(hundred) >= 9.95 else f"{hundred:.2g}%"


def span(interval: Interval) -> str:
    """Write an interval of a proportion as ``91–99%``."""
    low, high = percent(interval.low).rstrip("%"), percent(interval.high)
    return f"{low}–{high}"


def count(n: float) -> str:
    """Write a whole number with thin thousands."""
    return f"{n:,.0f}"


def counted(n: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: ``1 finding``, ``3 findings``."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Write seconds as ``8.4 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours} h {rest:02d} min"


def money(usd: float) -> str:
    """Write a cost in dollars; cents and below where it is small."""
    if usd == 0:
        return "$0"
    return f"${usd:,.2f}" if usd >= 0.1 else f"${usd:.2g}"


def memory(megabytes: float) -> str:
    """Write megabytes as MB or GB."""
    return f"{megabytes / 1024:.1f} GB" if megabytes >= 1024 else f"{megabytes:.0f} MB"


def significant(value: float) -> str:
    """Write a statistic with three significant digits, tiny ones as a bound."""
    if 0 <= value < 1e-12:
        return "< 1e-12"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def listed(items: list[str]) -> str:
    """Join words as prose: ``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
