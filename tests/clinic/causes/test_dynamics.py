"""Causes that show in the course of a run: on runs that have them, on look-alikes, and on their rivals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from convclinic.clinic.causes import (
    batch_too_large,
    batch_too_small,
    data_starved,
    dead_relu,
    exploding_gradient,
    label_noise,
    labels_shuffled,
    lr_too_high,
    lr_too_low,
    non_finite,
    over_regularised,
    plateau,
    predicts_one_class,
    saturated_activation,
    vanishing_gradient,
)
from convclinic.clinic.judging import judge
from convclinic.clinic.signals import (
    Activation,
    ByLayer,
    DataProbe,
    Epoch,
    First,
    Floats,
    Group,
    Inputs,
    Labels,
    Layer,
    Losses,
    NonFinite,
    Outputs,
    Probe,
    Setup,
    Signals,
    Steps,
    Targets,
)

FLOOR = math.log(10)
RULES = (
    batch_too_large,
    batch_too_small,
    data_starved,
    dead_relu,
    exploding_gradient,
    label_noise,
    labels_shuffled,
    lr_too_high,
    lr_too_low,
    non_finite,
    over_regularised,
    plateau,
    predicts_one_class,
    saturated_activation,
    vanishing_gradient,
)
SGD = Group("SGD", 0.05, 5e-4, 1000, momentum=0.9)
ADAM = Group("Adam", 1e-3, 0.0, 1000, adaptive=True)


def falling(n: int, to: float = 0.5, noise: float = 0.05) -> Floats:
    """A loss that falls from the floor as healthy ones do."""
    rng = np.random.default_rng(n)
    return to + (FLOOR - to) * np.exp(-4 * np.arange(n) / n) + noise * rng.standard_normal(n)


def stuck(n: int, noise: float = 0.03) -> Floats:
    return FLOOR + noise * np.random.default_rng(n).standard_normal(n)


def line(n: int, per_step: float, noise: float = 0.01) -> Floats:
    return FLOOR - per_step * np.arange(n) + noise * np.random.default_rng(n).standard_normal(n)


def run(loss: Floats, *groups: Group, **other: Any) -> Signals:
    """A run of ten balanced classes with this loss. Names of columns set them (a number or one per step),
    other names are those of `Signals`; what is not named is that of a healthy run."""
    n = len(loss)
    right = np.clip(1 - loss / FLOOR, 0.1, 1.0)
    columns: dict[str, Any] = {
        "step": np.arange(1, n + 1),
        "loss": loss,
        "cross_entropy": loss,
        "accuracy": right,
        "size": 64,
        "lr": groups[0].lr if groups else 0.05,
        "ratio": 3e-3,
        "grad_norm": 1.0 + 0.1 * np.sin(np.arange(n)),
        "weight_norm": 10.0,
        "top": 0.3,
        "waiting": 1e-3,
        "computing": 1e-2,
        "stale": 0.0,
        "training": 1.0,
    }
    names = {field.name for field in dataclasses.fields(Steps)}
    columns |= {name: value for name, value in other.items() if name in names}
    table = {name: np.broadcast_to(np.asarray(value, float), n).copy() for name, value in columns.items()}
    blank = {name: np.full(n, math.nan) for name in names - table.keys()}
    signals: dict[str, Any] = {
        "classes": 10,
        "setup": Setup(groups=groups or (SGD,)),
        "labels": Labels(counts=(6 * n,) * 10, batches=n),
        "steps": Steps(**table, **blank),
        "observed": n,
        "updates": n,
    }
    return Signals(**(signals | {name: value for name, value in other.items() if name not in names}))


def relu(silent: float, step: int = 25, **other: Any) -> Probe:
    return Probe(step, (Activation("body.1", "relu", 32, silent, max(silent, 0.6), 0.0, 0.5),), **other)


def gate(operation: str, saturated: float, units: int = 32) -> Probe:
    after = Activation("head", "relu", 8, 0.0, 0.5, 0.0, 1.0)
    return Probe(25, (Activation("body.1", operation, units, 0.0, 0.0, saturated, 0.9), after))


def shot(n: int, peak: float, after: float = FLOOR) -> Floats:
    """A loss that shoots up in the third step and stays at `after`."""
    loss = stuck(n) * after / FLOOR
    loss[0], loss[2:5] = FLOOR, (peak, peak / 2, peak / 4)
    return loss


def thrown(n: int, most: float = 2.0) -> Floats:
    """Ratios of a net that was thrown about in its first steps."""
    return np.where(np.arange(n) < 5, most, 0.01)


def confusion(right: float, structure: float, images: int = 2000) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Labels by predictions: `right` on the diagonal; structure 0 spreads the rest, 1 heaps it on pairs."""
    rng = np.random.default_rng(0)
    table = np.full((10, 10), (1 - structure) / 9)
    for k in range(10):
        table[k, (k + 1 + np.arange(2)) % 10] += structure / 2
    np.fill_diagonal(table, 0.0)
    table = (1 - right) * table / table.sum(1, keepdims=True) + right * np.eye(10)
    return rng.poisson(table * images / 10)


