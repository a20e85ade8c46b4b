"""Vanishing gradient: the first layers get next to none, so they keep their random weights.

Looks at  rms of the gradient in the first layers over that in the last ones, update-to-weight ratio of the
          first layers, loss
Why       small gradients alone are those of every run that has converged, and an adaptive optimizer
          divides by them: the loss must still be near its floor, the first layers must move at least a
          hundred times less than the last, and, with Adam, their gradients must be lost beside its epsilon
Confused  with a learning rate that is too low (all layers move little, none less than the others), with
          dead or saturated units (which name this as their symptom), with frozen layers (no gradient at
          all)
Source    Glorot and Bengio, 2010; Pascanu et al., On the difficulty of training recurrent networks, 2013
"""

from __future__ import annotations

import numpy as np

from convclinic.clinic.causes._trend import adaptive, course
from convclinic.clinic.signals import Floats, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = ("predicts_one_class", "plateau", "underfitting")

LEAST = 20  # steps
DEPTH = 4  # layers with weights, below which nothing can vanish
DECAY = 1e-3  # of the last layers' gradient; healthy plain nets of ten layers kept 1e-2
STILL = 1e-5  # of their weights per step: first layers that move less stay as they are
UNEQUAL = 100.0  # times: the last layers' ratio over the first ones'
EPSILON = 1e-8  # of Adam; gradients of about this size are lost beside it
LITTLE = 0.1  # of the floor learnt


def judge(signals: Signals) -> Finding | None:
    c = course(signals)
    if c is None or c.seen < LEAST or not c.learnt < LITTLE or c.shot > 2:
        return None
    names, gradient, ratio = _layers(signals)
    if len(names) < DEPTH:
        return None
    first, last = _ends(gradient)
    slow, fast = _ends(ratio)
    decay = first / last if last > 0 else np.nan
    lost = first < 10 * EPSILON if adaptive(signals) else slow < STILL and fast > UNEQUAL * slow
    if not (decay < DECAY and lost):
        return None
    return Finding(
        "vanishing_gradient",
        "warning",
        0.8 if c.stuck else 0.65,
        where=names[0],
        evidence=(
            Evidence(
                "gradient of the first layers over that of the last", float(decay), f"above {DECAY}", c.seen
            ),
            Evidence("update-to-weight ratio of the first layers", float(slow), f"above {STILL}", c.seen),
            Evidence("share of the floor learnt", round(c.learnt, 3), f"above {LITTLE}", c.seen),
        ),
        ruled_out=(f"lr_too_low: the last layers move by {fast:.1e} of their weights per step",),
        remedies=(
            "normalise=batch_norm",
            "activate=relu",
            "initialise=he",
            "a net with residual connections",
        ),
        step=c.seen,
        reference="Glorot and Bengio, 2010",
        summary=f"the gradient shrinks to {decay:.1e} of itself on its way to '{names[0]}', "
        f"and the loss stays near its floor",
    )


def _layers(signals: Signals) -> tuple[list[str], Floats, Floats]:
    """Names of conv and linear layers, and medians over the latest measured steps of gradient and ratio."""
    table = signals.by_layer
    kinds = {layer.name: layer.kind for layer in signals.setup.layers} if signals.setup else {}
    keep = [
        k
        for k, name in enumerate(table.names)
        if kinds.get(name, "conv") in ("conv", "linear")
        and len(table.gradient)
        and np.isfinite(table.gradient[-8:, k]).all()
    ]
    names = [table.names[k] for k in keep]
    if not names:
        return names, np.empty(0), np.empty(0)
    return names, np.median(table.gradient[-8:, keep], axis=0), np.median(table.ratio[-8:, keep], axis=0)


def _ends(values: Floats) -> tuple[float, float]:
    """Geometric means of the first and of the last quarter of the layers."""
    part = max(1, len(values) // 4)
    logs = np.log(np.maximum(values, 1e-30))
    return float(np.exp(logs[:part].mean())), float(np.exp(logs[-part:].mean()))
