"""Gate: may this model ship? Confirmed rates of a run against those of a baseline run.

Every confirmed finding is a case: its rate less the baseline's rate for the same trigger, or, where the
baseline's search measured no such trigger, less the baseline's rate on prompts drawn at random. The base
rate is a case of its own. A case fails when the lower bound of the increase is above what is allowed, so
noise does not fail it; a run that lost too much is inconclusive, which is never a pass.

Not established here: that nothing else got worse; a search that was not run finds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as xml

from undertow.errors import UsageError
from undertow.records import Finding, Interval, Rate
from undertow.stats.intervals import difference_by_intervals
from undertow.store.run import read_manifest
from undertow.store.tables import atomic_write_bytes, read_json, to_jsonable
from undertow.surf.save import load_findings

Verdict = Literal["pass", "fail", "inconclusive"]
_ILLEGAL = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold."""


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison."""

    name: str
    """Rubric, and the finding's trigger."""
    verdict: Verdict
    """Its outcome."""
    rate: Rate | None
    """In the run."""
    baseline: Rate | None
    """In the baseline."""
    against: Literal["same trigger", "base rate"]
    """Which rate of the baseline that is."""
    increase: float | None
    """rate − baseline."""
    interval: Interval | None
    """Of the increase."""
    reason: str
    """One line."""


