"""Readings of the signals that several causes share."""

from __future__ import annotations

import math

import numpy as np

from convclinic.clinic.signals import Floats, Layer, Signals

EXACT = (
    5e-4  # relative: two formulas for one loss in float32, also where the logits were made in half precision
)
LATEST = 16  # measured steps that make up "lately"
LEAST = 8  # measured steps below which nothing is said about "lately"
LEARNT = 0.95  # accuracy of the training batches from which a slow start has cost nothing that matters
ONE_ANSWER = 0.8  # share of the commonest prediction from which a high accuracy is only the majority's


def lately(column: Floats) -> float:
    """Median of the latest measured values; NaN where too few were measured."""
    values = column[np.isfinite(column)]
    return float(np.median(values[-LATEST:])) if len(values) >= LEAST else math.nan


def learnt(signals: Signals) -> bool:
    """Whether the net gets nearly all training images right by now, and not by one answer to all."""
    steps = signals.steps
    return lately(steps.accuracy) >= LEARNT and not lately(steps.top) >= ONE_ANSWER


def adaptive(signals: Signals) -> bool:
    """Whether every optimizer divides the gradient by its own size, so that its scale cancels."""
    groups = signals.setup.groups if signals.setup is not None else ()
    return bool(groups) and all(group.adaptive for group in groups)


def weighted_layers(signals: Signals) -> list[Layer]:
    """The convolutions and linear layers."""
    layers = signals.setup.layers if signals.setup is not None else ()
    return [layer for layer in layers if layer.kind in ("conv", "linear")]


def chance_loss(signals: Signals) -> float:
    """Cross-entropy of equal logits for every class that the net knows; NaN where their number is unknown."""
    outputs = signals.first.outputs
    width = outputs.width if outputs is not None else (signals.classes or 0)
    return math.log(width) if width > 1 else math.nan


def against_cross_entropy(signals: Signals) -> tuple[Floats, Floats, Floats, Floats]:
    """Step, loss as the loop has it, cross-entropy of the same logits, batch size (or NaN): one row for each
    measured step, and one for preflight as step 0."""
    steps, first = signals.steps, signals.first
    step, loss, entropy = steps.known("step", "loss", "cross_entropy")
    here = np.isin(steps.step, step)
    size = steps.size[here] if len(steps.size) == len(steps) else np.full(len(step), math.nan)
    losses = first.losses
    if first.step == 0 and losses is not None and math.isfinite(losses.reported + losses.cross_entropy):
        batch = float(first.inputs.shape[0]) if first.inputs is not None else math.nan
        before = (0.0, losses.reported, losses.cross_entropy, batch)
        step, loss, entropy, size = (
            np.concatenate([[value], column])
            for value, column in zip(before, (step, loss, entropy, size), strict=True)
        )
    return step, loss, entropy, size


def agreement(values: Floats, wanted: Floats, tolerance: float = EXACT) -> float:
    """Share of rows in which two columns are equal up to rounding; 0 of none."""
    if not len(values):
        return 0.0
    return float(np.mean(np.abs(values - wanted) <= tolerance * np.maximum(np.abs(wanted), 1e-3)))


def equal(a: float, b: float, tolerance: float = EXACT) -> bool:
    """Whether two numbers are equal up to rounding; never where one was not measured."""
    return abs(a - b) <= tolerance * max(abs(b), 1e-3)


def percent(share: float) -> str:
    """A share as words.

    >>> percent(1.0), percent(0.1234), percent(0.00012)
    ('100 %', '12 %', '0.012 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"
