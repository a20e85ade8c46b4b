"""Units of a layer start with equal weights and get equal gradients, so they can never become different.

Looks at  share of a layer's units whose weights equal another's; the same of their gradients (preflight);
          layers whose gradient stays exactly zero
Why       equal in and equal out stays equal under every optimizer: the layer is worth one unit. Equality is
          exact, so there is no threshold to choose
Confused  a head or residual branch that starts at zero on purpose: its units get different gradients at
          once, or as soon as the layer behind it has moved; equal weights before a layer of different ones;
          dead_relu
Source    Goodfellow, Bengio and Courville, Deep Learning, 2016, section 8.4; Zhang et al., Fixup, 2019,
          arXiv:1901.09321, for zeros that are healthy
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from convclinic.clinic.causes._readings import weighted_layers
from convclinic.clinic.signals import ByLayer, Depth, Layer, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = (
    "plateau",
    "predicts_one_class",
    "vanishing_gradient",
    "exploding_gradient",
    "underfitting",
    "lr_too_low",
    "init_scale",
    "dead_relu",
    "saturated_activation",
)
ALL = 0.999  # of the units
LEAST_UNITS = 2
STUCK = 3  # measured steps without any gradient after the first: a zero behind it would have moved by then


def judge(signals: Signals) -> Finding | None:
    layers = weighted_layers(signals)
    preflight = signals.preflight
    depth = {layer.name: layer for layer in preflight.depth} if preflight is not None else {}
    symmetric: list[Layer] = []
    for here, behind in pairwise(layers):
        if (
            here.head
            or here.units < LEAST_UNITS
            or here.alike < ALL
            or not (here.trainable and here.optimised)
        ):
            continue
        if _stays(here, behind, depth.get(here.name), signals.by_layer):
            symmetric.append(here)
    return _finding(signals, layers, symmetric) if symmetric else None


def _stays(here: Layer, behind: Layer, depth: Depth | None, by_layer: ByLayer) -> bool:
    """Whether the units of `here` will stay equal."""
    if depth is not None and depth.gradient > 0:
        return depth.alike >= ALL
    if here.gain > 0 and depth is None:
        return behind.alike >= ALL
    return _without_gradient(here.name, by_layer)


def _without_gradient(name: str, by_layer: ByLayer) -> bool:
    if name not in by_layer.names:
        return False
    gradients = by_layer.gradient[:, by_layer.names.index(name)]
    known = gradients[np.isfinite(gradients) & (by_layer.steps > 1)]
    return len(known) >= STUCK and bool((known == 0).all())


def _finding(signals: Signals, layers: Sequence[Layer], symmetric: Sequence[Layer]) -> Finding:
    hidden = [layer for layer in layers if not layer.head]
    every = len(symmetric) == len(hidden)
    names = ", ".join(layer.name for layer in symmetric[:3]) + (", ..." if len(symmetric) > 3 else "")
    return Finding(
        cause="symmetric_init",
        severity="critical" if every else "warning",
        confidence=0.97 if every else 0.9,
        where=names,
        evidence=(
            Evidence(
                "share of units with the same weights as another", symmetric[0].alike, "0", signals.first.step
            ),
            Evidence("layers in which all units are equal", float(len(symmetric)), f"0 of {len(hidden)}"),
        ),
        ruled_out=("lr_too_low: equal units stay equal at any learning rate",),
        remedies=("initialise=he", "draw the weights at random (torch.nn.init.kaiming_normal_)"),
        step=signals.first.step,
        reference="Goodfellow et al., 2016, section 8.4",
        summary=f"all units of {names} start equal and get equal gradients: each layer is worth one unit",
    )
