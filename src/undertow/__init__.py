"""undertow finds behaviours that post-training data taught by accident, traces them and proves the fix.

The public functions live in their packages (``undertow.index.build.build_index``); the names listed here
load theirs on first use, so that ``import undertow`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from undertow.version import __version__

if TYPE_CHECKING:
    from undertow.data.load import load_examples as load_examples
    from undertow.data.write import write_examples as write_examples
    from undertow.errors import InconclusiveError as InconclusiveError
    from undertow.errors import UndertowError as UndertowError
    from undertow.errors import UsageError as UsageError
    from undertow.fixes.fix import fix as fix
    from undertow.fixes.pairs import fix_pairs as fix_pairs
    from undertow.fixes.system_prompt import write_system_prompt as write_system_prompt
    from undertow.index.build import build_index as build_index
    from undertow.index.open import Index as Index
    from undertow.index.query import query as query
    from undertow.judging.calibrate import calibrate as calibrate
    from undertow.preference.run import audit_preferences as audit_preferences
    from undertow.records import Attribution as Attribution
    from undertow.records import Failure as Failure
    from undertow.records import Finding as Finding
    from undertow.report.build import write_report as write_report
    from undertow.studies.causal import run_causal_check as run_causal_check
    from undertow.studies.matrix import run_matrix as run_matrix
    from undertow.studies.verify import verify as verify
    from undertow.surf.run import run_surf as run_surf
    from undertow.training.dpo import train_dpo as train_dpo
    from undertow.training.sft import train_sft as train_sft
    from undertow.turf.run import trace_run as trace_run
    from undertow.turf.trace import trace_pair as trace_pair

_PUBLIC = {
    "load_examples": "undertow.data.load",
    "write_examples": "undertow.data.write",
    "build_index": "undertow.index.build",
    "Index": "undertow.index.open",
    "query": "undertow.index.query",
    "run_surf": "undertow.surf.run",
    "run_matrix": "undertow.studies.matrix",
    "calibrate": "undertow.judging.calibrate",
    "trace_pair": "undertow.turf.trace",
    "trace_run": "undertow.turf.run",
    "train_dpo": "undertow.training.dpo",
    "train_sft": "undertow.training.sft",
    "audit_preferences": "undertow.preference.run",
    "fix": "undertow.fixes.fix",
    "fix_pairs": "undertow.fixes.pairs",
    "write_system_prompt": "undertow.fixes.system_prompt",
    "verify": "undertow.studies.verify",
    "run_causal_check": "undertow.studies.causal",
    "write_report": "undertow.report.build",
    "Finding": "undertow.records",
    "Attribution": "undertow.records",
    "Failure": "undertow.records",
    "UndertowError": "undertow.errors",
    "UsageError": "undertow.errors",
    "InconclusiveError": "undertow.errors",
}
"""Public name → the module it lives in."""

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
