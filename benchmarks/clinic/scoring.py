"""From results to the measures: harm against the twin, false alarms, detection, causes, confusion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
Pair = tuple[Row, Row]  # a watched run and its healthy twin
POINTS = 0.03  # accuracy lost that counts as harm
SLOWER = 2.0  # times the steps, or the seconds, that count as harm
NEAR = 0.02  # of the twin's final accuracy: the level that is to be reached
NOTHING = "nothing"


def final(row: Row) -> float:
    """Mean of the last validations (up to three, of the second half): one alone swings by some points."""
    latest = [accuracy for _, accuracy in row["curve"][-max(1, min(3, len(row["curve"]) // 2)) :]]
    return sum(latest) / len(latest) if latest else 0.0


def reached(row: Row, level: float) -> float:
    """The step of the first validation at `level` or above; infinite if there is none."""
    return next((step for step, accuracy in row["curve"] if accuracy >= level), float("inf"))


def harm(row: Row, twin: Row) -> str:
    """In what way the planted run is worse than its twin; empty if it is not."""
    if row["error"]:
        return "crash"
    if "train_test_leak" in row["causes"]:
        lie = final(row) - row["honest"]
        return f"reports {100 * lie:+.0f} points" if lie >= POINTS else ""
    lost = final(twin) - final(row)
    if lost >= POINTS:
        return f"-{100 * lost:.0f} points"
    level = final(twin) - NEAR
    needed, usual = reached(row, level), reached(twin, level)
    if usual * SLOWER < needed and usual * SLOWER <= row["steps"]:  # not yet at twice the steps
        return f"{usual:.0f} -> {needed:.0f} steps"
    pace, usual_pace = row["seconds"] / max(1, row["steps"]), twin["seconds"] / max(1, twin["steps"])
    if "data_starved" in row["causes"] and pace >= SLOWER * usual_pace:
        return f"{pace / usual_pace:.0f} times the seconds"
    return ""


def alarms(row: Row, when: str = "end") -> list[Row]:
    """Findings that are more than information, best first."""
    found: list[Row] = row["asked"].get(when, [])
    return [finding for finding in found if finding["severity"] != "info"]


def first_seen(row: Row) -> float:
    """The first asked step with an alarm of an accepted cause; infinite if only the end had one."""
    for step in sorted((key for key in row["asked"] if key != "end"), key=int):
        if any(finding["cause"] in row["causes"] for finding in alarms(row, step)):
            return int(step)
    late = any(finding["cause"] in row["causes"] for finding in alarms(row))
    return row["steps"] if late else float("inf")


def share(part: int, whole: int) -> str:
    return f"{part}/{whole} = {100 * part / whole:.1f} %" if whole else "none"


def described(finding: Row) -> str:
    """One line: cause, severity, confidence, and the first pieces of evidence."""
    evidence = "; ".join(
        f"{e['signal']} {_number(e['value'])} ({e['expected']})" for e in finding["evidence"][:3]
    )
    where = f" at {finding['where']}" if finding["where"] else ""
    return f"{finding['cause']} {finding['severity']} {finding['confidence']:.2f}{where}: {evidence}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def report(pairs: Sequence[Pair]) -> str:
    """All measures as text."""
    healthy = [row for row, _ in pairs if row["kind"] == "healthy"]
    planted = [(row, harm(row, twin)) for row, twin in pairs if row["kind"] == "fault"]
    harmful = [row for row, how in planted if how]
    parts = [_harm_table(planted, pairs), _healthy_table(pairs)]
    if any(row["asked"] for row, _ in pairs):
        parts += [_false_alarms(healthy), _misses(harmful), _harmless(planted), _confusion(harmful)]
        parts += [_measures(healthy, harmful)]
    return "\n\n".join(part for part in parts if part)


def _harm_table(planted: list[tuple[Row, str]], pairs: Sequence[Pair]) -> str:
    twins = {row["key"]: twin for row, twin in pairs}
    lines = [f"{'planted':<34} {'base':<28} {'accuracy':>8} {'twin':>6}  harm"]
    for row, how in planted:
        twin = final(twins[row["key"]])
        names = ", ".join(finding["cause"] for finding in alarms(row)) if row["asked"] else ""
        figures = f"{final(row):8.3f} {twin:6.3f}  {how or '(none)':<22}"
        lines.append(f"{row['fault']:<34} {row['base']:<28} {figures} {names}")
    return "\n".join(lines)


def _healthy_table(pairs: Sequence[Pair]) -> str:
    """Healthy variants that are worse than their base: perhaps not so healthy."""
    lines = [
        f"  {row['key']}: {final(row):.3f}, twin {final(twin):.3f} {row['error']}"
        for row, twin in pairs
        if row["kind"] == "healthy" and (row["error"] or final(twin) - final(row) >= POINTS)
    ]
    return (
        "\n".join(["healthy variants that end lower than their base (look at them):", *lines])
        if lines
        else ""
    )


def _false_alarms(healthy: list[Row]) -> str:
    lines: list[str] = []
    for row in healthy:
        for when in row["asked"]:
            for finding in alarms(row, when):
                lines.append(f"  {row['key']} at {when}: {described(finding)}")
    return "\n".join(["false alarms, at any time asked:", *lines]) if lines else "no false alarm"


def _misses(harmful: list[Row]) -> str:
    lines: list[str] = []
    for row in harmful:
        found = alarms(row)
        if found and found[0]["cause"] in row["causes"]:
            continue
        lines.append(f"  {row['key']} ({', '.join(row['causes'])}) {row['error']}")
        rest = [finding for finding in row["asked"]["end"] if finding["severity"] == "info"]
        lines += [f"      {described(finding)}" for finding in [*found[:3], *rest[:2]]] or ["      nothing"]
    return "\n".join(["harmful faults missed or with another cause first:", *lines]) if lines else ""


def _harmless(planted: list[tuple[Row, str]]) -> str:
    """What was said of planted changes that did no harm; counted nowhere."""
    lines = [
        f"  {row['key']}: {', '.join(finding['cause'] for finding in alarms(row)) or 'silent'}"
        for row, how in planted
        if not how
    ]
    return "\n".join(["planted without harm (not counted):", *lines]) if lines else ""


def _confusion(harmful: list[Row]) -> str:
    """Planted cause and what was named first, where the two differ or not, most frequent first."""
    pairs = Counter(
        (row["causes"][0], alarms(row)[0]["cause"] if alarms(row) else NOTHING) for row in harmful
    )
    lines = ["planted -> named first"]
    for planted in sorted({planted for planted, _ in pairs}):
        named = [(count, name) for (own, name), count in pairs.items() if own == planted]
        lines.append(
            f"  {planted:<30} " + ", ".join(f"{name} {count}" for count, name in sorted(named, reverse=True))
        )
    return "\n".join(lines)


def _measures(healthy: list[Row], harmful: list[Row]) -> str:
    def count(rows: list[Row], true: Callable[[Row], bool]) -> str:
        return share(sum(map(true, rows)), len(rows))

    def ever(row: Row) -> list[Row]:
        return [finding for when in row["asked"] for finding in alarms(row, when)]

    def within(row: Row, places: int) -> bool:
        return any(finding["cause"] in row["causes"] for finding in alarms(row)[:places])

    every = [*healthy, *harmful]
    named = [(finding["cause"], row.get("causes", [])) for row in every for finding in alarms(row)]
    lines = {
        "healthy, any alarm at the end": count(healthy, lambda row: bool(alarms(row))),
        "healthy, any alarm at any time": count(healthy, lambda row: bool(ever(row))),
        "healthy, critical at any time": count(
            healthy, lambda row: any(f["severity"] == "critical" for f in ever(row))
        ),
        "harmful faults detected": count(harmful, lambda row: bool(alarms(row))),
        "cause first": count(harmful, lambda row: within(row, 1)),
        "cause in the first two": count(harmful, lambda row: within(row, 2)),
        "precision of named causes": share(sum(cause in causes for cause, causes in named), len(named)),
        "any alarm by step 50": count(harmful, lambda row: any(alarms(row, str(s)) for s in (5, 10, 20, 50))),
        "right cause by step 50": count(harmful, lambda row: first_seen(row) <= 50),
    }
    return "\n".join(f"{name:<34} {value}" for name, value in lines.items())
