"""undertow finds behaviours that post-training data taught by accident, traces them and proves the fix.

The public functions live in their packages (``undertow.index.build.build_index``); the names listed here
load theirs on first use, so that ``import undertow`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC: dict[str, str] = {
    "Finding": "undertow.records",
    "Attribution": "undertow.records",
    "Failure": "undertow.records",
    "UndertowError": "undertow.errors",
    "UsageError": "undertow.errors",
    "InconclusiveError": "undertow.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    """Load a public name from its package on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'undertow' has no attribute {name!r}")
    value: object = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Name everything public."""
    return sorted(__all__)
