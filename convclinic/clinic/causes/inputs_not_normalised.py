"""The net receives images on a scale that its initial weights and the learning rate are not made for.

Looks at  root mean square, mean and standard deviation of the first batch, by channel; whether a norm
          follows the first layer; what the first layer gives for it; the optimizer; the initial loss
Why       initial weights keep the scale of inputs near 1. A root mean square of 5 is beyond every
          standardised or [0, 1] image set and far below raw pixels (70 to 150); 0.02 is below dark images
          in [0, 1] (0.1) and above images divided by 255 twice (0.002)
Confused  init_scale (there the weights are off, here the inputs); a model that scales its inputs itself:
          then the first layer's output fits small inputs; a norm after the first layer or Adam make it
          harmless
Source    LeCun et al., Efficient BackProp, 1998, section 4.3; TheDeepChecker, 2022, arXiv:2204.00694
"""

from __future__ import annotations

import math

from convclinic.clinic.causes._readings import (
    adaptive,
    chance_loss,
    lately,
    learnt,
    weighted_layers,
)
from convclinic.clinic.signals import Inputs, Signals
from convclinic.kinds import Evidence, Finding, Severity

EXPLAINS = (
    "lr_too_high",
    "lr_too_low",
    "exploding_gradient",
    "vanishing_gradient",
    "non_finite",
    "dead_relu",
    "saturated_activation",
    "init_scale",
    "predicts_one_class",
    "plateau",
    "underfitting",
    "batch_too_large",
)
LARGE, SMALL = 5.0, 0.02  # root mean squares, see the card
OFFSET, OFF_CENTRE = 1.5, 3.0  # a mean this far from 0, and this many standard deviations
INSIDE = 0.1  # of the scale that the first layer seems to receive: the model scales its inputs itself
COPED = 0.4  # of ln k: a net with adaptive steps that has got here was not held up
UNLEARNT, LATE = 0.95, 64  # of ln k, and steps: the optimizer has not coped
SLOW, SOON = 0.8, 24  # the same where the first loss was high: Adam mostly copes with raw pixels
HIGH_START = 1.5  # initial loss over ln K that shows an effect; 0.8 to 1.3 is usual


def judge(signals: Signals) -> Finding | None:
    inputs = signals.first.inputs
    if inputs is None or not inputs.finite or not inputs.std > 0 or inputs.flat > 0.5:
        return None
    scale = _scale(inputs)
    off_centre = abs(inputs.mean) > OFFSET and abs(inputs.mean) > OFF_CENTRE * inputs.std
    if SMALL <= scale <= LARGE and not off_centre:
        return None
    received = _received(signals)
    if scale > LARGE and received < INSIDE * scale:
        return None
    severity, confidence, why = _severity(signals, scale)
    what = (
        "far too large" if scale > LARGE else "far too small" if scale < SMALL else "far from centred on zero"
    )
    return Finding(
        cause="inputs_not_normalised",
        severity=severity,
        confidence=confidence,
        where="inputs",
        evidence=(
            Evidence(
                "root mean square of the inputs",
                scale,
                f"{SMALL} to {LARGE}, best near 1",
                signals.first.step,
            ),
            Evidence("mean of the inputs", inputs.mean, "near 0", signals.first.step),
            Evidence("standard deviation of the inputs", inputs.std, "near 1", signals.first.step),
        ),
        ruled_out=("init_scale: it is the inputs that are off, before any weight",),
        remedies=(
            "prepare=standardise",
            "subtract the training set's mean from each channel and divide by its standard deviation",
        ),
        step=signals.first.step,
        reference="LeCun et al., 1998, section 4.3",
        summary=f"the inputs are {what} (mean {inputs.mean:.3g}, standard deviation {inputs.std:.3g}){why}",
    )


def _scale(inputs: Inputs) -> float:
    """Root mean square of all pixels, or of the one channel that stands out above the limit."""
    channels = zip(inputs.channel_means, inputs.channel_stds, strict=False)
    overall = math.hypot(inputs.mean, inputs.std)
    highest = max((math.hypot(mean, std) for mean, std in channels), default=overall)
    return highest if highest > LARGE else overall


def _received(signals: Signals) -> float:
    """The scale that the first layer's output and weights speak of; infinite where unknown."""
    layers = weighted_layers(signals)
    preflight = signals.preflight
    depth = preflight.depth if preflight is not None else ()
    if not depth and signals.probes and signals.probes[0].step <= 1:
        depth = signals.probes[0].depth
    outputs = [layer.output for layer in depth if layers and layer.name == layers[0].name]
    if not outputs or not layers[0].gain > 0 or not math.isfinite(outputs[0]):
        return math.inf
    return outputs[0] / layers[0].gain


def _severity(signals: Signals, scale: float) -> tuple[Severity, float, str]:
    setup, losses = signals.setup, signals.first.losses
    if setup is not None and (setup.first_norm or (setup.layers and setup.layers[0].kind == "norm")):
        return "info", 0.6, "; the norm behind the first layer undoes it"
    if not adaptive(signals):
        return "warning", 0.92 if scale > LARGE else 0.85 if scale < SMALL else 0.65, ""
    if learnt(signals) or lately(signals.steps.cross_entropy) < COPED * chance_loss(signals):
        return "info", 0.6, "; the optimizer has coped with it"
    start = losses.cross_entropy / chance_loss(signals) if losses is not None else math.nan
    if scale < SMALL:
        return "warning", 0.7, ""
    now = lately(signals.steps.cross_entropy) / chance_loss(signals)
    if now > UNLEARNT and signals.observed >= LATE:
        return "warning", 0.75, "; nothing is learnt from them"
    if start > HIGH_START and now > SLOW and signals.observed >= SOON:
        return "warning", 0.7, "; little is learnt from them"
    return "info", 0.5, "; the optimizer may cope with it"
