"""The three figures, on curves of real training (see data/make_curves.py) and on made ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from convclinic.clinic import figures
from convclinic.clinic.signals import Epoch, NonFinite, Signals, Steps

CURVES = json.loads((Path(__file__).parent / "data" / "lr_curves.json").read_text())


def made(losses=(), epochs=(), size: float = math.nan, **known) -> Signals:
    """Signals of batch losses, and of epochs as (train_loss, train_accuracy, val_loss, val_accuracy)."""
    n = len(losses)
    columns = {name: np.full(n, math.nan) for name in Steps.__dataclass_fields__}
    columns |= {"step": np.arange(1.0, n + 1), "loss": np.asarray(losses, float), "size": np.full(n, size)}
    each = max(1, n // max(1, len(epochs)))
    rows = tuple(Epoch(i + 1, (i + 1) * each, *row) for i, row in enumerate(epochs))
    return Signals(steps=Steps(**columns), epochs=rows, **{"classes": 10, **known})


def real(name: str) -> Signals:
    run = CURVES[name]
    _, losses, sizes = np.array(run["steps"]).T
    return made(losses, [row[1:] for row in run["epochs"]], float(np.median(sizes)), validation=500)


def shapes(signals: Signals) -> list[str]:
    return [figure.shape for figure in figures.read(signals)]


@pytest.mark.parametrize(
    ("name", "by_epoch", "by_batch", "accuracy"),
    [
        ("lr 3e-5", "low LR", "low LR", "no gap, low level"),
        ("lr 1e-4", "low LR", "low LR", "no gap, low level, rising"),
        ("lr 3e-4", "low LR", "low LR", "no gap, low level, rising"),
        ("lr 0.03", "good", "good", "good"),
        ("lr 0.1", "good", "good", "good"),
        ("lr 0.3", "very high LR", "very high LR", "good"),
        ("lr 0.5", "very high LR", "very high LR", "no gap, low level"),
        ("lr 1", "very high LR", "very high LR", "no gap, low level"),
        ("lr 30", "very high LR", "very high LR", "no gap, low level"),
        ("batch 2", "good", "wide band", "good"),
        ("memorised", "good", "good", "gap"),
        ("tiny", "levels off high", "good, still falling", "no gap, low level, rising"),
    ],
)
def test_real_curves_are_read_as_the_handbook_reads_them(name, by_epoch, by_batch, accuracy):
    assert shapes(real(name)) == [by_epoch, by_batch, accuracy]


def test_every_reading_has_a_name_and_evidence_and_what_is_not_good_an_advice():
    for name in CURVES:
        for number, figure in enumerate(figures.read(real(name)), 1):
            assert (figure.figure, figure.name) == (number, figures.NAMES[number])
            assert figure.evidence
            assert bool(figure.advice) == (figure.shape != "good")


@pytest.mark.parametrize("name", ["lr 0.5", "lr 1", "lr 30", "lr 3e-4", "lr 0.1"])
def test_epochs_alone_tell_the_same(name):
    alone = made(epochs=[row[1:] for row in CURVES[name]["epochs"]], validation=500)
    assert shapes(alone) == [shapes(real(name))[0], shapes(real(name))[2]]


def test_fast_then_stuck_is_a_high_lr():
    losses = 1.4 + 0.9 * np.exp(-np.arange(300) / 8)
    assert shapes(made(losses)) == ["high LR", "high LR"]


def test_a_loss_that_is_no_number_any_more():
    losses = [2.3, 2.2, 5.0, *[math.nan] * 30]
    assert shapes(made(losses)) == ["very high LR", "very high LR"]
    rows = [(2.3, None, None, None), (math.nan, None, None, None)]
    assert shapes(made(epochs=rows, non_finite=NonFinite(2, "loss", "loss"))) == ["very high LR"]


def test_a_wide_band_of_large_batches_is_not_the_batch_s_fault():
    rng = np.random.default_rng(0)
    losses = 2.3 * np.exp(-np.arange(400) / 100) + 0.5 * rng.standard_normal(400) + 0.8
    assert shapes(made(losses, size=8))[1] == "wide band"
    assert shapes(made(losses, size=256))[1] == "wide band, large batches"
    assert shapes(made(losses))[1] == "wide band"


def test_figure_3():
    def shape(train: float, val: list[float], n: int = 500) -> str:
        return shapes(made(epochs=[(None, train, None, v) for v in val], validation=n))[0]

    assert shape(1.0, [0.6, 0.7, 0.75, 0.75]) == "gap"
    assert shape(1.0, [0.75, 0.75, 0.6, 0.6, 0.6]) == "gap, and validation falls"
    assert shape(0.9, [0.75] * 4, n=20) == "good"  # twenty images cannot show a gap of 15 points
    assert shape(0.4, [0.7, 0.75, 0.75, 0.75]) == "validation above training"
    assert shape(0.5, [0.5] * 6) == "no gap, low level"
    assert shape(0.95, [0.9, 0.94]) == figures.TOO_SHORT


def test_few_points_have_no_shape_and_no_points_no_figure():
    assert figures.read(Signals()) == ()
    assert shapes(made([2.3, 2.2, 2.1])) == [figures.TOO_SHORT]
    assert shapes(made(epochs=[(2.3, None, 2.3, None)])) == [figures.TOO_SHORT]
    constant = made(np.full(50, 2.3026))
    assert shapes(constant) == ["hardly falls", "hardly falls"]
    assert shapes(made(np.zeros(50))) == ["good", "good"]


def test_a_few_epochs_are_read_from_their_steps():
    run = CURVES["lr 0.1"]
    losses = np.array(run["steps"]).T[1][:60]
    signals = made(losses, [row[1:] for row in run["epochs"][:2]])
    figure = figures.read(signals)[0]
    assert figure.shape == "good"
    assert "tenths of the steps" in figure.evidence[0].signal
