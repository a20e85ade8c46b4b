"""What the report says of an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convclinic.report.folder import Run
from convclinic.report.members_section import is_ensemble, members
from convclinic.report.page import render

FOUND: dict[str, Any] = {
    "method": "greedy",
    "validation_log_loss": {"mean": 0.31, "greedy": 0.25, "single": 0.4},
    "members": [
        {"run": "runs/<a>", "weight": 0.75, "validation": 0.9, "test": 0.88},
        {"run": "runs/b", "weight": 0.25, "validation": 0.85, "test": 0.86},
    ],
    "diversity": 0.125,
    "gain": [0.013, -0.002, 0.028],
}


def run(found: dict[str, Any] | None) -> Run:
    metrics = {} if found is None else {"ensemble": found}
    return Run(Path(), metrics, None, None, None, None, None, [])


def test_members_weights_and_gain_are_told() -> None:
    page = members(run(FOUND))
    assert "runs/&lt;a&gt;" in page and "<a>" not in page
    assert "added one by one" in page and "greedy 0.25, mean 0.31, single 0.4" in page
    assert "+1.3 points" in page and "-0.2 to +2.8" in page and "12.5" in page


def test_only_ensembles_have_the_section() -> None:
    assert is_ensemble(run(FOUND)) and not is_ensemble(run(None))
    assert 'id="members"' in render(run(FOUND)) and "#members" in render(run(FOUND))
    assert "members" not in render(run(None)).split("<script")[0]


def test_a_classifier_says_what_it_was_fitted_on() -> None:
    about = {"images": 1275, "folds": 5, "trained": 10, "strength": 0.1}
    page = members(run({**FOUND, "method": "stack", "classifier": about}))
    assert "log-probabilities (stacking)" in page
    assert "fitted on: 1275; folds: 5; nets trained for it: 10; C, chosen by cross-validation: 0.1." in page
    assert "share in how the classifier" in page
    page = members(run({**FOUND, "method": "fusion", "classifier": {"images": 80, "inputs": 512}}))
    assert "(early fusion)" in page and "numbers that it reads of an image: 512" in page
    assert "share in how" not in members(run(FOUND))


def test_folds_have_an_expected_accuracy_and_no_gain() -> None:
    found = {key: FOUND[key] for key in ("method", "members")}
    page = members(run({**found, "expected_accuracy": 0.775, "measured": "no image is untouched"}))
    assert "Expected accuracy 77.5" in page and "no image is untouched" in page
    assert "points beside" not in page and "Log loss" not in page
