"""From signals to findings: every cause is asked, symptoms are merged into their root, the rest is ranked."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from convclinic.clinic.signals import Signals
from convclinic.kinds import Evidence, Finding

PACKAGE = "convclinic.clinic.causes"
SURE = 0.5  # a root less certain than this merges nothing
CLEAR = 0.8  # a root less certain than this leaves a symptom that is more certain in sight, behind it
BEHIND = 0.01  # of confidence
LOOKS = "plateau", "predicts_one_class", "underfitting"  # how faults look from outside, never rivals
ORDER = ("critical", "warning", "info")


@dataclass(frozen=True)
class Cause:
    """One file of the folder `causes`: its rule, and the causes that are only its symptoms."""

    name: str
    judge: Callable[[Signals], Finding | None]
    explains: tuple[str, ...]
    card: str


@cache
def causes() -> dict[str, Cause]:
    """Every cause, found by looking in the folder.

    >>> "dead_relu" in causes()
    True
    """
    found: dict[str, Cause] = {}
    for info in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"{PACKAGE}.{info.name}")
            card = (module.__doc__ or "").strip()
            found[info.name] = Cause(info.name, module.judge, tuple(module.EXPLAINS), card)
    return found


def judge(signals: Signals, muted: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """All findings, the most likely root first. muted: causes that are not to be named, and why."""
    asked = (cause.judge(signals) for name, cause in causes().items() if name not in (muted or {}))
    return ranked(merged([finding for finding in asked if finding is not None]))


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """Findings that another one explains, folded into it: one root cause instead of six symptoms.

    Two that explain each other stay as they are unless one is the more severe or the more certain. A symptom
    that is more certain than its uncertain root stays as a rival, ranked behind it.
    """
    roots: dict[str, str] = {}
    for finding in findings:
        able = [other for other in findings if _explains(other, finding)]
        if able:
            roots[finding.cause] = max(able, key=_weight).cause
    kept: list[Finding] = []
    for finding in findings:
        if finding.cause in roots:
            continue
        symptoms = [other for other in findings if _root(other.cause, roots) == finding.cause != other.cause]
        kept.append(_with(finding, symptoms))
        kept += [_behind(rival, finding) for rival in symptoms if _rivals(rival, finding)][:1]
    return kept


def ranked(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The most severe first, of equals the most certain."""
    return tuple(sorted(findings, key=lambda f: (ORDER.index(f.severity), -f.confidence, f.cause)))


def _weight(finding: Finding) -> tuple[int, float]:
    return -ORDER.index(finding.severity), finding.confidence


def _explains(root: Finding, finding: Finding) -> bool:
    if root.cause == finding.cause or finding.cause not in causes()[root.cause].explains:
        return False
    if root.severity == "info" or root.confidence < SURE:
        return False
    mutual = root.cause in causes()[finding.cause].explains
    return not mutual or _weight(root) > _weight(finding)


def _rivals(symptom: Finding, root: Finding) -> bool:
    """Whether the symptom might be the cause itself."""
    alarm = symptom.severity != "info" and symptom.cause not in LOOKS
    return alarm and root.confidence < CLEAR and symptom.confidence > root.confidence


def _behind(rival: Finding, root: Finding) -> Finding:
    return dataclasses.replace(rival, severity="warning", confidence=root.confidence - BEHIND)


def _root(cause: str, roots: dict[str, str]) -> str:
    """Follow symptoms up to their root; a circle ends where it began."""
    passed: set[str] = set()
    while cause in roots and cause not in passed:
        passed.add(cause)
        cause = roots[cause]
    return cause


def _with(root: Finding, symptoms: Sequence[Finding]) -> Finding:
    """The root with its symptoms as further evidence; as severe as the most severe of them."""
    if not symptoms:
        return root
    severity = min((f.severity for f in (root, *symptoms)), key=ORDER.index)
    more = tuple(Evidence("follows from it", f.cause, f.summary, f.step) for f in symptoms)
    return dataclasses.replace(root, severity=severity, evidence=(*root.evidence, *more))
