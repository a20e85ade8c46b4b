"""What a run says of its data: doubtful labels with pictures, copies across a given split, findings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from making import photos
from PIL import Image
from tiny import RECIPE

from convclinic.clinic.data_health import WHERE
from convclinic.data.dataset import reopen
from convclinic.job.fitting import fit
from convclinic.job.judging import data_health


@pytest.fixture(scope="module")
def finished(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(
        bars, recipe=RECIPE, out=tmp_path_factory.mktemp("judged") / "run", device="cpu", quiet=True
    ).path


def test_the_run_holds_the_health_of_its_data(finished: Path) -> None:
    health = json.loads((finished / "metrics.json").read_text())["data_health"]
    data = reopen(finished)
    assert health["images"] == len(data.indices("validation")) + len(data.indices("test"))
    assert health["leaks"] == []  # copies stay together where we split
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert f"Judged on {health['images']} validation and test images" in page
    assert page.count("Read as: ") == 3


def test_suspected_labels_have_a_row_and_findings_are_written_once(finished: Path, tmp_path: Path) -> None:
    data = reopen(finished)
    shutil.copytree(finished, tmp_path / "run")
    positions = np.concatenate([data.indices("validation"), data.indices("test")])
    classes = len(data.classes)
    sure = np.full((len(positions), classes), 0.01)
    sure[np.arange(len(positions)), data.labels[positions]] = 1 - 0.01 * (classes - 1)
    sure[3] = np.roll(sure[3], 1)  # the net sees another class here, for certain
    for _ in range(2):
        health, rows = data_health(data, sure, tmp_path / "run")
    assert len(health.suspects.indices) == 1
    (row,) = rows
    position = positions[3]
    assert (row["name"], row["label"]) == (data.names[position], data.classes[data.labels[position]])
    assert row["predicted"] != row["label"] and row["probability"] > 0.9
    assert row["thumbnail"].startswith("data:image/jpeg;base64,")
    written = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert [finding["where"] for finding in written].count(WHERE) == len(health.findings)


def test_copies_within_a_group_that_a_given_split_tears_apart_are_told(tmp_path: Path) -> None:
    """Photos of one group may look alike, so the check-up does not look for copies among them."""
    folder = photos(tmp_path / "photos", per_class=24)
    pattern = np.random.default_rng(0).integers(0, 200, (8, 8, 3)).repeat(8, 0).repeat(8, 1)
    for name, picture in (("first", pattern), ("second", pattern + 20), ("other", pattern[::-1])):
        Image.fromarray(picture.astype(np.uint8)).save(folder / "lying" / f"{name}.png")
    rows = ["path,label,group,split"]
    special = {"first": "train", "second": "test", "other": "test"}
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        part = special.get(path.stem, ("train", "train", "val", "test")[number % 4])
        group = "one" if path.stem in special else number
        rows.append(f"photos/{path.parent.name}/{path.name},{path.parent.name},{group},{part}")
    (tmp_path / "photos.csv").write_text("\n".join(rows))
    run = fit(tmp_path / "photos.csv", recipe=RECIPE, out=tmp_path / "run", device="cpu", quiet=True)
    (leak,) = run.metrics["data_health"]["leaks"]
    names = reopen(run.path).names
    assert [Path(names[leak[key]]).stem for key in ("train", "evaluated")] == ["first", "second"]
    findings = json.loads((run.path / "findings.json").read_text())
    assert [f["cause"] for f in findings if f["where"] == WHERE] == ["train_test_leak"]
