"""The section about the health of the data: what it says, and that nothing foreign becomes markup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convclinic.clinic.data_health import examine
from convclinic.clinic.leaks import Leak
from convclinic.history import Record
from convclinic.report.clinic_section import data_health, reading, readings, treatments
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
    assert "the same as a training image: 1." in page
    assert "Judged on 400 validation and test images" in page


def test_clean_data_and_unexamined_data_are_told_apart() -> None:
    clean = np.repeat(np.eye(4), 100, axis=0) * 0.9 + 0.025
    found = examine(np.repeat(np.arange(4), 100), clean, tuple("abcd")).to_dict()
    assert "No two classes" in data_health(run(found))
    assert "was not examined" in data_health(run(None))


def recorded(folder: Path, losses: list[float]) -> Run:
    records = [Record(step, step / 10, 0.1, loss, 0.5, 1.0) for step, loss in enumerate(losses, 1)]
    (folder / "history.jsonl").write_text("".join(record.line() for record in records), encoding="utf-8")
    return Run(folder, {}, None, records, None, None, None, [])


def test_figures_are_read_with_advice_where_they_are_not_good(tmp_path: Path) -> None:
    straight = readings(recorded(tmp_path, [2.3 - 0.006 * step for step in range(100)]))
    assert set(straight) == {1, 2}  # nothing was validated
    assert "Read as: <b>low LR</b>; try first: raise the LR" in str(reading(straight[1]))
    good = readings(recorded(tmp_path, [2.3 * 0.95**step + 0.1 for step in range(100)]))
    assert str(reading(good[1])).endswith("<b>good</b>.</span>")


def test_a_run_without_history_has_no_readings() -> None:
    assert readings(run(None)) == {}
    assert reading(None) is None


def test_remedies_are_told_with_what_they_brought() -> None:
    row = {"cause": "lr_too_high", "edit": "optimise.lr=<0.01>", "since": 40, "steps": 20, "cost": 0.05}
    kept = row | {"nothing": None, "remedy": 0.81, "gain": None, "error": None, "kept": True}
    reverted = row | {"nothing": 1.5, "remedy": 1.52, "gain": -0.02, "error": 0.011, "kept": False}
    page = str(treatments(replace(run(None), treatments=[kept, reverted])))
    assert "2 tried, 1 kept" in page
    assert "lr too high" in page and "optimise.lr=&lt;0.01&gt;" in page and "20 from step 40" in page
    assert "not a number" in page and "-0.02 ± 0.011" in page and "5.0" in page and "reverted" in page


def test_no_remedy_tried_leaves_no_trace() -> None:
    assert treatments(run(None)) is None
