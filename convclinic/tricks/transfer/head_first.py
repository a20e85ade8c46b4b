"""Head first: the head learns alone, and then everything at a tenth of the LR.

Formula   progress < until:   LR of the head, 0 below it;   from then on LR times `then` everywhere
Shapes    depth of a stage and progress in [0, 1] -> a factor of the LR
Strength  until in [0, 1]: share of training that is the head's; then > 0. until 0 with then 1 is off
Helps     fine-tuning: a fresh head sends large random gradients down, which would spoil the pretrained stages
          before it is of use; steps of the first part cost less, since nothing is sent down at all
Hurts     images unlike those the weights come from, if until is so large that no time is left for the stages
Clashes   gradual, which decides the same; nets without stages; l1 and elastic_net, as with layer_decay
Source    freeze, then a tenth of the original LR: Deep Learning Clinic, lecture 7, 2018; why that is better
          than everything at once: Kumar et al., Fine-Tuning can Distort Pretrained Features, 2022,
          arXiv:2202.10054. How long the head is alone, 0.3, is ours. What frozen_norm does is not done
          here: the statistics of batch norm go on following the new images
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.transfer._stages import check_share


@dataclass(frozen=True)
class HeadFirst:
    slot: ClassVar[str] = "transfer"
    kind: ClassVar[Literal["rate"]] = "rate"
    OFF: ClassVar[dict[str, object]] = {"until": 0.0, "then": 1.0}
    until: float = 0.3
    then: float = 0.1

    def __post_init__(self) -> None:
        check_share("head_first", "until", self.until)
        if not 0 < self.then < float("inf"):
            raise ConvclinicError(
                f"head_first's then must be above 0, not {self.then}", fix="0.1 is the source's"
            )

    def rate(self, depth: int, stages: Sequence[str], progress: float) -> float:
        """The factor of the LR; 0 for stages that do not learn yet.

        >>> trick = HeadFirst(until=0.5)
        >>> [[trick.rate(depth, ("low", "high"), progress) for depth in (0, 1, 2)] for progress in (0.4, 0.5)]
        [[0.0, 0.0, 1.0], [0.1, 0.1, 0.1]]
        """
        if progress >= self.until:
            return self.then
        return 1.0 if depth == len(stages) else 0.0
