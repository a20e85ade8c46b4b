"""The images of a batch are all alike, or each is of one colour: nothing in them tells the classes apart.

Looks at  share of images of one colour, share that are not copies of another, spread of the inputs by step
Why       no real image has one value in all its pixels, and none is there several times in a shuffled
          batch; a dirty data set has a few, hence at least half of a batch
Confused  inputs_not_normalised (a small spread is not none); repeated augmentation (two to four copies of
          an image, differently augmented, so that they are not equal)
Source    TheDeepChecker, 2022, arXiv:2204.00694 (checks on the data that the net receives)
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.causes._readings import percent
from convclinic.clinic.signals import Inputs, Signals
from convclinic.kinds import Evidence, Finding, Severity

EXPLAINS = (
    "plateau",
    "predicts_one_class",
    "underfitting",
    "labels_shuffled",
    "label_noise",
    "inputs_not_normalised",
    "lr_too_low",
    "lr_too_high",
    "vanishing_gradient",
    "train_val_preprocessing_differ",
    "destructive_augmentation",
    "dead_relu",
)
FLAT = 0.5  # share of images of one colour
COPIES = 0.1  # share of images without a copy below which the batch is one image repeated
LEAST = 8  # images: in a smaller batch two equal ones are already a large share
SAME = 1e-6  # of the largest value: rounding of equal pixels


def judge(signals: Signals) -> Finding | None:
    inputs = signals.first.inputs
    if inputs is None or not inputs.finite:
        return None
    if inputs.std <= SAME * max(abs(inputs.mean), 1e-12) and _always_flat(signals, inputs):
        value = f"all pixels of the batch are {inputs.mean:.3g}"
        return _finding(signals, "critical", 0.97, "spread of the inputs", inputs.std, "above 0", value)
    if inputs.flat >= FLAT:
        value = f"{percent(inputs.flat)} of the images have one value in all their pixels"
        sure = inputs.flat > 0.9
        return _finding(
            signals,
            "warning",
            0.95 if sure else 0.8,
            "share of images of one colour",
            inputs.flat,
            "near 0",
            value,
        )
    images = inputs.shape[0]
    if images >= LEAST and inputs.distinct * images <= max(1.0, COPIES * images):
        value = f"{percent(1 - inputs.distinct)} of the images in the batch are copies of another in it"
        return _finding(
            signals, "warning", 0.9, "share of images without a copy", inputs.distinct, "near 1", value
        )
    return None


def _always_flat(signals: Signals, inputs: Inputs) -> bool:
    stds = signals.steps.input_std
    stds = stds[np.isfinite(stds)]
    return not len(stds) or float(np.median(stds)) <= SAME * max(abs(inputs.mean), 1e-12)


def _finding(
    signals: Signals,
    severity: Severity,
    confidence: float,
    signal: str,
    value: float,
    expected: str,
    summary: str,
) -> Finding:
    return Finding(
        cause="inputs_constant",
        severity=severity,
        confidence=confidence,
        where="inputs",
        evidence=(Evidence(signal, value, expected, signals.first.step),),
        remedies=(
            "look at a batch as the net receives it, then go back through the loading code step by step",
        ),
        step=signals.first.step,
        reference="TheDeepChecker, 2022, arXiv:2204.00694",
        summary=f"{summary}: they cannot tell the classes apart",
    )
