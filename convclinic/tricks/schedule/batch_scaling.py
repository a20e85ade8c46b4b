"""Batch scaling: an LR that was found at one batch size, carried over to another.

Formula   scale(b) = b / reference (linear)   or   sqrt(b / reference) (sqrt)
Shapes    batch size b -> factor, the same at every progress
Strength  rule linear or sqrt; reference >= 1, the batch size at which the LR is right, so that scale is 1;
          256 is the source's. There is no value that means off: leave it out, which is the default, since
          gradients are the mean over the batch and their size does not change with it
Helps     LRs of papers, which hold for their batch size; large batches, whose steps are fewer and less noisy
          and so may be longer: linear for SGD, sqrt for adaptive optimisers
Hurts     batches of many thousand, where the linear rule breaks down, above all without warm_up
Clashes   an LR that was measured at the batch size in use (it would be scaled twice)
Source    linear: Goyal et al., Accurate, Large Minibatch SGD, 2017, arXiv:1706.02677, section 2.1, 0.1 at 256
          and 3.2 at 8192; sqrt: Krizhevsky, One Weird Trick for Parallelizing Convolutional Neural Networks,
          2014, arXiv:1404.5997, section 5, which keeps the variance of the step, and reports that linear
          worked better
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convclinic.ground.errors import ConvclinicError, nearest

RULES = {"linear": 1.0, "sqrt": 0.5}


def batch_scaling(batch_size: int, reference: int, rule: str) -> float:
    """The formula.

    >>> batch_scaling(1024, 256, "linear"), batch_scaling(1024, 256, "sqrt")
    (4.0, 2.0)
    """
    return (batch_size / reference) ** RULES[rule]


@dataclass(frozen=True)
class BatchScaling:
    slot: ClassVar[str] = "schedule"
    rule: str = "linear"
    reference: int = 256

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConvclinicError(f"batch_scaling has no rule '{self.rule}'", fix=nearest(self.rule, RULES))
        if self.reference < 1:
            raise ConvclinicError(f"batch_scaling's reference must be 1 or more, not {self.reference}")

    def factor(self, progress: float) -> float:
        """Progress changes nothing."""
        return 1.0

    def scale(self, batch_size: int) -> float:
        return batch_scaling(batch_size, self.reference, self.rule)
