"""Gradual unfreezing: the head begins, and the stages join it one by one, from the last to the first.

Formula   stage i of n learns from progress until (n - i) / n on;   i = n, the head, from the start
Shapes    depth of a stage, the names of all and progress in [0, 1] -> 0 or 1, a factor of the LR
Strength  until in [0, 1]: the share of training by which the first stage learns too; 0 is off
Helps     fine-tuning on few images: what is nearest to the classes adapts first, to stages that hold still;
          the first steps cost less
Hurts     short runs and images unlike those the weights come from: the first stages have little time
Clashes   head_first, which decides the same; nets without stages
Source    Howard and Ruder, Universal Language Model Fine-tuning, 2018, arXiv:1801.06146, section 3.3, who
          unfreeze a layer after each epoch. What frozen_norm does is not done here: the statistics of batch
          norm go on following the new images
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from convclinic.tricks.transfer._stages import check_share


@dataclass(frozen=True)
class Gradual:
    slot: ClassVar[str] = "transfer"
    kind: ClassVar[Literal["rate"]] = "rate"
    OFF: ClassVar[dict[str, object]] = {"until": 0.0}
    until: float = 0.5

    def __post_init__(self) -> None:
        check_share("gradual", "until", self.until)

    def rate(self, depth: int, stages: Sequence[str], progress: float) -> float:
        """1 for what learns at `progress`, else 0.

        >>> trick = Gradual(until=0.5)
        >>> [[trick.rate(depth, ("low", "high"), t) for depth in (0, 1, 2)] for t in (0.0, 0.3, 0.5)]
        [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
        """
        distance = (len(stages) - depth) / len(stages)
        return 1.0 if progress >= self.until * distance else 0.0