HEALTHY = {
    "young": run(falling(20, 2.2)),
    "fifty steps": run(falling(50, 1.5)),
    "long": run(falling(2000, 0.2)),
    "slow and hard": run(line(50, 0.002, 0.05), top=0.95),
    "still at the floor after fifty steps": run(stuck(50), top=1.0),
    "Adam at 0.01": run(falling(50, 0.9), ADAM, ratio=np.geomspace(0.25, 0.02, 50)),
    "thrown a little": run(falling(60, 0.8) + np.where(np.arange(60) == 2, 1.2, 0.0), ratio=thrown(60, 0.2)),
    "converged": run(falling(500, 0.002, 0.001), ratio=2e-5, lr=1e-4),
    "warm-up": run(line(40, 1e-5, 0.02), lr=np.linspace(1e-6, 1e-3, 40), ratio=np.linspace(1e-7, 1e-4, 40)),
    "end of cosine": run(falling(300, 1.4), lr=0.05 * (1 + np.cos(np.linspace(0, 3.14, 300))), ratio=1e-6),
    "sparse ReLUs": run(falling(50, 1.0), probes=(relu(0.5),)),
    "silent at first only": run(falling(50, 1.0), probes=(relu(1.0, 0), relu(0.1))),
    "a tanh net": run(falling(50, 1.0), probes=(gate("tanh", 0.1),)),
    "batch 8": run(falling(100, 1.5, 0.4), size=8, setup=Setup(groups=(SGD,), batch_norms=4)),
    "batch 1024": run(falling(64, 1.0, 0.02), size=1024, epochs=tuple(Epoch(k, 8 * k) for k in range(1, 9))),
    "usual decay and dropout": run(
        falling(200, 1.0),
        setup=Setup(groups=(SGD, Group("AdamW", 1e-3, 0.1, 10, adaptive=True)), dropouts=(("d", 0.5),)),
    ),
    "clean errors": run(falling(200, 1.2), labels=Labels((1280,) * 10, 200, confusion=confusion(0.5, 0.8))),
    "mixup": run(
        falling(200, 1.2),
        labels=Labels((1280,) * 10, 200, confusion=confusion(0.5, 0.0)),
        first=First(targets=Targets("soft", 0, 1)),
    ),
    "one odd gradient": run(falling(100, 1.0), grad_norm=np.where(np.arange(100) == 60, 80.0, 1.0)),
    "slow first batches": run(falling(50, 1.0), waiting=np.where(np.arange(50) < 5, 2.0, 1e-3)),
    "validation now and then": run(falling(60, 1.0), waiting=np.where(np.arange(60) % 20 == 0, 2.0, 1e-3)),
    "a small last batch": run(falling(60, 1.0), size=np.where(np.arange(60) % 20 == 19, 1, 64)),
    "labels alone": run(falling(60, 1.0), accuracy=math.nan, cross_entropy=math.nan, ratio=math.nan),
    "nothing seen": Signals(),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_give_no_alarm(name: str) -> None:
    found = [finding for rule in RULES if (finding := rule.judge(HEALTHY[name])) is not None]
    assert [finding.cause for finding in found if finding.severity != "info"] == []


SATURATED_BEFORE = dataclasses.replace(gate("tanh", 0.95), step=0)
SHUFFLED = DataProbe(3000, 0.104, 0.098, 0.103, 0.011)
CLEAR = DataProbe(3000, 0.36, 0.28, 0.103, 0.011)
DEEP = tuple(f"body.{k}" for k in range(8))


def by_layer(gradient: Sequence[float], ratio: Sequence[float], n: int = 10) -> ByLayer:
    return ByLayer(DEEP, np.arange(1.0, n + 1), np.tile(gradient, (n, 1)), np.tile(ratio, (n, 1)))


VANISHED = by_layer(np.geomspace(1e-9, 1e-2, 8).tolist(), np.geomspace(1e-10, 1e-3, 8).tolist())
EVEN = by_layer([1e-3] * 8, [1e-3] * 8)
FRESH = Setup((Layer("conv", "conv", 8, 100),), (Group("SGD", 5e-4, 0.0, 100),))
EPOCHS = tuple(Epoch(k, 2 * k) for k in range(1, 21))
FAULTS = [
    (lr_too_high, "critical", run(shot(50, 40.0), ratio=thrown(50), probes=(relu(1.0),))),
    (lr_too_high, "warning", run(shot(50, 6.0), ratio=thrown(50), probes=(relu(0.1),))),
    (lr_too_high, "warning", run(shot(12, 400.0), ratio=thrown(12))),
    (lr_too_high, "info", run(shot(12, 6.0), ratio=thrown(12))),
    (lr_too_high, "warning", run(stuck(50), ratio=thrown(50, 0.5), weight_norm=np.linspace(10, 50, 50))),
    (lr_too_high, "warning", run(stuck(50, 0.5), ratio=0.4)),
    (lr_too_high, "warning", run(line(50, 0.005), ratio=thrown(50), probes=(gate("tanh", 0.95),))),
    (lr_too_high, "warning", run(stuck(50), ratio=thrown(50, 0.2), probes=(relu(0.1, 1), relu(1.0)))),
    (lr_too_low, "warning", run(line(50, 1e-4), ratio=8e-6, lr=1e-5)),
    (lr_too_low, "warning", run(line(500, 5e-5), ratio=5e-5, lr=1e-4)),
    (lr_too_low, "warning", run(line(200, 2e-3), Group("SGD", 5e-4, 0, 1), ratio=2e-4, lr=5e-4, setup=FRESH)),
    (lr_too_low, "warning", run(line(50, 2e-4), dataclasses.replace(ADAM, lr=1e-6), ratio=1e-5)),
    (exploding_gradient, "warning", run(shot(40, 90.0), ratio=0.5, grad_norm=np.geomspace(200, 1, 40))),
    (
        exploding_gradient,
        "warning",
        run(
            np.where(np.arange(100) < 60, falling(100, 0.5), 4.0),
            grad_norm=np.where(np.arange(100) < 60, 1.0, 90.0),
        ),
    ),
    (vanishing_gradient, "warning", run(stuck(50), by_layer=VANISHED)),
    (dead_relu, "critical", run(stuck(50), probes=(relu(1.0, 10), relu(1.0, 50)))),
    (dead_relu, "warning", run(stuck(50), probes=(relu(0.85),))),
    (dead_relu, "info", run(falling(50, 0.8), probes=(relu(0.7),))),
    (saturated_activation, "warning", run(line(50, 0.002), probes=(gate("tanh", 0.9),))),
    (saturated_activation, "info", run(falling(50, 0.4), probes=(gate("sigmoid", 0.7),))),
    (predicts_one_class, "info", run(stuck(100), top=1.0)),
    (predicts_one_class, "warning", run(stuck(600), top=1.0)),
    (plateau, "info", run(stuck(150))),
    (plateau, "warning", run(stuck(600))),
    (labels_shuffled, "warning", run(stuck(50), data_probe=SHUFFLED)),
    (
        labels_shuffled,
        "warning",
        run(
            falling(900, 1.0),
            data_probe=SHUFFLED,
            validation=1000,
            epochs=(Epoch(1, 900, train_accuracy=0.6, val_accuracy=0.1),),
        ),
    ),
    (
        label_noise,
        "warning",
        run(
            line(300, 0.0) - 0.5,
            labels=Labels((1920,) * 10, 300, confusion=confusion(0.5, 0.0)),
            accuracy=0.5,
        ),
    ),
    (batch_too_small, "warning", run(falling(50, 1.5, 0.8), size=2, setup=Setup(batch_norms=3))),
    (batch_too_small, "warning", run(stuck(60, 0.8), size=1)),
    (batch_too_small, "info", run(falling(200, 0.4, 0.3), size=4)),
    (batch_too_large, "warning", run(line(40, 0.01), size=2500, epochs=EPOCHS)),
    (batch_too_large, "info", run(falling(40, 0.3, 0.01), size=2500, epochs=EPOCHS)),
    (data_starved, "warning", run(falling(50), waiting=0.05)),
    (data_starved, "info", run(falling(50), waiting=0.014)),
    (over_regularised, "warning", run(line(50, 0.002), setup=Setup(dropouts=(("drop", 0.9),)))),
    (over_regularised, "info", run(falling(500, 0.2), setup=Setup(dropouts=(("drop", 0.75),)))),
    (over_regularised, "warning", run(line(50, 0.002), dataclasses.replace(SGD, weight_decay=0.3))),
    (over_regularised, "warning", run(line(50, 0.002), Group("AdamW", 3e-3, 10.0, 10, adaptive=True))),
    (
        over_regularised,
        "warning",
        run(stuck(50), dataclasses.replace(ADAM, weight_decay=1.0), weight_norm=np.geomspace(10, 3, 50)),
    ),
    (
        over_regularised,
        "warning",
        run(line(50, 0.002), first=First(losses=Losses(FLOOR, FLOOR, smoothing=0.8))),
    ),
]


@pytest.mark.parametrize(
    ("rule", "severity", "signals"),
    FAULTS,
    ids=[f"{rule.__name__.split('.')[-1]}-{s}" for rule, s, _ in FAULTS],
)
def test_faults_are_named(rule: Any, severity: str, signals: Signals) -> None:
    finding = rule.judge(signals)
    assert finding is not None
    assert finding.cause == rule.__name__.rsplit(".", 1)[-1]
    assert finding.severity == severity
    assert finding.summary and finding.remedies and finding.evidence and finding.reference
    assert finding.severity == "info" or finding.confidence >= 0.5


@pytest.mark.parametrize(
    ("rule", "signals"),
    [
        (lr_too_high, run(stuck(60), probes=(relu(1.0, 10), relu(1.0, 50)))),  # dead from the start: no jump
        (lr_too_high, run(stuck(60), data_probe=SHUFFLED)),
        (lr_too_high, run(line(50, 0.005), ratio=thrown(50), probes=(SATURATED_BEFORE, gate("tanh", 0.95)))),
        (lr_too_low, run(line(200, 9e-3), ratio=2e-4, lr=5e-4, setup=FRESH)),  # fast for all that
        (lr_too_high, run(shot(60, 40.0), ratio=thrown(60), grad_norm=np.geomspace(300, 1, 60))),  # gradient
        (lr_too_high, run(-np.geomspace(1, 1e4, 60), ratio=thrown(60))),  # a flipped sign
        (lr_too_low, run(stuck(60), ratio=1e-5, lr=0.05)),  # a usual rate: the gradient is small
        (lr_too_low, run(stuck(60), ratio=1e-5, lr=1e-4, probes=(relu(1.0),))),
        (lr_too_low, run(line(60, 0.02), ratio=8e-5, lr=1e-4)),  # pretrained: small updates suffice
        (lr_too_low, run(line(60, 1e-4) - 0.3 * FLOOR, ratio=1e-5, lr=2e-5)),  # and it began well
        (vanishing_gradient, run(stuck(60), by_layer=EVEN)),
        (vanishing_gradient, run(falling(200, 0.1), by_layer=VANISHED)),
        (vanishing_gradient, run(stuck(60), ADAM, by_layer=by_layer([1e-6] + [1e-2] * 7, [1e-3] * 8))),
        (labels_shuffled, run(stuck(60), data_probe=CLEAR)),
        (labels_shuffled, run(falling(60, 1.5), data_probe=SHUFFLED)),  # hard for a probe, not for the net
        (labels_shuffled, run(stuck(60), data_probe=SHUFFLED, first=First(Inputs((64, 1), 0, 0.0, 0, 0)))),
        (
            saturated_activation,
            run(stuck(60), probes=(Probe(25, (gate("sigmoid", 1.0, 10).activations[0],)),)),
        ),
        (over_regularised, run(stuck(60), dataclasses.replace(SGD, weight_decay=0.1, lr=1e-6))),
        (batch_too_small, run(stuck(60), size=2, observed=60, updates=2)),  # gathered over thirty batches
        (predicts_one_class, run(stuck(600), top=1.0, labels=Labels((900, 50, 50), 600))),
        (plateau, run(falling(600, 0.05))),
    ],
)
def test_rivals_are_told_apart(rule: Any, signals: Signals) -> None:
    finding = rule.judge(signals)
    assert finding is None or finding.severity == "info"


def test_a_spike_that_comes_back_is_worth_knowing_only() -> None:
    finding = exploding_gradient.judge(HEALTHY["one odd gradient"])
    assert finding is not None and finding.severity == "info" and finding.step == 61


def broken(loss: Sequence[float], bad: NonFinite, **other: Any) -> Signals:
    return run(np.array(loss), non_finite=bad, **other)


def test_a_climb_to_nan_is_the_learning_rate() -> None:
    loss = [FLOOR, 9.0, 800.0, math.inf, math.nan, math.nan]
    signals = broken(loss, NonFinite(4, "output", "head (Linear)"), ratio=thrown(6))
    finding = lr_too_high.judge(signals)
    assert finding is not None and finding.severity == "critical" and finding.step == 4
    assert "non_finite" in lr_too_high.EXPLAINS


def test_nan_out_of_a_healthy_loss_is_not_the_learning_rate() -> None:
    signals = broken([*falling(20, 1.5), math.nan], NonFinite(21, "output", "log (Log)", ("conv",)))
    assert lr_too_high.judge(signals) is None
    finding = non_finite.judge(signals)
    assert finding is not None and finding.severity == "critical" and finding.where == "log (Log)"
    assert "step 21" in finding.summary and "conv" in finding.summary


def test_bad_images_are_named_and_cure_is_in_the_data() -> None:
    signals = broken([*falling(9, 2.0), math.nan], NonFinite(10, "inputs", "inputs", examples=(3, 7)))
    finding = non_finite.judge(signals)
    assert finding is not None and finding.examples == ("3", "7")
    assert "images" in finding.remedies[0] and not any("lr" in remedy for remedy in finding.remedies)
    assert lr_too_high.judge(signals) is None and exploding_gradient.judge(signals) is None


def test_a_loss_that_breaks_on_finite_outputs_has_itself_to_blame() -> None:
    """log(softmax) underflows; the gradient and the rate had no part in it."""
    loss = [FLOOR, 30.0, math.inf, math.nan]
    bad = NonFinite(3, "loss", "loss", ("outputs",))
    signals = broken(loss, bad, grad_norm=500.0, ratio=thrown(4))
    assert exploding_gradient.judge(signals) is None and lr_too_high.judge(signals) is None
    found = judge(signals)
    assert found[0].cause == "non_finite" and found[0].severity == "critical"


def test_labels_learnt_by_heart_are_still_shuffled() -> None:
    """Training has begun to learn single images, validation stays at chance, and so does the probe."""
    learning = run(falling(300, 1.9), data_probe=SHUFFLED, validation=500)
    epochs = (Epoch(1, 150, val_accuracy=0.1), Epoch(2, 300, val_accuracy=0.11))
    finding = labels_shuffled.judge(dataclasses.replace(learning, epochs=epochs))
    assert finding is not None and finding.severity == "warning" and "by heart" in finding.summary
    better = (Epoch(1, 150, val_accuracy=0.2), Epoch(2, 300, val_accuracy=0.3))
    assert labels_shuffled.judge(dataclasses.replace(learning, epochs=better)) is None


def test_batch_norm_over_two_images_is_a_fault_unless_it_is_frozen() -> None:
    good = run(falling(60, 0.3), size=2, setup=Setup(groups=(SGD,), batch_norms=3))
    finding = batch_too_small.judge(good)
    assert finding is not None and finding.severity == "warning"
    frozen = dataclasses.replace(good, setup=Setup(groups=(SGD,), batch_norms=3, modes=("a", "b", "c")))
    finding = batch_too_small.judge(frozen)
    assert finding is None or finding.severity == "info"


def test_a_head_whose_bias_decides_is_seen_at_once() -> None:
    outputs = Outputs(10, 6.0, 18.0, -0.2, 60.0, 18.0, 0.1)
    first = First(outputs=outputs, losses=Losses(54.0, 54.0))
    finding = predicts_one_class.judge(Signals(classes=10, first=first))
    assert finding is not None and finding.severity == "warning" and "bias" in finding.where
    # a trained net on a new task is as wrong, but its answers differ from image to image
    trained = dataclasses.replace(first, outputs=dataclasses.replace(outputs, between=9.0))
    assert predicts_one_class.judge(Signals(classes=10, first=trained)) is None


def test_a_loop_that_skips_the_bad_step_goes_on() -> None:
    signals = broken([*falling(9, 2.0), math.nan, *falling(9, 1.5)], NonFinite(10, "loss", "loss"))
    finding = non_finite.judge(signals)
    assert finding is not None and finding.severity == "warning"


def test_gradients_beyond_the_weights_that_end_in_nan() -> None:
    loss = [FLOOR, 30.0, math.inf, math.nan]
    signals = broken(loss, NonFinite(3, "weight", "conv.weight"), grad_norm=500.0, ratio=thrown(4))
    finding = exploding_gradient.judge(signals)
    assert finding is not None and finding.severity == "critical"
    assert lr_too_high.judge(signals) is None


def test_excess_variance_tells_noise_from_structure() -> None:
    assert abs(label_noise.excess(confusion(0.5, 0.0))) < 0.1
    assert label_noise.excess(confusion(0.5, 0.8)) > 1.0
    assert math.isnan(label_noise.excess(confusion(0.99, 0.0)))


def test_noise_counts_early_only_where_neighbours_disagree() -> None:
    labels = Labels((640,) * 10, 60, confusion=confusion(0.4, 0.0))
    rising = {"accuracy": np.linspace(0.1, 0.6, 60), "labels": labels}
    early = label_noise.judge(run(falling(60, 1.2), **rising))
    probed = label_noise.judge(
        run(falling(60, 1.2), **rising, data_probe=DataProbe(3000, 0.40, 0.27, 0.1, 0.01))
    )
    assert early is not None and early.severity == "info"
    assert probed is not None and probed.severity == "warning"


def test_alike_images_with_one_label_speak_against_noise() -> None:
    """Classes that are equally alike to each other give even errors while the net is still learning."""
    labels = Labels((1920,) * 10, 300, confusion=confusion(0.5, 0.0))
    flat = run(line(300, 0.0) - 0.5, labels=labels, accuracy=0.5)
    clean = dataclasses.replace(flat, data_probe=DataProbe(1500, 0.46, 0.69, 0.17, 0.02))
    assert label_noise.judge(flat) is not None
    assert label_noise.judge(clean) is None


def test_a_rate_that_fell_too_early_is_too_low_and_one_at_its_end_is_not() -> None:
    early = np.where(np.arange(100) < 10, 1e-2, 1e-7)
    late = np.where(np.arange(100) < 80, 1e-2, 1e-7)
    slow = line(100, 1e-5)
    assert lr_too_low.judge(run(slow, lr=early, ratio=early / 3)) is not None
    assert lr_too_low.judge(run(slow, lr=late, ratio=late / 3)) is None


def test_a_gradient_clipped_to_nearly_nothing_is_too_low_at_any_rate() -> None:
    clipped = run(stuck(60), ratio=1e-6, lr=0.1, grad_norm=1e-4)
    finding = lr_too_low.judge(clipped)
    assert finding is not None and finding.severity == "warning" and "clip" in finding.remedies[0]
    small = run(stuck(60), ratio=1e-6, lr=0.1, grad_norm=1e-4 * (1 + 0.1 * np.sin(np.arange(60))))
    assert lr_too_low.judge(small) is None


def test_weights_that_do_not_move_at_all_are_another_rules_business() -> None:
    fresh = dataclasses.replace(FRESH, groups=(Group("SGD", 0.0, 0.0, 100),))
    assert lr_too_low.judge(run(stuck(200), ratio=0.0, lr=0.0, setup=fresh)) is None


def test_a_warm_up_that_has_just_ended_is_not_too_low() -> None:
    rate = np.minimum(np.geomspace(1e-6, 4e-3, 200), 3e-3)
    assert lr_too_low.judge(run(stuck(200), lr=rate, ratio=rate / 3)) is None


def test_two_updates_and_a_rest_are_an_epoch_of_two() -> None:
    ends = tuple(Epoch(k, 3 * k) for k in range(1, 5))
    size = np.tile([539, 539, 1], 4)
    finding = batch_too_large.judge(run(line(12, 0.03), size=size, epochs=ends))
    assert finding is not None and finding.severity == "warning" and finding.evidence[0].value == 2


def test_frozen_layers_are_no_vanishing_gradient() -> None:
    gradient = [math.nan] * 4 + [1e-2] * 4
    layers = tuple(Layer(name, "conv", 8, 100) for name in DEEP)
    signals = run(stuck(50), by_layer=by_layer(gradient, gradient), setup=Setup(layers, (SGD,)))
    assert vanishing_gradient.judge(signals) is None
