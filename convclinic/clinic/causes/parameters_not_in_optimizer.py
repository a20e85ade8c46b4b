"""The optimizer does not hold some of the parameters that are to be trained.

Looks at  names of the model's trainable parameters that no optimizer holds, their share of all, whether
          their weights are still a fresh draw, whether the loss reaches them
Why       a set difference of identities: what is not held never changes. Below 0.1 % of the parameters, or
          biases and norms alone, there is little to lose
Confused  a pretrained backbone of which only the head is to be trained (its weights are no fresh draw);
          frozen_parameters (requires_grad is off); optimizer_stale (the optimizer holds another model's
          tensors); modules that take no part in the loss
Source    PyTorch documentation of torch.optim; the test at run time is ours
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convclinic.clinic.causes._readings import percent
from convclinic.clinic.signals import Layer, Setup, Signals
from convclinic.kinds import Evidence, Finding

EXPLAINS = (
    "frozen_parameters",
    "plateau",
    "underfitting",
    "lr_too_low",
    "vanishing_gradient",
    "missing_zero_grad",
    "exploding_gradient",
    "dead_relu",
    "predicts_one_class",
)
LITTLE = 1e-3  # of the trainable parameters
LITTLE_NORMS = 1e-2  # where only norms and biases are missing
UNUSED = 3  # measured steps without any gradient: the layer takes no part in the loss


def judge(signals: Signals) -> Finding | None:
    setup = signals.setup
    if setup is None or not setup.missing:
        return None
    layers = [layer for layer in setup.layers if _owns(layer, setup.missing)]
    if layers and all(_unused(signals, layer.name) for layer in layers):
        return None
    share = _share(setup, layers)
    weights = [layer for layer in layers if layer.kind in ("conv", "linear", "other")]
    only_small = not weights or all(name.endswith("bias") for name in setup.missing)
    little = share < (LITTLE_NORMS if only_small and layers else LITTLE)
    pretrained = bool(weights) and not any(layer.untouched for layer in weights)
    alarm = not little and not pretrained
    names = ", ".join(setup.missing[:3]) + (", ..." if len(setup.missing) > 3 else "")
    return Finding(
        cause="parameters_not_in_optimizer",
        severity="warning" if alarm else "info",
        confidence=0.7 if setup.foreign else 0.95,
        where=names,
        evidence=(
            Evidence(
                "share of the trainable parameters that no optimizer holds", share, "0", signals.first.step
            ),
            Evidence("tensors that no optimizer holds", float(len(setup.missing)), "0", signals.first.step),
        ),
        ruled_out=("lr_too_low: these weights do not move at any learning rate",) if alarm else (),
        remedies=(
            "give the optimizer model.parameters(), or add the missing ones with optimizer.add_param_group",
            "set requires_grad to False where they are to stay as they are",
        ),
        step=signals.first.step,
        reference="PyTorch documentation of torch.optim",
        summary=f"no optimizer holds {names}: {percent(share)} of the trainable parameters never change"
        + ("; they look pretrained, so this may be meant" if pretrained else ""),
    )


def _owns(layer: Layer, names: Sequence[str]) -> bool:
    prefix = f"{layer.name}." if layer.name not in ("", "model") else ""
    return any(name.startswith(prefix) and "." not in name.removeprefix(prefix) for name in names)


def _share(setup: Setup, layers: Sequence[Layer]) -> float:
    if not layers or not setup.trainable:
        return 1.0
    return min(1.0, sum(layer.parameters for layer in layers) / setup.trainable)


def _unused(signals: Signals, name: str) -> bool:
    """Whether the loss never sent this layer a gradient."""
    table = signals.by_layer
    if name not in table.names or len(table.steps) < UNUSED:
        return False
    return not bool(np.isfinite(table.gradient[:, table.names.index(name)]).any())
