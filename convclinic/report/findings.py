"""The section that says what to do next: the findings, gravest and surest first."""

from __future__ import annotations

import re
from collections.abc import Iterator

from convclinic.report.folder import Data, Run, items, mapping
from convclinic.report.markup import (
    Html,
    absent,
    escape,
    facts,
    finite,
    join,
    name,
    number,
    percent,
    section,
    tag,
)

MAX_EXAMPLES = 6
_RANK = {"critical": 0, "warning": 1, "info": 2}
_EDIT = re.compile(r"[\w.]+=\S+")
_WORDS = {"lr": "learning rate", "init": "initialisation", "relu": "ReLU"}


def next_steps(run: Run) -> Html:
    """Findings, gravest and surest first."""
    if run.findings is None:
        return section("next", "What to do next", absent("No findings were recorded for this run."))
    if not run.findings:
        return section("next", "What to do next", tag("p", "Nothing was found that needs mending."))
    ranked = sorted(
        run.findings,
        key=lambda f: (_RANK.get(str(f.get("severity")), 3), -(finite(f.get("confidence")) or 0.0)),
    )
    return section("next", "What to do next", *map(_finding, ranked))


def _finding(finding: Data) -> Html:
    severity = str(finding.get("severity"))
    confidence = finite(finding.get("confidence"))
    cause = _words(finding.get("cause") or "finding")
    surely = f"{percent(confidence, 0)} sure" if confidence is not None and confidence < 1 else None
    place = [part for part in (finding.get("where"), _at(finding.get("step")), surely) if part]
    heading = tag("h3", tag("span", severity, class_="badge"), " ", cause[:1].upper() + cause[1:])
    return tag(
        "article",
        heading,
        tag("p", finding["summary"]) if finding.get("summary") else None,
        tag("p", " · ".join(map(str, place)), class_="note") if place else None,
        facts(_finding_facts(finding)),
        class_=f"finding {severity if severity in _RANK else 'info'}",
    )


def _finding_facts(finding: Data) -> Iterator[tuple[str, object]]:
    evidence = [_evidence(mapping(item)) for item in items(finding.get("evidence"))]
    examples = list(map(name, items(finding.get("examples"))))
    ruled_out = ", ".join(map(_words, items(finding.get("ruled_out"))))
    if len(examples) > MAX_EXAMPLES:
        examples = [*examples[:MAX_EXAMPLES], escape(f"… and {len(examples) - MAX_EXAMPLES} more")]
    for term, entries in (
        ("what to do", list(map(_remedy, items(finding.get("remedies"))))),
        ("done already", [escape(finding["action"])] if finding.get("action") else []),
        ("evidence", evidence),
        ("examples", examples),
        ("ruled out", [escape(ruled_out)] if ruled_out else []),
        ("reference", [escape(finding["reference"])] if finding.get("reference") else []),
    ):
        if entries:
            several = tag("ul", *[tag("li", entry) for entry in entries])
            yield term, entries[0] if len(entries) == 1 else several


def _words(cause: object) -> str:
    """The name of a cause as words: lr_too_high is "learning rate too high"."""
    return " ".join(_WORDS.get(word, word) for word in str(cause).split("_"))


def _remedy(remedy: object) -> Html:
    """An edit of the recipe looks like code, advice like a sentence."""
    return tag("code", remedy) if _EDIT.fullmatch(str(remedy)) else escape(remedy)


def _at(step: object) -> str | None:
    return None if step is None else f"step {step}"


def _evidence(item: Data) -> Html:
    expected = f"expected {item['expected']}" if item.get("expected") else None
    rest = "; ".join(part for part in (expected, _at(item.get("step"))) if part)
    value = tag("b", number(item.get("value")))
    return join([str(item.get("signal") or ""), ": ", value, f" ({rest})" if rest else None])
