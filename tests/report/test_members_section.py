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
