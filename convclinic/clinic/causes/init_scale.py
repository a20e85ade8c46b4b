"""The initial weights are so large or small that signals grow or fade from layer to layer.

Looks at  rms(weight) * sqrt(fan-in) of each layer (1.41 after He, 0.58 after PyTorch's own, up to 3.5 where
          a fresh layer narrows under fan-out initialisation); the initial loss over ln k; how the outputs
          go with depth; how far the outputs spread; with norms, the size of the updates
Why       a scale alone is no fault: it counts only together with an effect on the first forward pass. An
          initial loss of 0.8 to 1.3 ln k is usual and up to 2.5 does no harm
Confused  inputs_not_normalised (a high initial loss with weights of usual scale); symmetric_init (weights
          equal or zero); lr_too_high (the loss is high only after the first steps); weights that training
          has changed
Source    Glorot and Bengio, 2010; He et al., 2015, arXiv:1502.01852; TheDeepChecker, 2022, arXiv:2204.00694
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from convclinic.clinic.causes._readings import adaptive, chance_loss, learnt, weighted_layers
from convclinic.clinic.signals import Depth, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = (
    "lr_too_high",
    "lr_too_low",
    "exploding_gradient",
    "vanishing_gradient",
    "saturated_activation",
    "dead_relu",
    "non_finite",
    "plateau",
    "predicts_one_class",
    "underfitting",
    "batch_too_large",
)
LARGE, SMALL = 3.0, 0.1  # median over the layers of rms(weight) * sqrt(fan-in)
LARGE_HEAD = 4.0  # of the last layer alone
HIGH = 3.0  # initial loss over ln k
GROWS = 1e3  # last output over first, or the reverse
FLAT = 1e-3  # spread of the logits over the images; 0.02 to 0.3 in nets with PyTorch's own weights
CHANGED = 1.5  # norm of the weights now over that at the start: then their scale is training's doing
SLOW, FAST = 3e-4, 0.3  # largest and median update over weights, where norms hide the scale
LEAST = 8  # measured steps
STALLED = (16, 48)  # steps in which a net that started well has begun to learn
UNLEARNT = 0.95  # of ln k


@dataclass(frozen=True)
class _Start:
    """What the first forward pass shows."""

    gain: float
    head: float
    loss: float
    growth: float
    between: float


def judge(signals: Signals) -> Finding | None:
    layers = [layer for layer in weighted_layers(signals) if layer.gain > 0]
    setup, outputs = signals.setup, signals.first.outputs
    if setup is None or not layers or outputs is None or _changed(signals):
        return None
    hidden = [layer.gain for layer in layers if not layer.head] or [layers[-1].gain]
    head = layers[-1].gain if layers[-1].head else math.nan
    losses = signals.first.losses
    loss = losses.cross_entropy / chance_loss(signals) if losses is not None else math.nan
    start = _Start(float(np.median(hidden)), head, loss, _growth(signals), outputs.between)
    if start.gain > LARGE or start.head > LARGE_HEAD:
        return _large(signals, start, bool(setup.batch_norms))
    return _small(signals, start, bool(setup.batch_norms)) if start.gain < SMALL else None


def _changed(signals: Signals) -> bool:
    """Whether the weights have grown since the start and were measured after that."""
    norms = signals.steps.weight_norm[np.isfinite(signals.steps.weight_norm)]
    return signals.first.step > 0 and len(norms) > 1 and bool(norms[0] > 0 and norms[-1] > CHANGED * norms[0])


def _growth(signals: Signals) -> float:
    """Output of the last hidden layer over that of the first before training; NaN where not measured."""
    depth: tuple[Depth, ...] = signals.preflight.depth if signals.preflight is not None else ()
    if not depth and signals.probes and signals.probes[0].step == 0:
        depth = signals.probes[0].depth
    outputs = [layer.output for layer in depth if layer.kind in ("conv", "linear")]
    hidden = outputs[:-1] if len(outputs) > 2 else outputs  # the head may start small on purpose
    return hidden[-1] / hidden[0] if len(hidden) > 1 and hidden[0] > 0 else math.nan


def _large(signals: Signals, start: _Start, norms: bool) -> Finding | None:
    ratios = signals.steps.ratio[np.isfinite(signals.steps.ratio)]
    if start.loss > HIGH or (start.growth > GROWS and not norms):
        text = f"the initial loss is {start.loss:.3g} times that of equal answers"
        return _finding(signals, start, "large", 0.88, text)
    if norms and start.gain > LARGE and len(ratios) >= LEAST and float(ratios.max()) < SLOW:
        text = "norms hide it in the forward pass, but updates are tiny beside the weights"
        return _finding(signals, start, "large", 0.6, text)
    return None


def _small(signals: Signals, start: _Start, norms: bool) -> Finding | None:
    ratios = signals.steps.ratio[np.isfinite(signals.steps.ratio)]
    if norms:
        if len(ratios) >= LEAST and float(np.median(ratios[:16])) > FAST:
            text = "norms hide it in the forward pass, but updates are as large as the weights"
            return _finding(signals, start, "small", 0.6, text)
        return None
    if start.between < FLAT or start.growth < 1 / GROWS:
        text = f"the outputs hardly depend on the image (they spread by {start.between:.2g})"
        return _finding(signals, start, "small", 0.85, text)
    return None


def _stalled(signals: Signals) -> bool:
    """Whether the net had not begun to learn some tens of steps after the start, or is not yet there."""
    step, entropy = signals.steps.known("step", "cross_entropy")
    early = entropy[(step >= STALLED[0]) & (step <= STALLED[1])]
    return not len(early) or float(np.median(early)) > UNLEARNT * chance_loss(signals)


def _finding(signals: Signals, start: _Start, size: str, confidence: float, text: str) -> Finding:
    gentle = (size == "small" and not _stalled(signals)) or (adaptive(signals) and learnt(signals))
    step = signals.first.step
    return Finding(
        cause="init_scale",
        severity="info" if gentle else "warning",
        confidence=confidence,
        where="initial weights",
        evidence=(
            Evidence(
                "median rms(weight) * sqrt(fan-in)", start.gain, f"{SMALL} to {LARGE}, best near 1.4", step
            ),
            Evidence("the same of the last layer", start.head, f"up to {LARGE_HEAD}", step),
            Evidence("initial loss over ln k", start.loss, "0.8 to 1.3", step),
        ),
        ruled_out=("lr_too_high: seen before the learning rate had a say",),
        remedies=("initialise=he", "torch.nn.init.kaiming_normal_ for each convolution and linear layer"),
        step=step,
        reference="He et al., 2015, arXiv:1502.01852",
        summary=f"the initial weights are too {size} (scale {start.gain:.2g}, head {start.head:.2g}): {text}",
    )
