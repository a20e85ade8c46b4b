"""How an average of weights moves. A helper: no trick lives here."""

from __future__ import annotations

import torch

from convclinic.kinds import State


def move(averaged: State, current: State, share: float) -> None:
    """Go `share` of the way from `averaged` to `current`, in place; integer tensors go all of it."""
    floats = [name for name, tensor in averaged.items() if tensor.is_floating_point()]
    if floats:
        # one call for all tensors: private by name, yet what torch's own averaging calls
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
            [averaged[name] for name in floats], [current[name] for name in floats], share
        )
    for name, tensor in averaged.items():
        if not tensor.is_floating_point():
            tensor.copy_(current[name])
