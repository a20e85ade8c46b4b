"""Records of other tools, as they are written: what arrives in the signals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from convclinic.clinic.curves import read
from convclinic.clinic.judging import judge
from convclinic.ground.errors import ConvclinicError
from convclinic.history import Record

LIGHTNING = """epoch,step,train_acc,train_loss_epoch,train_loss_step,val_acc,val_loss
0,49,,,2.1,,
0,99,,,1.6,,
0,99,,,,0.55,1.4
0,99,0.5,1.9,,,
1,149,,,1.2,,
1,199,,,0.9,,
1,199,,,,0.7,1.0
1,199,0.66,1.1,,,
"""
TIMM = """epoch,train_loss,eval_loss,eval_top1,eval_top5,lr
0,2.2,2.0,31.0,80.0,0.1
1,1.8,1.7,42.5,88.0,0.05
2,1.5,1.4,51.0,91.0,0.01
"""
FASTAI = """epoch,train_loss,valid_loss,error_rate,time
0,1.5,1.2,0.4,00:10
1,1.0,0.9,0.3,00:10
"""


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def column(signals, name: str) -> list[float | None]:
    return [getattr(epoch, name) for epoch in signals.epochs]


def test_lightning_rows_of_one_epoch_are_one_epoch(write):
    for path in (write("logs/version_2/metrics.csv", LIGHTNING).parent, write("metrics.csv", LIGHTNING)):
        signals = read(path, classes=10, validation=1000)
        assert signals.steps.step.tolist() == [49, 99, 149, 199]
        assert signals.steps.loss.tolist() == [2.1, 1.6, 1.2, 0.9]
        assert column(signals, "train_loss") == [1.9, 1.1]
        assert column(signals, "train_accuracy") == [0.5, 0.66]
        assert column(signals, "val_accuracy") == [0.55, 0.7]
        assert column(signals, "step") == [99, 199]
        assert (signals.classes, signals.validation, signals.updates) == (10, 1000, 199)
        assert "the LR" in signals.unseen


def test_the_latest_version_of_a_folder_is_taken(write):
    write("logs/version_9/metrics.csv", "epoch,loss\n0,9\n1,9\n")
    path = write("logs/version_10/metrics.csv", "epoch,loss\n0,10\n1,10\n").parent.parent
    assert column(read(path), "train_loss") == [10, 10]


def test_timm_says_per_cent_and_its_top_5_is_left_alone(write):
    signals = read(write("run/summary.csv", TIMM).parent)
    assert column(signals, "val_accuracy") == pytest.approx([0.31, 0.425, 0.51])
    assert column(signals, "val_loss") == [2.0, 1.7, 1.4]
    assert column(signals, "train_loss") == [2.2, 1.8, 1.5]
    assert column(signals, "lr") == [0.1, 0.05, 0.01]
    assert column(signals, "epoch") == [1, 2, 3]
    assert len(signals.steps) == 0
    assert not any("LR" in part for part in signals.unseen)


def test_a_nameless_score_beside_named_losses_is_that_of_validation(write):
    assert column(read(write("history.csv", FASTAI)), "val_accuracy") == pytest.approx([0.6, 0.7])
    assert column(read(write("history.csv", FASTAI)), "train_accuracy") == [None, None]


@pytest.mark.parametrize(
    "document",
    [
        {"loss": [2.0, 1.0], "accuracy": [0.3, 0.6], "val_loss": [2.1, 1.5], "val_accuracy": [0.25, 0.5]},
        {"history": {"loss": [2.0, 1.0], "acc": [30, 60], "val_loss": [2.1, 1.5], "val_acc": [25, 50]}},
        [
            {"epoch": 0, "train": {"loss": 2.0, "top1": 0.3}, "valid": {"loss": 2.1, "top1": 0.25}},
            {"epoch": 1, "train": {"loss": 1.0, "top1": 0.6}, "valid": {"loss": 1.5, "top1": 0.5}},
        ],
        [
            {"epoch": 0, "Loss/train": 2.0, "trainAcc": "30%", "Loss/test": 2.1, "testAcc": "25%"},
            {"epoch": 1, "Loss/train": 1.0, "trainAcc": "60%", "Loss/test": 1.5, "testAcc": "50%"},
        ],
    ],
    ids=["keras", "nested, per cent", "list of objects", "test for validation"],
)
def test_json_of_several_shapes_says_the_same(write, document):
    signals = read(write("history.json", json.dumps(document)))
    assert column(signals, "train_loss") == [2.0, 1.0]
    assert column(signals, "train_accuracy") == pytest.approx([0.3, 0.6])
    assert column(signals, "val_loss") == [2.1, 1.5]
    assert column(signals, "val_accuracy") == pytest.approx([0.25, 0.5])


def test_hugging_face_logs_steps_and_evaluations_apart(write):
    log = [
        {"epoch": 0.5, "learning_rate": 0.1, "loss": 2.0, "grad_norm": 3.0, "step": 10},
        {"epoch": 1.0, "learning_rate": 0.05, "loss": 1.5, "grad_norm": 2.0, "step": 20},
        {"epoch": 1.0, "eval_loss": 1.4, "eval_accuracy": 0.5, "eval_runtime": 3.0, "step": 20},
        {"epoch": 1.5, "learning_rate": 0.02, "loss": 1.2, "grad_norm": 2.0, "step": 30},
        {"epoch": 2.0, "learning_rate": 0.01, "loss": 1.0, "grad_norm": 1.0, "step": 40},
        {"epoch": 2.0, "eval_loss": 1.1, "eval_accuracy": 0.6, "eval_runtime": 3.0, "step": 40},
        {"epoch": 2.0, "step": 40, "train_loss": 1.4, "train_runtime": 60.0, "total_flos": 1e9},
    ]
    signals = read(write("out/trainer_state.json", json.dumps({"log_history": log, "epoch": 2.0})).parent)
    assert signals.steps.loss.tolist() == [2.0, 1.5, 1.2, 1.0]
    assert signals.steps.lr.tolist() == [0.1, 0.05, 0.02, 0.01]
    assert signals.steps.grad_norm.tolist() == [3, 2, 2, 1]
    assert column(signals, "val_accuracy") == [0.5, 0.6]
    assert column(signals, "step") == [20, 40]


def test_a_run_folder_of_ours(write, tmp_path):
    records = [
        Record(
            step, step / 4, 0.1, 2 - step / 10, 0.3, 1.0, *((1.5, 0.4, 0.4, 0.35) if step % 4 == 0 else ())
        )
        for step in range(1, 13)
    ]
    write("history.jsonl", "".join(record.line() for record in records) + '{"step": 13, "ep')
    write("data.json", json.dumps({"classes": ["a", "b", "c"]}))
    write("metrics.json", json.dumps({"validation": {"n": 44}}))
    signals = read(tmp_path)
    assert (len(signals.steps), signals.classes, signals.validation) == (12, 3, 44)
    assert signals.steps.accuracy.tolist() == [0.3] * 12
    assert column(signals, "step") == [4, 8, 12]
    assert column(signals, "train_accuracy") == [0.35] * 3
    assert column(signals, "train_loss") == pytest.approx([1.75, 1.35, 0.95])


def test_batches_counted_within_epochs_are_steps(write):
    rows = [(e, b, 2 / (1 + 5 * e + b)) for e in range(3) for b in range(5)]
    text = "epoch,batch,loss\n" + "".join(f"{e},{b},{loss}\n" for e, b, loss in rows)
    signals = read(write("batches.csv", text))
    assert signals.steps.step.tolist() == list(range(1, 16))
    assert signals.steps.loss.tolist() == pytest.approx([loss for *_, loss in rows])


def test_a_resumed_run_replaces_what_it_did_again(write):
    text = "step,loss\n" + "".join(
        f"{step},{loss}\n" for step, loss in [(1, 3), (2, 2), (3, 9), (3, 1), (4, 0.5)]
    )
    signals = read(write("steps.csv", text))
    assert signals.steps.loss.tolist() == [3, 2, 1, 0.5]


def test_a_loss_that_stays_no_number_is_told_from_a_gap(write):
    gaps = read(write("a.csv", "step;loss\n1;2.0\n2;nan\n3;1.5\n4;nan\n"))
    assert gaps.non_finite is None
    assert gaps.steps.loss.tolist() == [2.0, 1.5]
    lost = read(write("b.csv", "step;loss\n1;2.0\n2;9.5\n3;nan\n4;nan\n"))
    assert lost.non_finite is not None
    assert lost.non_finite.step == 3
    assert np.isnan(lost.steps.loss).tolist() == [False, False, True, True]


def test_rules_that_look_into_the_net_stay_silent(write):
    losses = [2.3 * math.exp(-step / 40) + 0.1 for step in range(200)]
    signals = read(write("a.csv", "step,loss\n" + "".join(f"{i},{x}\n" for i, x in enumerate(losses))), 10)
    assert judge(signals) == ()
    assert signals.steps.step[0] == 1


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "path,label\nx.png,3\n", "columns: label"),
        ("a.csv", "path,label\nx.png,cat\n", "no rows of numbers"),
        ("a.csv", "1,2,3\n4,5,6\n", "names no columns"),
        ("a.jsonl", '{"loss": 1}\n{"loss"\n{"loss": 2}\n', "line 2, is no JSON"),
        ("a.json", "[]", "no rows of numbers"),
        ("a.pt", "PK", "no record of metrics"),
        ("deep/notes.md", "hello", "holds no metrics"),
    ],
)
def test_foreign_files_are_refused_in_words(write, name, text, told):
    path = write(name, text)
    with pytest.raises(ConvclinicError, match=told) as caught:
        read(path.parent if "/" in name else path)
    assert caught.value.fix


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(ConvclinicError, match="no file or folder"):
        read(tmp_path / "none.csv")


@pytest.mark.parametrize("layout", ["one folder", "a folder each"])
def test_tensorboard_folders(tmp_path, layout):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from torch.utils.tensorboard import SummaryWriter

    def values(epoch: int) -> dict[str, dict[str, float]]:
        return {"loss": {"train": 2 - epoch, "val": 2.1 - epoch}, "acc": {"val": 0.4 + 0.2 * epoch}}

    for epoch in range(2):
        for what, sides in values(epoch).items():
            for side, value in sides.items():
                folder, tag = (
                    (tmp_path, f"{what}/{side}") if layout == "one folder" else (tmp_path / side, what)
                )
                with SummaryWriter(str(folder)) as writer:
                    writer.add_scalar(tag, value, epoch)
    signals = read(tmp_path)
    assert column(signals, "train_loss") == pytest.approx([2, 1])
    assert column(signals, "val_loss") == pytest.approx([2.1, 1.1])
    assert column(signals, "val_accuracy") == pytest.approx([0.4, 0.6])


def test_without_tensorboard_its_folder_says_how_to_go_on(tmp_path, monkeypatch):
    import sys

    (tmp_path / "events.out.tfevents.1.x").write_bytes(b"\0")
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConvclinicError, match="not installed") as caught:
        read(tmp_path)
    assert "convclinic[track]" in caught.value.fix
