"""Label smoothing: part of each target is spread evenly over all classes.

Formula   y' = (1 - smoothing) y + smoothing / k
Shapes    targets (b, k), rows sum to 1, and still do afterwards; hard or soft
Strength  smoothing in [0, 1]; 0 is off; 0.1 is usual, 0.2 in short runs
Helps     many classes, wrong labels; keeps logits small and confidence honest
Hurts     later distillation from the net; two classes; where it comes on top of other softening
Clashes   mixup and cutmix (all of them soften the targets)
Source    Szegedy et al., Rethinking the Inception Architecture, 2016 (2015), arXiv:1512.00567, section 7
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from convclinic.ground.errors import ConvclinicError


def smooth(targets: Float[Tensor, "b k"], smoothing: float) -> Float[Tensor, "b k"]:
    """The formula.

    >>> import torch
    >>> smooth(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 0.5).tolist()
    [[0.625, 0.125, 0.125, 0.125]]
    """
    return (1 - smoothing) * targets + smoothing / targets.shape[1]


@dataclass(frozen=True)
class LabelSmoothing:
    slot: ClassVar[str] = "regularise"
    kind: ClassVar[Literal["targets"]] = "targets"
    OFF: ClassVar[dict[str, object]] = {"smoothing": 0.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"smoothing": (0.0, 0.3)}
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing <= 1:
            raise ConvclinicError(
                f"label_smoothing's smoothing must lie in [0, 1], not {self.smoothing}",
                fix="0.1 is usual, 0 is off",
            )

    def targets(self, targets: Tensor) -> Tensor:
        return smooth(targets, self.smoothing)
