"""convclinic diagnose, on real curves of a small net and on what others' tools write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CURVES = Path(__file__).parent.parent / "clinic" / "data" / "lr_curves.json"


@pytest.fixture
def record(here):
    """Writes one of the recorded runs as CSV, an epoch a row, and returns its name."""

    def write(name: str) -> str:
        rows = json.loads(CURVES.read_text())[name]["epochs"]
        lines = ["epoch,train_loss,train_acc,val_loss,val_acc"]
        lines += [",".join(map(str, (number, *row[1:]))) for number, row in enumerate(rows)]
        (here / "metrics.csv").write_text("\n".join(lines) + "\n")
        return "metrics.csv"

    return write


def test_a_healthy_run(command, record):
    answer = command("diagnose", record("lr 0.1"), "--classes", 10, "--validation", 500)
    assert (answer.code, answer.err) == (0, "")
    first, by_epoch, accuracies, nothing, unseen = answer.out.splitlines()
    assert first == "metrics.csv: 12 epochs, 0 steps"
    assert by_epoch == "1  loss by epoch: good"
    assert accuracies == "3  training and validation accuracy: good"
    assert nothing == "nothing found"
    assert unseen.startswith("not seen: the net")
    assert unseen.endswith("the LR")


def test_a_run_that_learns_by_heart(command, record):
    answer = command("diagnose", record("memorised"), "--validation", 500)
    assert answer.code == 0
    assert "3  training and validation accuracy: gap - more regularisation" in answer.out
    assert " warning  overfitting (" in answer.out
    assert "try: mix.mixup.alpha=0.2" in answer.out


def test_json_holds_the_same(command, record):
    answer = command("diagnose", record("memorised"), "--validation", 500, "--json")
    assert answer.code == 0
    result = json.loads(answer.out)
    assert (result["path"], result["epochs"], result["steps"]) == ("metrics.csv", 60, 0)
    assert [figure["shape"] for figure in result["figures"]] == ["good", "gap"]
    (finding,) = [finding for finding in result["findings"] if finding["severity"] != "info"]
    assert finding["cause"] == "overfitting"
    assert 0.5 <= finding["confidence"] <= 0.8  # curves alone are never as sure as one who was there
    assert result["unseen"]


def test_a_run_folder_of_ours_is_read(command, done):
    answer = command("diagnose", done, "--json")
    assert answer.code == 0
    result = json.loads(answer.out)
    assert [figure["figure"] for figure in result["figures"]] == [1, 2, 3]
    assert result["steps"] == len((done / "history.jsonl").read_text().splitlines())


def test_foreign_files_are_refused(command, here):
    (here / "people.csv").write_text("name,age\nann,3\n")
    answer = command("diagnose", "people.csv")
    assert (answer.code, answer.out) == (2, "")
    assert "no column of a loss or an accuracy (columns: age)" in answer.err
    assert "  try: name them like train_loss" in answer.err
    assert command("diagnose", "nothing").code == 2


def test_torch_is_not_loaded(record):
    script = (
        "import sys; sys.argv = ['convclinic', 'diagnose', sys.argv[1]]\n"
        "from convclinic.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, record("lr 0.1")], capture_output=True, text=True, check=True
    )
    assert "nothing found" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"
