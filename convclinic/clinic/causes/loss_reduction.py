"""The loss is summed over the batch, or divided by its size twice: the learning rate means something else.

Looks at  loss of the batch twice over loss of it once (preflight); the loop's loss over the mean
          cross-entropy of the same logits, beside the batch size; whether the sizes of the updates suffer
Why       a sum doubles, a mean does not. Loss / (size * cross-entropy) stays within 0.67 to 1.5 under label
          smoothing and class weights, at every step
Confused  gradient accumulation (there the loss is a fraction of the mean and updates are rarer than
          batches); a loss scaled for half precision; lr_too_high (the same effect, but here the cause is
          known). Adam, gradient clipping or a small learning rate make a sum harmless
Source    PyTorch documentation of CrossEntropyLoss (reduction); the doubled batch is an old test of it
"""

from __future__ import annotations

import math

import numpy as np

from convclinic.clinic.causes._readings import adaptive, against_cross_entropy, learnt
from convclinic.clinic.signals import Floats, Signals
from convclinic.kinds import Evidence, Finding, Severity

EXPLAINS = (
    "lr_too_high",
    "exploding_gradient",
    "non_finite",
    "dead_relu",
    "saturated_activation",
    "predicts_one_class",
    "plateau",
    "lr_too_low",
    "underfitting",
    "batch_too_large",
)
DOUBLED = (1.9, 2.1)  # dropout moves it by a few per cent
BETWEEN = (0.67, 1.5)
AGREES = 0.9  # share of measured steps
LEAST = 3  # measured steps, where the batch was not doubled
SMALLEST = 8  # images: below that a sum and a penalty on top of a mean look alike
DIVIDED_FROM = 16  # images: smaller factors are those of gradient accumulation
FAST = 0.05  # update over weights: ten times a usual one of 0.001 to 0.01 and more
STEEP = 2.0  # learning rate times size over (1 - momentum); 1 is a usual largest for a mean, with norms
WORSE = 1.2  # cross-entropy now over that at the start


def judge(signals: Signals) -> Finding | None:
    step, loss, entropy, size = against_cross_entropy(signals)
    doubled = signals.preflight.doubled if signals.preflight is not None else math.nan
    here = (entropy > 0) & (size >= SMALLEST)
    factors = loss[here] / (entropy[here] * size[here])
    summed = DOUBLED[0] <= doubled <= DOUBLED[1]
    if not summed and not math.isfinite(doubled) and len(factors) >= LEAST:
        summed = _inside(factors) >= AGREES
    elif summed and len(factors) > LEAST:
        summed = _inside(factors[1:]) >= AGREES  # the loop may divide what preflight's loss only sums
    if summed:
        return _summed(signals, doubled, factors, _worse(entropy))
    here = (entropy > 0) & (size >= DIVIDED_FROM)
    factors = loss[here] * size[here] / entropy[here]
    every = signals.updates >= 0.9 * signals.observed  # one update for each batch: nothing is accumulated
    if len(factors) >= LEAST and _inside(factors) >= AGREES and every:
        return _divided(signals, factors, step)
    return None


def _inside(factors: Floats) -> float:
    known = factors[np.isfinite(factors)]
    return float(np.mean((known > BETWEEN[0]) & (known < BETWEEN[1]))) if len(known) else 0.0


def _worse(entropy: Floats) -> bool:
    """Whether the cross-entropy is above its start by now, or no number any more."""
    return len(entropy) > LEAST and bool(np.median(entropy[-LEAST:]) > WORSE * entropy[0])


def _summed(signals: Signals, doubled: float, factors: Floats, worse: bool) -> Finding:
    severity, confidence, why = _harm(signals, worse or signals.non_finite is not None)
    evidence = [
        Evidence("loss over (batch size * mean cross-entropy)", float(np.median(factors)), "1 / batch size")
        for _ in factors[:1]
    ]
    if math.isfinite(doubled):
        evidence.append(Evidence("loss of the doubled batch over loss of the batch", doubled, "1", 0))
    return Finding(
        cause="loss_reduction",
        severity=severity,
        confidence=confidence,
        where="loss",
        evidence=tuple(evidence),
        ruled_out=("lr_too_high: the learning rate is multiplied by the batch size",)
        if severity != "info"
        else (),
        remedies=("reduction='mean' in the loss", "or divide the learning rate by the batch size"),
        step=signals.first.step,
        reference="PyTorch documentation of CrossEntropyLoss",
        summary=f"the loss is a sum over the batch and not a mean: {why}",
    )


def _harm(signals: Signals, broken: bool) -> tuple[Severity, float, str]:
    """How bad a sum is here: by what has happened, by the sizes of the updates, or by the settings."""
    if broken:
        return (
            "warning",
            0.95,
            "its gradients grow with the batch size, and training has got worse since the start",
        )
    if adaptive(signals):
        return "info", 0.9, "harmless with this optimizer, which divides gradients by their size"
    ratios = signals.steps.ratio[np.isfinite(signals.steps.ratio)]
    if len(ratios) >= LEAST:
        fast = float(np.median(ratios[:16])) >= FAST
        if fast:
            return "warning", 0.9, "updates are too large, as its gradients grow with the batch size"
        if learnt(signals):
            return "info", 0.9, "the learning rate is small enough for it"
        return "info", 0.8, "the learning rate has to be smaller by the batch size"
    steep = _steepness(signals)
    if steep >= STEEP:
        return "warning", 0.85, f"as a mean it would need a learning rate of {steep:.2g} for the same steps"
    return "info", 0.8, "the learning rate has to be smaller by the batch size"


def _steepness(signals: Signals) -> float:
    """The learning rate that a mean would need for the same steps, momentum counted in."""
    size = signals.first.inputs.shape[0] if signals.first.inputs is not None else 0
    groups = signals.setup.groups if signals.setup is not None else ()
    return max((group.lr * size / max(1e-3, 1 - group.momentum) for group in groups), default=0.0)


def _divided(signals: Signals, factors: Floats, step: Floats) -> Finding | None:
    if learnt(signals):
        return None
    gentle = adaptive(signals)
    return Finding(
        cause="loss_reduction",
        severity="info" if gentle else "warning",
        confidence=0.75,
        where="loss",
        evidence=(
            Evidence("loss * batch size over mean cross-entropy", float(np.median(factors)), "batch size"),
        ),
        ruled_out=("gradient accumulation: there is one update for each batch",),
        remedies=("do not divide by the batch size: the loss is a mean already",),
        step=int(step[0]),
        reference="PyTorch documentation of CrossEntropyLoss",
        summary="the loss is a mean divided by the batch size once more: steps are that much smaller",
    )
