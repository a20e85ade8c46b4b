"""Causes in the wiring and the first batch: what each must find, and look-alikes that it must not."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from convclinic.clinic.signals import (
    ByLayer,
    Depth,
    Epoch,
    Evaluations,
    First,
    Group,
    Inputs,
    Labels,
    Layer,
    Losses,
    Outputs,
    Preflight,
    Probe,
    Setup,
    Signals,
    Steps,
    Targets,
)
from convclinic.kinds import Finding

NAN = math.nan
LN10 = math.log(10)
SGD = Group("SGD", 0.1, 0.0, 50000, momentum=0.9)
ADAM = Group("Adam", 1e-3, 0.0, 50000, adaptive=True)
LAYERS = (
    Layer("conv1", "conv", 16, 160, gain=1.4),
    Layer("conv2", "conv", 32, 4640, gain=1.4),
    Layer("fc", "linear", 64, 40000, gain=1.4),
    Layer("head", "linear", 10, 650, gain=0.6, head=True),
)
SETUP = Setup(LAYERS, (SGD,), parameters=45450, trainable=45450)
INPUTS = Inputs((64, 1, 28, 28), 0.0, 1.0, -0.5, 2.6, channel_means=(0.0,), channel_stds=(1.0,))
OUTPUTS = Outputs(10, 0.0, 0.1, -0.3, 0.3, 0.1, 0.05)
LOSSES = Losses(2.31, 2.31, 0.01, 0.11, 0.09, 0.7, 2.25)
FIRST = First(INPUTS, Targets("classes", 0, 9), OUTPUTS, LOSSES, step=1)
SHUFFLED = Labels(tuple([320] * 10), 50, 0.1, 0.1)
NAMES = tuple(layer.name for layer in LAYERS)


def steps(n: int = 30, **columns: Any) -> Steps:
    """A healthy start of n steps, with some columns changed; a number stands for a constant column."""
    loss = 2.31 * np.exp(-np.arange(n) / 30)
    usual: dict[str, Any] = {
        "step": np.arange(1.0, n + 1),
        "loss": loss,
        "cross_entropy": loss,
        "size": 64.0,
        "stale": 0.0,
        "training": 1.0,
        "lr": 0.1,
        "grad_norm": 1.0,
        "weight_norm": 10.0,
        "ratio": 0.004,
        "accuracy": 0.5,
        "spread": 1.0,
        "between": 0.5,
        "top": 0.2,
        "prior": 2.25,
        "input_mean": 0.0,
        "input_std": 1.0,
    }
    full = {**usual, **columns}
    names = [field.name for field in dataclasses.fields(Steps)]
    return Steps(
        **{name: np.broadcast_to(np.asarray(full.get(name, NAN), float), n).copy() for name in names}
    )


def by_layer(
    n: int = 16, gradient: dict[str, float] | None = None, ratio: dict[str, float] | None = None
) -> ByLayer:
    columns = [[(changed or {}).get(name, 0.01) for name in NAMES] for changed in (gradient, ratio)]
    return ByLayer(NAMES, np.arange(1.0, n + 1), *(np.tile(row, (n, 1)) for row in columns))


HEALTHY = Signals(
    10, SETUP, FIRST, steps=steps(), by_layer=by_layer(), labels=SHUFFLED, observed=30, updates=30
)


def seen(**changes: Any) -> Signals:
    """The healthy run with some signals changed; `inputs__std` is the std of its inputs."""
    parts = {
        "inputs": FIRST.inputs,
        "outputs": OUTPUTS,
        "targets": FIRST.targets,
        "losses": LOSSES,
        "setup": SETUP,
    }
    for key in [key for key in changes if "__" in key]:
        part, name = key.split("__")
        parts[part] = dataclasses.replace(parts[part], **{name: changes.pop(key)})  # type: ignore[type-var]
    setup = parts.pop("setup")
    first = dataclasses.replace(FIRST, step=changes.pop("first_step", 1), **parts)
    return dataclasses.replace(HEALTHY, first=first, setup=setup, **changes)


def layers(**changes: dict[str, Any]) -> tuple[Layer, ...]:
    return tuple(dataclasses.replace(layer, **changes.get(layer.name, {})) for layer in LAYERS)


def each(**change: Any) -> tuple[Layer, ...]:
    return tuple(dataclasses.replace(layer, **change) for layer in LAYERS)


def asked(cause: str, signals: Signals) -> Finding | None:
    return importlib.import_module(f"convclinic.clinic.causes.{cause}").judge(signals)


class Case(NamedTuple):
    """What a cause says: alarms, things worth a word at most (info or nothing), and silence."""

    cause: str
    alarms: Sequence[Signals]
    no_alarms: Sequence[Signals] = ()
    silent: Sequence[Signals] = ()


def pixels(mean: float, std: float, **changes: Any) -> Signals:
    return seen(
        inputs__mean=mean,
        inputs__std=std,
        inputs__channel_means=(mean,),
        inputs__channel_stds=(std,),
        **changes,
    )


def formula(**losses: float) -> dict[str, float]:
    return {f"losses__{name}": value for name, value in losses.items()}


SOFTMAX = dict(
    outputs__low=0.05, outputs__high=0.2, outputs__mean=0.1, outputs__sums_to_one=True, outputs__std=0.01
)
SIGMOID = dict(outputs__low=0.4, outputs__high=0.6, outputs__mean=0.5, outputs__bounded=True)
UP = 2.31 * np.exp(np.arange(30) / 20)
FLAT = 0.0 * np.arange(30) + 2.31
WEIRD = seen(**formula(reported=3.7), steps=steps(loss=3.7 * np.exp(-np.arange(30) / 30), cross_entropy=FLAT))
NORMED = dict(setup__batch_norms=3, setup__first_norm=True)
DROPPED = dict(setup__dropouts=(("drop", 0.5),))
ONES = tuple([0] * 3 + [1280] + [0] * 6)
SKEWED = (3000, 20, 25, 30, 20, 25, 30, 20, 25, 30)


def confused(rare: float, frequent: float = 0.95) -> np.ndarray:
    """Of SKEWED labels with these recalls; what is missed goes to class 0, or from it to class 1."""
    matrix = np.zeros((10, 10), np.int64)
    for k, n in enumerate(SKEWED):
        right = round(n * (rare if k else frequent))
        matrix[k, k], matrix[k, 0 if k else 1] = right, n - right
    return matrix


def skewed(**labels: Any) -> Labels:
    return Labels(SKEWED, 50, 0.85, 0.85, **labels)


def evaluated(step: int, loss: float, training: float = 0.3) -> Probe:
    return Probe(step, cross_entropy=training, evaluated=loss)


TWELVEFOLD = Labels((1200, *[80] * 9), 40, 0.4, 0.4)


def recalls(frequent: float, *rare: float) -> tuple[Epoch, ...]:
    return tuple(Epoch(k, 30 * k, recalls=(frequent, *([low] * 9))) for k, low in enumerate(rare, 1))


CASES = [
    Case(
        "inputs_not_normalised",
        alarms=[
            pixels(33, 79),
            pixels(33, 79, setup__groups=(ADAM,), losses__cross_entropy=9.0, steps=steps(cross_entropy=2.2)),
            pixels(0.0, 1e-3),
            pixels(1e-3, 1e-3, setup__groups=(ADAM,), steps=steps(cross_entropy=2.3)),
            seen(inputs__channel_means=(0.0, 0.0, 120.0), inputs__channel_stds=(1.0, 1.0, 60.0)),
        ],
        no_alarms=[
            pixels(120, 60, **NORMED),
            pixels(0.0, 1e-3, **NORMED),
            pixels(33, 79, setup__groups=(ADAM,), losses__cross_entropy=9.0, steps=steps(cross_entropy=0.6)),
            pixels(33, 79, setup__groups=(ADAM,)),
        ],
        silent=[
            pixels(0.13, 0.31),
            pixels(0.5, 0.2),
            pixels(-0.2, 0.98),
            pixels(0.87, 0.31),
            pixels(0.04, 0.09),
            pixels(0.0, 1.0),
            pixels(0.0, 0.0),
            pixels(NAN, NAN),
            # the model divides by 255 itself: its first layer gives what inputs near 0.3 would give
            pixels(33, 79, probes=(Probe(1, depth=(Depth("conv1", "conv", 0.45),)),)),
        ],
    ),
    Case(
        "inputs_constant",
        alarms=[
            pixels(0.0, 0.0, inputs__flat=1.0, steps=steps(input_std=0.0)),
            seen(inputs__flat=0.8),
            seen(inputs__distinct=1 / 64),
            seen(inputs__distinct=0.0),
        ],
        silent=[
            seen(inputs__flat=0.05),
            seen(inputs__distinct=0.5),
            seen(inputs__distinct=0.25, inputs__shape=(4, 1, 28, 28)),
            pixels(0.0, 1e-3),
        ],
    ),
    Case(
        "labels_out_of_range",
        alarms=[
            seen(targets__low=1, targets__high=10),
            seen(targets__low=-1),
            seen(targets__high=10, outputs__width=11),
            seen(targets__kind="other", targets__high=255.0, losses__name="CrossEntropyLoss"),
            seen(targets__ignored=60),
            seen(targets__ignored=20),
            # the first batch had no image of the last class
            seen(targets__low=1, outputs__width=11, labels=Labels((0, *[32] * 10), 10, 0.1, 0.1)),
        ],
        silent=[
            seen(targets__high=4),
            seen(targets__low=-100, targets__ignored=3),
            seen(targets__high=1, outputs__width=1, classes=None),
            seen(targets__kind="other", targets__high=255.0, losses__name="MSELoss"),
            seen(targets__kind="multi", targets__high=1.0, losses__name="BCEWithLogitsLoss"),
            seen(targets__kind="soft", targets__high=0.9),
            seen(outputs__width=1000),
            seen(targets__ignored=5000),  # pixels of few images
            seen(labels=Labels((*[32] * 10, *[0] * 245, 9), 10, 0.1, 0.1)),  # 255 stands for no label
        ],
    ),
    Case(
        "wrong_loss_pairing",
        alarms=[
            seen(**SOFTMAX),
            seen(**SOFTMAX, first_step=0, steps=Steps()),
            seen(**SOFTMAX, setup__groups=(ADAM,)),
            seen(**SOFTMAX, losses__name="CrossEntropyLoss", losses__smoothing=0.1, **formula(reported=2.33)),
            seen(**SIGMOID, steps=steps(spread=0.1)),
            seen(**SIGMOID, outputs__last="sigmoid"),
            seen(outputs__low=0.0, outputs__clipped=0.5),
            seen(outputs__low=0.0, outputs__clipped=0.5, outputs__last="relu"),
            seen(outputs__low=-0.2, outputs__last="tanh"),
            seen(**formula(reported=0.01), steps=steps(loss=-1.0)),
            seen(**SOFTMAX, **formula(reported=-0.1, negative_log=-0.1), steps=steps(loss=-0.1)),
            seen(**formula(reported=0.11), steps=steps(loss=0.1)),
            seen(**formula(reported=0.09), steps=steps(loss=0.1)),
            seen(**SIGMOID, **formula(reported=0.7), steps=steps(loss=0.5, spread=0.1)),
        ],
        no_alarms=[seen(**SOFTMAX, setup__groups=(ADAM,), steps=steps(accuracy=0.99))],
        silent=[
            # log-probabilities before cross-entropy, and before the NLL
            seen(outputs__log_probabilities=True, outputs__low=-3.0, outputs__high=-2.0),
            seen(outputs__log_probabilities=True, **formula(negative_log=2.31)),
            # the logarithm of a softmax goes into the NLL: near cross-entropy at first, but not equal to it
            seen(**SOFTMAX, losses__name="NLLLoss", steps=steps(cross_entropy=2.3)),
            seen(**SOFTMAX, steps=steps(cross_entropy=2.31 * np.exp(-np.arange(30) / 90))),
            # binary cross-entropy of raw logits on one-hot targets
            seen(
                targets__kind="one-hot",
                losses__name="BCEWithLogitsLoss",
                **formula(reported=0.7),
                steps=steps(loss=0.5),
            ),
            # a head that starts at zero
            seen(
                outputs__low=0.0,
                outputs__high=0.0,
                outputs__bounded=True,
                outputs__clipped=1.0,
                outputs__std=0.0,
            ),
            # raw logits that happen to lie in [0, 1] first
            seen(**SIGMOID, outputs__last="addmm"),
            seen(**SIGMOID),
            # squared error on soft targets: distillation
            seen(
                targets__kind="soft", losses__name="MSELoss", **formula(reported=0.11), steps=steps(loss=0.1)
            ),
            # label smoothing and class weights
            seen(
                losses__name="CrossEntropyLoss",
                losses__smoothing=0.1,
                **formula(reported=2.4),
                steps=steps(loss=2.0),
            ),
            WEIRD,
        ],
    ),
    Case(
        "loss_reduction",
        alarms=[
            seen(steps=steps(loss=64 * LN10, cross_entropy=LN10, ratio=0.2)),
            seen(steps=steps(loss=64 * UP, cross_entropy=UP)),
            seen(
                first_step=0, preflight=Preflight(doubled=2.0), steps=Steps(), **formula(reported=64 * 2.31)
            ),
            seen(steps=steps(loss=FLAT / 64, cross_entropy=FLAT)),
        ],
        no_alarms=[
            seen(steps=steps(loss=64 * LN10, cross_entropy=LN10, ratio=0.2), setup__groups=(ADAM,)),
            seen(steps=steps(loss=64 * FLAT * 0.9, cross_entropy=FLAT * 0.9, ratio=0.002)),
        ],
        silent=[
            seen(preflight=Preflight(doubled=1.0)),
            seen(preflight=Preflight(doubled=1.04)),
            # accumulation over four batches, and over as many as a batch has images
            seen(steps=steps(loss=FLAT / 4, cross_entropy=FLAT), updates=7),
            seen(steps=steps(loss=FLAT / 16, cross_entropy=FLAT, size=16.0), updates=1),
            # scaled for half precision
            seen(steps=steps(loss=65536 * FLAT, cross_entropy=FLAT)),
            seen(steps=steps(size=1.0)),
            WEIRD,
        ],
    ),
    Case(
        "flipped_loss_sign",
        alarms=[
            seen(steps=steps(loss=-UP, cross_entropy=UP)),
            seen(first_step=0, steps=Steps(), **formula(reported=-2.31)),
            seen(
                setup__groups=(dataclasses.replace(SGD, maximize=True),),
                steps=steps(loss=UP, cross_entropy=UP),
            ),
            seen(steps=steps(loss=UP, cross_entropy=UP)),
        ],
        silent=[
            # a negative loss that is maximised is right, and so is one that is only logged as negative
            seen(
                setup__groups=(dataclasses.replace(SGD, maximize=True),),
                steps=steps(loss=-2.31 * np.exp(-np.arange(30) / 30)),
            ),
            seen(steps=steps(loss=-2.31 * np.exp(-np.arange(30) / 30))),
            # too large a learning rate: updates are large
            seen(steps=steps(loss=UP, cross_entropy=UP, ratio=0.1)),
            # labels that cannot be learnt: flat
            seen(steps=steps(loss=FLAT, cross_entropy=FLAT)),
            WEIRD,
        ],
    ),
    Case(
        "symmetric_init",
        alarms=[
            seen(setup__layers=each(alike=1.0, gain=0.3)),
            seen(
                setup__layers=layers(conv2={"alike": 1.0}, fc={"alike": 1.0}),
                preflight=Preflight(depth=(Depth("conv2", "conv", 1.0, 0.1, alike=1.0),)),
            ),
            seen(
                setup__layers=each(alike=1.0, gain=0.0),
                by_layer=by_layer(gradient=dict.fromkeys(("conv1", "conv2", "fc"), 0.0)),
            ),
        ],
        silent=[
            seen(setup__layers=layers(head={"alike": 1.0, "gain": 0.0})),
            # a residual branch that ends in zeros: different gradients at once, or after the head moved
            seen(
                setup__layers=layers(conv2={"alike": 1.0, "gain": 0.0}),
                preflight=Preflight(depth=(Depth("conv2", "conv", 0.0, 0.1, alike=0.0),)),
            ),
            seen(
                setup__layers=layers(fc={"alike": 1.0, "gain": 0.0}, head={"alike": 1.0, "gain": 0.0}),
                preflight=Preflight(depth=(Depth("fc", "linear", 0.0, 0.0, alike=1.0),)),
            ),
            seen(setup__layers=layers(fc={"alike": 1.0, "gain": 0.0}, head={"alike": 1.0, "gain": 0.0})),
            # equal filters before different ones become different with the first update
            seen(setup__layers=layers(conv1={"alike": 1.0})),
            seen(setup__layers=layers(conv1={"alike": 1.0, "trainable": False}, conv2={"alike": 1.0})),
        ],
    ),
    Case(
        "init_scale",
        alarms=[
            seen(setup__layers=each(gain=8.0), losses__cross_entropy=70.0),
            seen(setup__layers=layers(head={"gain": 9.0}), losses__cross_entropy=30.0),
            seen(setup__layers=each(gain=0.01), outputs__between=1e-6, steps=steps(cross_entropy=LN10)),
            seen(setup__layers=each(gain=0.01), outputs__between=1e-6, steps=steps(4)),
            seen(setup__layers=each(gain=8.0), setup__batch_norms=3, steps=steps(ratio=1e-5)),
            seen(
                setup__layers=each(gain=0.01),
                setup__batch_norms=3,
                steps=steps(ratio=0.8, cross_entropy=LN10),
            ),
        ],
        no_alarms=[
            seen(setup__layers=each(gain=0.01), outputs__between=1e-6, steps=steps(cross_entropy=1.0)),
            seen(
                setup__layers=each(gain=8.0),
                setup__groups=(ADAM,),
                losses__cross_entropy=70.0,
                steps=steps(accuracy=0.99, cross_entropy=0.1),
            ),
        ],
        silent=[
            seen(losses__cross_entropy=2.4 * LN10),
            # inputs of the wrong scale: a high start with usual weights
            seen(losses__cross_entropy=70.0),
            # fan-out initialisation, and scales that norms hide
            seen(setup__layers=each(gain=3.4)),
            seen(setup__layers=each(gain=8.0), setup__batch_norms=3),
            seen(setup__layers=each(gain=0.05), setup__batch_norms=3, outputs__between=1e-6),
            seen(setup__layers=layers(head={"gain": 0.0}), outputs__between=0.0),
            # weights that training has blown up
            seen(
                setup__layers=each(gain=80.0),
                losses__cross_entropy=70.0,
                steps=steps(weight_norm=np.linspace(10, 600, 30)),
            ),
        ],
    ),
    Case(
        "missing_zero_grad",
        alarms=[
            seen(steps=steps(stale=[NAN] + [1.0] * 29)),
            seen(steps=steps(5, stale=[0.0, 1.0, 1.0, 1.0, 1.0])),
            # only a hidden layer is missing in the optimizer: the head's gradient should be clear
            seen(steps=steps(stale=1.0), setup__missing=("conv1.weight",)),
        ],
        silent=[
            seen(steps=steps(3, stale=[0.0, 1.0, 1.0])),
            seen(steps=steps(stale=[0.0, 1.0] * 15)),
            seen(steps=steps(stale=[1.0] * 4 + [0.0] * 26)),
            seen(steps=steps(stale=NAN)),
            seen(steps=steps(stale=1.0), setup__missing=("head.weight", "head.bias")),
        ],
    ),
    Case(
        "wrong_mode",
        alarms=[
            seen(steps=steps(training=0.0), setup__batch_norms=2),
            seen(steps=steps(training=0.0), **DROPPED),
            seen(steps=steps(60, training=[1.0] * 30 + [0.0] * 30), setup__batch_norms=2),
            seen(evaluations=Evaluations(4, 1.0, 1000, since=30), setup__batch_norms=2),
            seen(probes=(evaluated(100, 2.5), evaluated(200, 2.4)), setup__batch_norms=2),
        ],
        no_alarms=[
            seen(steps=steps(training=0.0)),
            seen(setup__modes=("bn1", "bn2"), setup__batch_norms=2),
        ],
        silent=[
            seen(setup__batch_norms=2, evaluations=Evaluations(4, 0.0, 1000)),
            # passes over training images only, and one dry run
            seen(setup__batch_norms=2, evaluations=Evaluations(20, 1.0, 0)),
            seen(setup__batch_norms=2, evaluations=Evaluations(1, 1.0, 64)),
            seen(steps=steps(training=[1.0] * 25 + [0.0] * 5), setup__batch_norms=2),
            seen(steps=steps(training=NAN), setup__batch_norms=2),
            seen(evaluations=Evaluations(4, 1.0, 1000)),
            # young statistics, and a net that fails in either mode
            seen(probes=(evaluated(25, 2.5), evaluated(50, 2.4)), setup__batch_norms=2),
            seen(probes=(evaluated(100, 2.5), evaluated(200, 0.4)), setup__batch_norms=2),
            seen(probes=(evaluated(100, 2.5, 2.3), evaluated(200, 2.4, 2.3)), setup__batch_norms=2),
        ],
    ),
    Case(
        "parameters_not_in_optimizer",
        alarms=[
            seen(setup__missing=("fc.weight", "fc.bias"), setup__layers=layers(fc={"optimised": False})),
            seen(setup__missing=("head.weight", "head.bias")),
        ],
        no_alarms=[
            seen(setup__missing=("head.bias",), setup__trainable=10**6),
            seen(
                setup__missing=("fc.weight",),
                setup__layers=layers(fc={"optimised": False, "untouched": False}),
            ),
            seen(
                setup__missing=("scale",),
                setup__layers=(*LAYERS, Layer("model", "other", 1, 1)),
            ),
        ],
        silent=[
            seen(
                setup__missing=("fc.weight", "fc.bias"),
                by_layer=by_layer(gradient={"fc": NAN}, ratio={"fc": NAN}),
            ),
        ],
    ),
    Case(
        "frozen_parameters",
        alarms=[
            seen(setup__layers=layers(conv2={"trainable": False}), setup__trainable=40810),
            seen(
                by_layer=by_layer(gradient={"fc": NAN}, ratio={"fc": 0.0}),
                probes=(Probe(1, depth=(Depth("fc", "linear", 1.0),)),),
            ),
            seen(by_layer=by_layer(ratio={"fc": 0.0}), setup__groups=(SGD, dataclasses.replace(SGD, lr=0.0))),
        ],
        no_alarms=[seen(setup__layers=layers(conv1={"trainable": False}))],
        silent=[
            # a pretrained backbone
            seen(setup__layers=layers(**{n: {"trainable": False, "untouched": False} for n in NAMES[:3]})),
            # modules that never run
            seen(by_layer=by_layer(gradient={"fc": NAN}, ratio={"fc": 0.0})),
            # a cosine that has ended, and updates too short to tell
            seen(setup__groups=(dataclasses.replace(SGD, lr=0.0),)),
            seen(by_layer=by_layer(4, ratio={"fc": 0.0}), setup__groups=(dataclasses.replace(SGD, lr=0.0),)),
        ],
    ),
    Case(
        "optimizer_stale",
        alarms=[
            seen(setup__missing=NAMES, setup__foreign=4, setup__layers=each(optimised=False)),
            seen(
                setup__missing=("head.weight", "head.bias"),
                setup__foreign=2,
                setup__layers=layers(head={"optimised": False}),
            ),
            seen(updates=0, moved=False),
            seen(moved=False, steps=steps(ratio=0.0)),
        ],
        no_alarms=[seen(updates=0)],
        silent=[
            # parameters of the loss, a head alone in the optimizer, accumulation, a learning rate of zero
            seen(setup__foreign=1),
            seen(
                setup__missing=NAMES[:3], setup__layers=layers(**{n: {"optimised": False} for n in NAMES[:3]})
            ),
            seen(updates=0, observed=16, moved=False),
            seen(moved=False, steps=steps(ratio=0.0, lr=0.0)),
            seen(moved=False, steps=steps(ratio=0.004)),
        ],
    ),
    Case(
        "not_shuffled",
        alarms=[
            seen(labels=Labels(ONES, 20, 1.0, 1.0, single=1.0)),
            seen(labels=Labels(tuple([320] * 10), 50, 1.0, 0.08, single=1.0)),
            seen(labels=Labels((1280, 320) + (0,) * 8, 25, 0.98, 0.6, single=0.96)),
            seen(labels=Labels((800, 800), 25, 0.97, 0.49, single=0.9), classes=2),
        ],
        no_alarms=[seen(labels=Labels(tuple([320] * 10), 50, 0.3, 0.08))],
        silent=[
            seen(labels=Labels(tuple([320] * 10), 50, 0.0857, 0.1003)),
            seen(labels=Labels(tuple([16] * 10), 20, 0.2, 0.09)),
            seen(labels=Labels(ONES, 4, 1.0, 1.0, single=1.0)),
            # a class of 1 % that has not come yet
            seen(labels=Labels((128, 0), 8, 1.0, NAN, single=1.0), classes=2),
            seen(labels=Labels((1280,), 20, 1.0, 1.0, single=1.0), classes=1),
            seen(labels=skewed()),
        ],
    ),
    Case(
        "class_imbalance",
        alarms=[
            seen(labels=skewed(), steps=steps(top=1.0)),
            seen(labels=TWELVEFOLD, epochs=recalls(0.95, 0.1, 0.1)),
            seen(labels=Labels((980, *[8] * 9), 20, 0.9, 0.9), epochs=recalls(0.95, 0.1)),
            seen(labels=skewed(confusion=confused(0.2)), steps=steps(100)),
        ],
        no_alarms=[
            seen(labels=skewed()),
            seen(labels=skewed(), steps=steps(top=1.0), losses__weighted=True),
            seen(labels=skewed(), steps=steps(4, top=1.0)),
        ],
        silent=[
            seen(labels=skewed(), epochs=recalls(0.95, 0.9, 0.9), steps=steps(top=1.0)),
            seen(labels=skewed(confusion=confused(0.85)), steps=steps(100)),
            # nothing is learnt yet
            seen(labels=skewed(), epochs=recalls(0.3, 0.0, 0.0)),
            # the rare classes only come later: seen once, and rising
            seen(labels=TWELVEFOLD, epochs=recalls(0.95, 0.1)),
            seen(labels=TWELVEFOLD, epochs=recalls(0.95, 0.1, 0.4)),
            # mild, few images of many classes, one class after the other
            seen(labels=Labels((500, 400, 100, 90), 20, 0.3, 0.3), steps=steps(top=1.0)),
            seen(labels=Labels(tuple([0, 9, 3, 1] * 25), 5, 0.01, 0.01), steps=steps(top=1.0)),
            seen(labels=skewed(single=1.0), steps=steps(top=1.0)),
        ],
    ),
]
IDS = [case.cause for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_each_cause_alarms_where_it_must(case: Case) -> None:
    for number, signals in enumerate(case.alarms):
        finding = asked(case.cause, signals)
        assert finding is not None and finding.severity != "info", number
        assert finding.cause == case.cause
        assert finding.confidence >= 0.5 and finding.evidence and finding.remedies and finding.summary


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_no_cause_alarms_where_it_must_not(case: Case) -> None:
    for number, signals in enumerate(case.no_alarms):
        finding = asked(case.cause, signals)
        assert finding is not None and finding.severity == "info", (number, finding)
    for number, signals in enumerate([*case.silent, HEALTHY, Signals()]):
        assert asked(case.cause, signals) is None, (number, asked(case.cause, signals))


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_signals_that_were_not_measured_are_no_evidence(case: Case) -> None:
    """Columns of NaN, and a first batch without anything known, as from a loop that gives its loss alone."""
    unknown = {field.name: NAN for field in dataclasses.fields(Steps) if field.name not in ("step", "loss")}
    bare = Signals(None, SETUP, First(step=1), steps=steps(40, **unknown), observed=40, updates=40)
    assert asked(case.cause, bare) is None
    assert asked(case.cause, Signals(10, steps=steps(), observed=30)) is None


def test_negative_losses_are_told_apart() -> None:
    """Minus a raw logit is a wrong pairing, minus the cross-entropy a wrong sign."""
    logit = seen(**formula(reported=0.01), steps=steps(loss=-np.arange(30.0), cross_entropy=UP))
    sign = seen(steps=steps(loss=-UP, cross_entropy=UP), **formula(reported=-2.31))
    assert asked("flipped_loss_sign", logit) is None
    assert asked("wrong_loss_pairing", logit) is not None
    assert asked("wrong_loss_pairing", sign) is None


def test_sorted_data_are_no_imbalance() -> None:
    ordered = seen(labels=Labels((1280, 60) + (0,) * 8, 21, 0.99, 0.9, single=0.95), steps=steps(top=1.0))
    assert asked("not_shuffled", ordered) is not None
    assert asked("class_imbalance", ordered) is None


def test_a_flipped_sign_is_critical_only_once_it_has_done_harm() -> None:
    before = asked("flipped_loss_sign", seen(first_step=0, steps=Steps(), **formula(reported=-2.31)))
    after = asked("flipped_loss_sign", seen(steps=steps(loss=-UP, cross_entropy=UP)))
    assert before is not None and after is not None
    assert (before.severity, after.severity) == ("warning", "critical")
