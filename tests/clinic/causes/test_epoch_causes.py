"""Causes that show over epochs or beside the validation: made signals and their look-alikes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from convclinic.clinic.causes import (
    destructive_augmentation,
    overfitting,
    train_test_leak,
    train_val_preprocessing_differ,
    underfitting,
)
from convclinic.clinic.signals import (
    DataProbe,
    Epoch,
    Evaluations,
    First,
    Group,
    Inputs,
    Labels,
    OneBatch,
    Preflight,
    Probe,
    Setup,
    Signals,
    Steps,
    Targets,
)


def epochs(train=None, val=None, val_loss=None, train_loss=None, length=50) -> tuple[Epoch, ...]:
    n = len(next(column for column in (train, val, val_loss, train_loss) if column is not None))
    columns = [column or [None] * n for column in (train_loss, train, val_loss, val)]
    return tuple(Epoch(i + 1, (i + 1) * length, *row) for i, row in enumerate(zip(*columns, strict=True)))


def steps(loss, accuracy=math.nan, lr=0.1, size=64, ratio=1e-3) -> Steps:
    n = len(loss)
    known = {"step": np.arange(1.0, n + 1), "loss": np.asarray(loss, float)}
    for name, value in (("accuracy", accuracy), ("lr", lr), ("size", size), ("ratio", ratio)):
        known[name] = np.broadcast_to(np.asarray(value, float), n).copy()
    nothing = {name: np.full(n, math.nan) for name in Steps.__dataclass_fields__}
    return Steps(**{**nothing, **known})


def inputs(means=(0.0, 0.0, 0.0), stds=(1.0, 1.0, 1.0)) -> Inputs:
    m, s = np.array(means), np.array(stds)
    overall = float(np.sqrt((s**2 + m**2).mean() - m.mean() ** 2))
    return Inputs((64, len(m), 8, 8), float(m.mean()), overall, -3, 3, channel_means=means, channel_stds=stds)


# overfitting

BY_HEART = Signals(
    classes=10,
    validation=500,
    epochs=epochs(
        train=[0.5, 0.8, 0.95, 1, 1, 1, 1],
        val=[0.45, 0.6, 0.66, 0.67, 0.66, 0.66, 0.66],
        val_loss=[1.5, 1.2, 1.1, 1.3, 1.5, 1.7, 1.8],
    ),
)


def test_a_net_that_learns_by_heart():
    finding = overfitting.judge(BY_HEART)
    assert finding is not None
    assert (finding.severity, finding.confidence) == ("warning", 0.9)
    assert "1.5 times its best" in finding.summary
    assert finding.evidence[1].step == 150  # where the validation loss was best


def test_learning_by_heart_is_seen_without_losses_and_early_only_when_extreme():
    flat = epochs(train=[0.9, *[1.0] * 6], val=[0.6, *[0.62] * 6])
    finding = overfitting.judge(replace(BY_HEART, epochs=flat))
    assert finding is not None
    assert finding.severity == "warning"
    extreme = overfitting.judge(replace(BY_HEART, epochs=epochs(train=[1.0], val=[0.4])))
    assert extreme is not None
    assert overfitting.judge(replace(BY_HEART, epochs=epochs(train=[0.9], val=[0.7]))) is None


@pytest.mark.parametrize(
    ("told", "validation"),
    [
        (epochs(train=[0.9, 0.97, 0.99, 1, 1, 1], val=[0.9, 0.96, 0.97, 0.97, 0.97, 0.97]), 500),
        (  # an easy set whose loss rises from almost nothing
            epochs(
                train=[0.95, 1, 1, 1, 1],
                val=[0.96, 0.98, 0.98, 0.98, 0.98],
                val_loss=[0.2, 0.08, 0.1, 0.12, 0.13],
            ),
            500,
        ),
        (epochs(train=[0.4, 0.6, 0.7, 0.8], val=[0.38, 0.5, 0.58, 0.63], val_loss=[1.6, 1.3, 1.2, 1.1]), 500),
        (epochs(train=[0.9, 0.95, 1, 1, 1], val=[0.8, 0.85, 0.8, 0.8, 0.85]), 20),  # 20 images tell little
        (epochs(train=[None] * 6, val=[0.5, 0.6, 0.7, 0.7, 0.7, 0.7]), 500),
        (epochs(train=[0.5] * 6, val=[0.6] * 6), 500),
    ],
    ids=["small gap", "easy", "still learning", "few images", "unknown", "validation ahead"],
)
def test_healthy_gaps_raise_no_alarm(told, validation):
    finding = overfitting.judge(replace(BY_HEART, epochs=told, validation=validation))
    assert finding is None or finding.severity == "info"


def test_no_gap_is_called_overfitting_that_something_else_makes():
    assert overfitting.judge(replace(BY_HEART, labels=Labels(within=0.9, overall=0.1))) is None
    assert overfitting.judge(replace(BY_HEART, labels=Labels(single=0.8))) is None
    noise = DataProbe(1000, accuracy=0.11, nearest=0.1, chance=0.1, noise=0.02)
    assert overfitting.judge(replace(BY_HEART, data_probe=noise)) is None
    statistics = Probe(300, cross_entropy=0.02, evaluated=2.5)  # of training images
    assert overfitting.judge(replace(BY_HEART, probes=(statistics,))) is None
    assert overfitting.judge(replace(BY_HEART, probes=(replace(statistics, evaluated=0.03),))) is not None


def test_losses_alone_warn_only_of_what_must_cost_accuracy():
    falling = [2.0, 1.2, 0.8, 0.4, 0.2, 0.1]
    finding = overfitting.judge(
        Signals(epochs=epochs(train_loss=falling, val_loss=[2, 1.3, 1, 1.4, 1.9, 2.2]))
    )
    assert finding is not None
    assert finding.severity == "warning"
    low = overfitting.judge(
        Signals(epochs=epochs(train_loss=falling, val_loss=[0.5, 0.2, 0.1, 0.14, 0.19, 0.25]))
    )
    assert low is None or low.severity == "info"
    stuck = Signals(epochs=epochs(train_loss=[2.0] * 6, val_loss=[2, 1.3, 1, 1.4, 1.9, 2.2]))
    assert overfitting.judge(stuck) is None


# underfitting

SMALL = Signals(
    classes=10,
    validation=500,
    first=First(inputs=inputs(), step=0),
    setup=Setup(parameters=300, trainable=300, groups=(Group("SGD", 0.1, 5e-4, 300),)),
    steps=steps(1.8 + 0.02 * np.sin(np.arange(400)), accuracy=0.35),
    epochs=epochs(val=[0.34] * 8),
    data_probe=DataProbe(1000, accuracy=0.5, nearest=0.4, chance=0.1, noise=0.03),
)


def test_a_tiny_net_that_stands_still():
    finding = underfitting.judge(SMALL)
    assert finding is not None
    assert finding.severity == "warning"
    assert {"number of weights", "training accuracy"} <= {item.signal for item in finding.evidence}


def test_a_net_that_can_fit_nothing_is_named_within_50_steps():
    one = OneBatch(32, 10, 60, first_loss=2.3, last_loss=1.9, accuracy=0.3, lr=0.01)
    early = replace(
        SMALL,
        steps=steps(np.linspace(2.3, 2.0, 50), accuracy=0.2),
        epochs=(),
        data_probe=None,
        preflight=Preflight(one_batch=one),
    )
    finding = underfitting.judge(early)
    assert finding is not None
    assert finding.severity == "warning"
    assert underfitting.judge(replace(early, preflight=None)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"steps": steps(np.linspace(2.3, 1.0, 400), accuracy=0.35)},
        {"steps": steps(np.full(400, 0.3), accuracy=0.9)},
        {"steps": steps(np.full(30, 2.0), accuracy=0.35), "epochs": ()},
        {"steps": steps(np.full(400, 1.8), 0.35, lr=np.cos(np.linspace(0, 1.57, 400)))},
        {"steps": steps(np.full(400, 1.8), 0.35, ratio=1e-7)},
        {"steps": steps(np.full(400, 1.8), 0.35, ratio=0.2)},
        {"epochs": epochs(val=[0.1] * 8)},
        {"data_probe": DataProbe(1000, accuracy=0.1, nearest=0.1, chance=0.1, noise=0.02)},
        {"setup": replace(SMALL.setup, groups=(Group("SGD", 0.1, 0.05, 300),))},
        {"setup": replace(SMALL.setup, trainable=10)},
        {"setup": replace(SMALL.setup, dropouts=(("3", 0.9),))},
    ],
    ids=["falling", "fits", "young", "cosine", "low", "high", "gap", "labels", "decay", "frozen", "dropout"],
)
def test_other_reasons_to_stand_still_are_left_to_their_own_rules(change):
    assert underfitting.judge(replace(SMALL, **change)) is None


def test_mixed_labels_leave_nothing_to_stand_still():
    mixed = replace(SMALL, first=First(targets=Targets("soft", 0, 1)))
    assert underfitting.judge(mixed) is None


def test_standing_still_without_a_reason_is_worth_knowing_only():
    large = Setup(parameters=100_000, trainable=100_000)
    finding = underfitting.judge(replace(SMALL, setup=large, data_probe=None))
    assert finding is not None
    assert finding.severity == "info"


# augmentation

NOISY = Signals(
    classes=10,
    validation=500,
    setup=Setup(),
    first=First(targets=Targets("classes", 0, 9)),
    steps=steps(np.full(300, 2.0), accuracy=0.25),
    epochs=epochs(val=[0.3, 0.5, 0.6, 0.65, 0.7, 0.7]),
    evaluations=Evaluations(30, 0.0, 500, 500, 0.0, inputs(), inputs(stds=(3.0, 3.0, 3.0)), 50),
)


def test_augmentation_that_hides_the_images():
    finding = destructive_augmentation.judge(NOISY)
    assert finding is not None
    assert (finding.severity, finding.confidence) == ("warning", 0.8)
    assert "25.0%" in finding.summary


def test_images_that_nobody_can_tell_apart_need_no_validation_that_is_better():
    flat = replace(NOISY, epochs=epochs(val=[0.2] * 6))
    finding = destructive_augmentation.judge(flat)
    assert finding is not None
    assert finding.severity == "warning"
    other = train_val_preprocessing_differ.judge(flat)
    assert other is None or other.severity == "info"
    rescaled = replace(inputs(stds=(3.0, 3.0, 3.0)), low=-9, high=9)  # its ends moved with the spread
    fits = replace(
        flat,
        steps=steps(np.full(300, 0.5), accuracy=0.85),
        evaluations=replace(flat.evaluations, train=rescaled),
    )
    assert destructive_augmentation.judge(fits) is None
    other = train_val_preprocessing_differ.judge(fits)
    assert other is not None
    assert other.severity == "warning"
    scaled = replace(flat, evaluations=replace(flat.evaluations, train=inputs(stds=(255.0,) * 3)))
    assert destructive_augmentation.judge(scaled) is None


def test_twice_the_spread_about_the_same_mean_is_seen_after_one_epoch():
    first = replace(NOISY, epochs=NOISY.epochs[:1])
    finding = destructive_augmentation.judge(first)
    assert finding is not None
    assert finding.severity == "warning"


def test_training_images_that_tell_nothing_and_are_unlike_validation():
    shifted = replace(NOISY.evaluations, train=inputs((0.4, 0.4, 0.4), (1.05, 1.05, 1.05)))
    blank = replace(
        NOISY,
        steps=steps(np.full(200, 2.28), accuracy=0.12),
        epochs=epochs(val=[0.1, 0.12, 0.11, 0.1]),
        evaluations=shifted,
        labels=Labels((640,) * 10, 200, 0.1, 0.1),
        data_probe=DataProbe(1500, 0.12, 0.15, 0.11, 0.016),
    )
    finding = destructive_augmentation.judge(blank)
    assert finding is not None
    assert finding.severity == "warning"
    hard = replace(blank, data_probe=DataProbe(1500, 0.3, 0.25, 0.11, 0.016))
    assert destructive_augmentation.judge(hard) is None


def test_good_recipes_are_left_alone():
    strong = replace(
        NOISY,
        steps=steps(np.full(300, 1.0), accuracy=0.62),
        evaluations=replace(NOISY.evaluations, train=inputs((0.1, 0.1, 0.1), (1.1, 1.1, 1.1))),
    )
    assert destructive_augmentation.judge(strong) is None
    mixup = replace(NOISY, first=First(targets=Targets("soft", 0, 1)))
    assert destructive_augmentation.judge(mixup) is None
    dropout = replace(NOISY, setup=Setup(dropouts=(("3", 0.8),)))
    assert destructive_augmentation.judge(dropout) is None
    slight = replace(NOISY.evaluations, train=inputs(stds=(1.7, 1.7, 1.7)))
    young = replace(NOISY, epochs=NOISY.epochs[:1], evaluations=slight)
    assert destructive_augmentation.judge(young) is None


def test_wrong_labels_in_training_alone_look_the_same_but_for_the_inputs():
    alike = replace(NOISY, evaluations=replace(NOISY.evaluations, train=inputs()))
    finding = destructive_augmentation.judge(alike)
    assert finding is not None
    assert finding.severity == "info"


# leak


@pytest.mark.parametrize(
    ("compared", "repeats", "severity"),
    [
        (1000, 1.0, "warning"),
        (1000, 0.1, "warning"),
        (200, 0.05, "warning"),
        (1000, 0.012, "info"),
        (1000, 0.001, None),
        (1000, 0.0, None),
        (40, 1.0, None),
        (100, 0.03, None),  # three images
    ],
)
def test_copies_of_training_images_among_validation_are_counted(compared, repeats, severity):
    finding = train_test_leak.judge(
        Signals(evaluations=Evaluations(10, 0.0, compared, compared, repeats, since=7))
    )
    assert (finding and finding.severity) == severity
    if finding:
        assert f"{round(compared * repeats)} of {compared}" in finding.summary
        assert finding.step == 7


def test_training_images_evaluated_on_purpose_raise_no_alarm_though_some_look_alike():
    told = epochs(val=[0.9], length=20)
    seen = Evaluations(20, 0.0, 1800, 1800, 0.35)  # half of 1,280 training images were not flipped
    both = Signals(steps=steps(np.ones(20)), epochs=told, validation=1800, evaluations=seen)
    finding = train_test_leak.judge(both)
    assert finding is not None
    assert finding.severity == "info"
    alone = train_test_leak.judge(replace(both, validation=500))
    assert alone is not None
    assert alone.severity == "warning"


# preprocessing


def differ(val: Inputs, train: Inputs | None = None, told=None) -> Signals:
    seen = Evaluations(10, 0.0, 500, 500, 0.0, val, train or inputs(), 50)
    return Signals(
        classes=10,
        validation=500,
        evaluations=seen,
        epochs=epochs(*(told or ([0.6, 0.8, 0.9], [0.2, 0.3, 0.3]))),
    )


RAW = inputs((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))


@pytest.mark.parametrize(
    ("val", "train"),
    [
        (RAW, inputs()),
        (inputs((120, 120, 110), (60, 60, 60)), RAW),
        (inputs(), RAW),
        (inputs((0.6,) * 3), inputs()),
    ],
    ids=["not standardised", "not divided by 255", "only validation standardised", "shifted"],
)
def test_another_scale_in_validation(val, train):
    finding = train_val_preprocessing_differ.judge(differ(val, train))
    assert finding is not None
    assert (finding.severity, finding.confidence) == ("warning", 0.9)


def test_another_order_of_channels():
    rgb, bgr = ((0.6, 0.45, 0.2), (0.25, 0.2, 0.1)), ((0.2, 0.45, 0.6), (0.1, 0.2, 0.25))
    finding = train_val_preprocessing_differ.judge(differ(inputs(*bgr), inputs(*rgb)))
    assert finding is not None
    assert finding.severity == "warning"


@pytest.mark.parametrize(
    "train",
    [inputs(), inputs((0.3, 0.3, 0.3)), inputs(stds=(1.3, 1.3, 1.3)), inputs(stds=(0.7, 0.7, 0.7))],
    ids=["same", "brighter", "more contrast", "holes"],
)
def test_augmentation_is_tolerated(train):
    assert train_val_preprocessing_differ.judge(differ(inputs(), train)) is None


LINEAR = DataProbe(1500, 0.75, 0.7, 0.1, 0.02)
OTHER = Signals(  # fits its training images, and is worse on validation than a linear probe on others
    classes=10,
    validation=500,
    labels=Labels((150,) * 10, 50, 0.1, 0.1),
    data_probe=LINEAR,
    epochs=epochs(train=[0.7, 0.85, 0.95], val=[0.4, 0.35, 0.38], val_loss=[1.8, 2.5, 3.0]),
    evaluations=Evaluations(30, 0.0, 500, 500, 0.0, inputs(), inputs(), 50),
    probes=(Probe(100, cross_entropy=0.2, evaluated=0.22),),
)


def test_validation_below_a_linear_probe_on_unseen_training_images_is_no_overfitting():
    finding = train_val_preprocessing_differ.judge(OTHER)
    assert finding is not None
    assert finding.severity == "warning"
    assert "overfitting" in train_val_preprocessing_differ.EXPLAINS


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": epochs(train=[0.9, 0.99, 1.0], val=[0.7, 0.68, 0.69])},  # a gap, as overfitting has
        {"epochs": epochs(train=[0.3, 0.4, 0.5], val=[0.3, 0.35, 0.38])},  # has not learnt that much yet
        {"probes": (Probe(100, cross_entropy=0.2, evaluated=2.0),)},  # evaluation mode itself fails
        {"labels": Labels((1050, *[50] * 9), 50, 0.5, 0.5)},  # another mix of classes, without recalls
        {"data_probe": None},
    ],
    ids=["overfits", "young", "mode", "imbalanced", "unprobed"],
)
def test_validation_that_is_low_for_other_reasons(change):
    assert train_val_preprocessing_differ.judge(replace(OTHER, **change)) is None


def test_recalls_are_weighed_by_the_training_sets_classes():
    """A balanced validation of a net trained on a majority is lower without being of another kind."""
    recalls = (0.95, *[0.4] * 9)
    told = tuple(replace(epoch, recalls=recalls) for epoch in OTHER.epochs)
    majority = Labels((1050, *[50] * 9), 50, 0.5, 0.5)
    assert train_val_preprocessing_differ.judge(replace(OTHER, epochs=told, labels=majority)) is None
    assert train_val_preprocessing_differ.judge(replace(OTHER, epochs=told)) is not None


def test_what_does_no_harm_is_worth_knowing_only():
    finding = train_val_preprocessing_differ.judge(differ(RAW, told=([0.6, 0.8, 0.9], [0.7, 0.85, 0.92])))
    assert finding is not None
    assert finding.severity == "info"


def test_few_validation_images_and_none_say_nothing():
    few = differ(RAW)
    few = replace(few, evaluations=replace(few.evaluations, images=16))
    assert train_val_preprocessing_differ.judge(few) is None
    assert train_val_preprocessing_differ.judge(Signals()) is None


@pytest.mark.parametrize(
    "rule",
    [destructive_augmentation, overfitting, train_test_leak, train_val_preprocessing_differ, underfitting],
    ids=lambda rule: rule.__name__.rpartition(".")[2],
)
def test_nothing_seen_is_nothing_said(rule):
    assert rule.judge(Signals()) is None
    blank = steps(np.full(300, math.nan))
    assert rule.judge(Signals(classes=10, steps=blank, epochs=epochs(val=[None] * 5))) is None
