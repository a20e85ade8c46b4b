"""Layers stay random: requires_grad is off, no gradient reaches them, or their learning rate is zero.

Looks at  requires_grad of each layer and whether its weights are a fresh draw; layers that run in the
          forward pass but get no gradient in any measured step; layers with gradients whose updates are
          exactly zero
Why       random features cost accuracy, trained ones do not: so only a fresh draw counts. Exact zeros and
          absent gradients in every measured step need no threshold; below 1 % of the parameters little is
          lost
Confused  a pretrained backbone frozen on purpose; fixed filters, such as whitening or blur (no fresh draw);
          modules that never run; a warm-up from zero (the first steps only); parameters_not_in_optimizer
Source    PyTorch documentation, Autograd mechanics (requires_grad, detach, no_grad)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convclinic.clinic.causes._readings import percent, weighted_layers
from convclinic.clinic.signals import Floats, Layer, Signals
from convclinic.kinds import Evidence, Finding, Severity

EXPLAINS = (
    "plateau",
    "underfitting",
    "lr_too_low",
    "vanishing_gradient",
    "dead_relu",
    "predicts_one_class",
    "saturated_activation",
)
LITTLE = 0.01  # of all parameters
STEPS = 5  # measured ones that all agree
UNMOVED = 8  # measured ones with a learning rate of zero; a warm-up leaves zero after the first


def judge(signals: Signals) -> Finding | None:
    setup = signals.setup
    if setup is None:
        return None
    layers = weighted_layers(signals)
    off = [layer for layer in layers if not layer.trainable and layer.untouched]
    if off:
        everything = setup.trainable == 0
        text, severity = "requires_grad is off for layers with fresh random weights", _severity(signals, off)
        return _finding(signals, off, "critical" if everything else severity, 0.9, text)
    detached = [layer for layer in layers if layer.trainable and _no_gradient(signals, layer)]
    if detached and len(detached) < len(layers):
        text = (
            "no gradient ever reaches layers that run in the forward pass (a detach or no_grad cuts them off)"
        )
        return _finding(signals, detached, _severity(signals, detached), 0.9, text)
    unmoved = [layer for layer in layers if layer.trainable and layer.optimised and _unmoved(signals, layer)]
    if unmoved and any(layer.untouched for layer in unmoved):
        text = "the learning rate of these layers is zero: they get gradients, but are never updated"
        return _finding(signals, unmoved, _severity(signals, unmoved), 0.85, text)
    return None


def _column(signals: Signals, layer: Layer, table: Floats) -> Floats:
    names = signals.by_layer.names
    return table[:, names.index(layer.name)] if layer.name in names else np.empty(0)


def _no_gradient(signals: Signals, layer: Layer) -> bool:
    """Whether the layer runs, others get gradients, and this one never does."""
    column = _column(signals, layer, signals.by_layer.gradient)
    if len(column) < STEPS or bool(np.isfinite(column).any()):
        return False
    depth = signals.preflight.depth if signals.preflight is not None else ()
    ran = {item.name for probe in signals.probes[:1] for item in probe.depth} | {item.name for item in depth}
    others = bool(np.isfinite(signals.by_layer.gradient).any(axis=1).all())
    return layer.name in ran and others


def _unmoved(signals: Signals, layer: Layer) -> bool:
    """Whether the layer had gradients and never an update, also where the learning rate was above zero."""
    gradient = _column(signals, layer, signals.by_layer.gradient)
    ratio = _column(signals, layer, signals.by_layer.ratio)
    here = np.isfinite(gradient) & np.isfinite(ratio) & (gradient > 0) if len(ratio) else np.empty(0, bool)
    if int(here.sum()) < UNMOVED or bool((ratio[here] != 0).any()):
        return False
    groups = signals.setup.groups if signals.setup is not None else ()
    return any(group.lr == 0 for group in groups)


def _severity(signals: Signals, layers: Sequence[Layer]) -> Severity:
    return "warning" if _share(signals, layers) >= LITTLE else "info"


def _share(signals: Signals, layers: Sequence[Layer]) -> float:
    total = signals.setup.parameters if signals.setup is not None else 0
    return sum(layer.parameters for layer in layers) / total if total else 1.0


def _finding(
    signals: Signals, layers: Sequence[Layer], severity: Severity, confidence: float, text: str
) -> Finding:
    names = ", ".join(layer.name for layer in layers[:3]) + (", ..." if len(layers) > 3 else "")
    share = _share(signals, layers)
    return Finding(
        cause="frozen_parameters",
        severity=severity,
        confidence=confidence,
        where=names,
        evidence=(Evidence("share of the parameters that stay random", share, "0", signals.first.step),),
        ruled_out=("lr_too_low: other layers do move",) if severity == "warning" else (),
        remedies=(
            "let these layers learn: requires_grad_(True) before the optimizer is built, no detach",
            "or load trained weights into them",
        ),
        step=signals.first.step,
        reference="PyTorch documentation, Autograd mechanics",
        summary=f"{text}: {names}, {percent(share)} of the parameters",
    )
