"""Which weights penalties and projections work on, and what their options may be. A helper: no trick here."""

from __future__ import annotations

from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError


def weights(net: nn.Module, everything: bool) -> list[Tensor]:
    """Trainable parameters with two axes or more, which leaves out biases, norms and PReLU slopes.

    With `everything` these are not left out. Frozen ones always are.
    """
    return [p for p in net.parameters() if p.requires_grad and (everything or p.ndim >= 2)]


def check_strength(trick: str, option: str, value: float, usual: str) -> None:
    """Raises ConvclinicError unless 0 <= value < infinity."""
    if not 0 <= value < float("inf"):
        raise ConvclinicError(f"{trick}'s {option} must be 0 or more, not {value}", fix=usual)
