"""How the parameters of a net are sorted for an optimiser. A helper: no trick lives here."""

from __future__ import annotations

from typing import Any

from torch import nn

from convclinic.ground.errors import ConvclinicError


def decayed(net: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights with two axes or more are decayed; biases, norms and PReLU slopes are not.

    Frozen parameters are left out, and so is an empty group. Raises ConvclinicError when nothing is left.
    """
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return filled(
        [
            group([parameter for parameter in trainable if parameter.ndim >= 2], lr, weight_decay),
            group([parameter for parameter in trainable if parameter.ndim < 2], lr, 0.0),
        ]
    )


def group(parameters: list[nn.Parameter], lr: float, weight_decay: float, **more: Any) -> dict[str, Any]:
    """One group; the loop multiplies its `initial_lr`, so `lr` can be overwritten at every step."""
    return {"params": parameters, "lr": lr, "initial_lr": lr, "weight_decay": weight_decay, **more}


def filled(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups that hold parameters. Raises ConvclinicError when none does."""
    kept = [item for item in groups if item["params"]]
    if not kept:
        raise ConvclinicError(
            "every parameter of the net is frozen, so there is nothing to train",
            fix="unfreeze at least the last layer",
        )
    return kept


def check_range(trick: str, option: str, value: float, below: float = float("inf")) -> None:
    """Raises ConvclinicError unless 0 <= value < below."""
    if not 0 <= value < below:
        allowed = "0 or more" if below == float("inf") else f"in [0, {below:g})"
        raise ConvclinicError(f"{trick}'s {option} must be {allowed}, not {value}")


def check_positive(trick: str, option: str, value: float, usual: str) -> None:
    """Raises ConvclinicError unless 0 < value < infinity."""
    if not 0 < value < float("inf"):
        raise ConvclinicError(f"{trick}'s {option} must be above 0, not {value}", fix=f"{usual} is usual")