def gate(run: Path, baseline: Path, allow: float = 0.05, junit: Path | None = None) -> dict[str, Any]:
    """Compare the confirmed rates of ``run`` with those of ``baseline``: two searches, or two matrices.

    Args:
        run: Finished run directory of the model that shall ship.
        baseline: The same of the model that did.
        allow: Increase of a rate that is let through, in [0, 1].
        junit: Where the cases are written as JUnit XML.

    Returns:
        ``verdict``, ``cases``, ``gone`` (triggers confirmed in the baseline alone), ``status``: ``failed``
        where a case fails, ``inconclusive`` where none fails but one cannot be decided.

    Raises:
        UsageError: no finished searches, or of different rubrics.
    """
    if not 0 <= allow <= 1:
        raise UsageError(f"--allow {allow}: must lie between 0 and 1")
    pairs = _pairs(Path(run), Path(baseline))
    cases = [case for new, old in pairs for case in _cases(new, old, allow)]
    verdict = _worst([case.verdict for case in cases])
    status = {"pass": "complete", "fail": "failed", "inconclusive": "inconclusive"}[verdict]
    counts = {word: sum(case.verdict == word for case in cases) for word in ("pass", "fail", "inconclusive")}
    if junit is not None:
        atomic_write_bytes(Path(junit), junit_xml(cases, str(run)))
    return {
        "status": status, "verdict": verdict, "allow": allow, "cases": [to_jsonable(case) for case in cases],
        "gone": [name for new, old in pairs for name in _gone(new, old)],
        "counts": {"tried": len(cases), "scored": counts["pass"] + counts["fail"],
                   "failed": counts["inconclusive"]},
        "failures": {}, "out": str(run),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Search:
    """A finished search, read."""

    rubric: str
    conclusive: bool
    why: str
    findings: tuple[Finding, ...]
    base: Rate | None

    @property
    def confirmed(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.status == "confirmed")


def _pairs(run: Path, baseline: Path) -> list[tuple[_Search, _Search]]:
    """Pair the searches of two runs by rubric; of matrices by model and rubric where both have them."""
    new, old = _searches(run), _searches(baseline)
    if set(new) != set(old):
        first = sorted(set(new) ^ set(old))[0]
        raise UsageError(f"{run} and {baseline}: only one of them searched for {first}; give two of a kind")
    return [(new[name], old[name]) for name in sorted(new)]


def _searches(run: Path) -> dict[str, _Search]:
    manifest = read_manifest(run)
    if manifest["verb"] == "matrix":
        folders = sorted(run.glob("cells/*/*/"))
        rows = sorted({folder.parent.name for folder in folders})
        return {f"row {rows.index(f.parent.name) + 1} × {f.name}": _search(f) for f in folders}
    if manifest["verb"] != "surf":
        raise UsageError(f"{run}: a {manifest['verb']} run; a gate needs `undertow surf` or `study matrix`")
    found = _search(run)
    return {found.rubric: found}


def _search(run: Path) -> _Search:
    manifest = read_manifest(run)
    if manifest["status"] == "running":
        raise UsageError(f"{run}: has not ended; run the same `undertow surf` again")
    summary = read_json(run / "summary.json")
    failed = manifest["counts"]["failed"]
    why = f"the run is {manifest['status']}: {failed} of {manifest['counts']['tried']} candidates failed"
    base = summary.get("base_rate")
    return _Search(
        summary["rubric"], manifest["status"] == "complete", why, tuple(load_findings(run)), _rate(base)
    )


def _rate(found: dict[str, Any] | None) -> Rate | None:
    if not found or not found["n"]:
        return None
    return Rate(found["hits"], found["n"], Interval(**found["interval"]))


def _cases(new: _Search, old: _Search, allow: float) -> list[Case]:
    broken = next((search.why for search in (new, old) if not search.conclusive), "")
    cases = [_case(f"{new.rubric}: base rate", new.base, old.base, "base rate", allow, broken)]
    for finding in new.confirmed:
        same = next((f for f in old.findings if _trigger(f) == _trigger(finding) and f.rate.n), None)
        name = f"{new.rubric}: {' and '.join(finding.attributes)}"
        if same is not None:
            cases.append(_case(name, finding.rate, same.rate, "same trigger", allow, broken))
        else:
            cases.append(_case(name, finding.rate, old.base, "base rate", allow, broken))
    return cases


def _trigger(finding: Finding) -> frozenset[str]:
    return frozenset(finding.attributes)


def _case(
    name: str,
    rate: Rate | None,
    baseline: Rate | None,
    against: Literal["same trigger", "base rate"],
    allow: float,
    broken: str,
) -> Case:
    if rate is None or baseline is None or rate.interval is None or baseline.interval is None:
        return Case(name, "inconclusive", rate, baseline, against, None, None, broken or "a rate is missing")
    found = difference_by_intervals(baseline, rate)
    if broken or found.value is None or found.interval is None:
        why = broken or found.reason
        return Case(name, "inconclusive", rate, baseline, against, found.value, found.interval, why)
    bad = found.interval.low > allow
    said = f"{found.value:+.2f} ({found.interval.low:+.2f} to {found.interval.high:+.2f})"
    reason = f"increase {said} against the baseline's {against}; {allow:.2f} is allowed"
    return Case(name, "fail" if bad else "pass", rate, baseline, against, found.value, found.interval, reason)


def _gone(new: _Search, old: _Search) -> list[str]:
    still = {_trigger(finding) for finding in new.confirmed}
    return [f"{f.rubric}: {' and '.join(f.attributes)}" for f in old.confirmed if _trigger(f) not in still]


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    if "fail" in verdicts:
        return "fail"
    return "inconclusive" if "inconclusive" in verdicts else "pass"


def junit_xml(cases: Sequence[Case], suite: str) -> bytes:
    """Write cases as JUnit XML: a failure is ``failure``, what cannot be decided is ``error``."""
    counts = {word: str(sum(case.verdict == word for case in cases)) for word in ("fail", "inconclusive")}
    root = xml.Element(
        "testsuite", name=_legal(f"undertow gate {suite}"), tests=str(len(cases)), failures=counts["fail"],
        errors=counts["inconclusive"],
    )  # fmt: skip
    for case in cases:
        entry = xml.SubElement(root, "testcase", classname="undertow.gate", name=_legal(case.name))
        if case.verdict != "pass":
            tag = "failure" if case.verdict == "fail" else "error"
            xml.SubElement(entry, tag, message=_legal(case.reason)).text = _legal(case.reason)
    return bytes(xml.tostring(root, encoding="utf-8", xml_declaration=True))


def _legal(text: str) -> str:
    return _ILLEGAL.sub("�", text)
