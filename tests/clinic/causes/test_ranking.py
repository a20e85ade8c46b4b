"""Which finding stands first: symptoms under their root, rivals behind an uncertain one."""

from __future__ import annotations

from convclinic.clinic.judging import merged, ranked
from convclinic.kinds import Evidence, Finding, Severity


def found(cause: str, severity: Severity, confidence: float) -> Finding:
    return Finding(cause, severity, confidence, evidence=(Evidence("signal", 1.0, "less"),), summary=cause)


def names(*findings: Finding) -> list[tuple[str, str]]:
    return [(finding.cause, finding.severity) for finding in ranked(merged(findings))]


def test_a_symptom_is_folded_into_its_root_which_becomes_as_severe():
    root = found("lr_too_high", "warning", 0.9)
    assert names(root, found("dead_relu", "critical", 0.9)) == [("lr_too_high", "critical")]
    (finding,) = merged([root, found("dead_relu", "critical", 0.9)])
    assert [evidence.value for evidence in finding.evidence if evidence.signal == "follows from it"] == [
        "dead_relu"
    ]


def test_a_certain_symptom_of_an_uncertain_root_stays_behind_it():
    root, symptom = (
        found("train_val_preprocessing_differ", "warning", 0.7),
        found("overfitting", "warning", 0.9),
    )
    first, second = ranked(merged([symptom, root]))
    assert (first.cause, second.cause) == ("train_val_preprocessing_differ", "overfitting")
    assert second.confidence < first.confidence
    sure = found("train_val_preprocessing_differ", "warning", 0.9)
    assert names(sure, symptom) == [("train_val_preprocessing_differ", "warning")]


def test_how_faults_look_from_outside_is_never_a_rival():
    root = found("lr_too_high", "warning", 0.7)
    assert names(root, found("plateau", "warning", 0.75)) == [("lr_too_high", "warning")]


def test_units_that_start_equal_are_the_root_of_dead_ones_however_late_it_is():
    symmetric, dead = found("symmetric_init", "warning", 0.9), found("dead_relu", "critical", 0.9)
    assert names(dead, symmetric) == [("symmetric_init", "critical")]


def test_information_explains_nothing():
    findings = found("lr_too_high", "info", 0.9), found("dead_relu", "warning", 0.8)
    assert names(*findings) == [("dead_relu", "warning"), ("lr_too_high", "info")]
