"""The section about the health of the data: what it says, and that nothing foreign becomes markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from convclinic.clinic.data_health import examine
from convclinic.clinic.leaks import Leak
from convclinic.report.clinic_section import data_health
from convclinic.report.folder import Run


def run(health: dict[str, Any] | None) -> Run:
    metrics = {} if health is None else {"data_health": health}
    return Run(Path(), metrics, None, None, None, None, None, [])


def health(**options: Any) -> dict[str, Any]:
    """400 images of four classes; 40 of the first are surely taken for the second."""
    labels = np.repeat(np.arange(4), 100)
    shown = labels.copy()
    shown[:40] = 1
    probabilities = np.full((400, 4), 0.01)
    probabilities[np.arange(400), shown] = 0.97
    return examine(labels, probabilities, ("cat", "<dog>", "cow", "hen"), **options).to_dict()


def test_confused_classes_suspects_and_leaks_are_told() -> None:
    page = data_health(run(health(leaks=[Leak(1, 2, 1.0)])))
    assert "40 labels are suspected" in page
    assert "40.0" in page
    assert "&lt;dog&gt;" in page
    assert "<dog>" not in page
    assert "both sides of the split: 1 pairs" in page


def test_clean_data_and_unexamined_data_are_told_apart() -> None:
    clean = np.repeat(np.eye(4), 100, axis=0) * 0.9 + 0.025
    found = examine(np.repeat(np.arange(4), 100), clean, tuple("abcd")).to_dict()
    assert "No two classes" in data_health(run(found))
    assert "was not examined" in data_health(run(None))
