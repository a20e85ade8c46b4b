"""Freeze: the stages below a chosen one keep the weights they start with.

Formula   stages before `until_stage`: LR 0 and no gradient;   from it on, and in the head: the LR
Shapes    depth of a stage and the names of all -> 0 or 1, a factor of the LR
Strength  until_stage: the first stage that learns; "head": the head alone, a linear classifier on fixed
          features; "" is off
Helps     few images that are like those the weights come from: less to fit, less to spoil, cheaper steps
Hurts     many images, or images unlike those the weights come from
Clashes   nets without stages; weights that nothing was loaded into. With "head", all that changes the rate of
          lower stages: there are none left
Source    Yosinski et al., How transferable are features in deep neural networks?, 2014, arXiv:1411.1792; a
          linear classifier or the top layers, by the size and the likeness of the data: Wei, 2015. Weights
          alone are frozen: for a stage whose answers stay too, add frozen_norm
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from convclinic.ground.errors import ConvclinicError, nearest

HEAD = "head"


@dataclass(frozen=True)
class Freeze:
    slot: ClassVar[str] = "transfer"
    kind: ClassVar[Literal["rate"]] = "rate"
    OFF: ClassVar[dict[str, object]] = {"until_stage": ""}
    until_stage: str = HEAD

    def rate(self, depth: int, stages: Sequence[str], progress: float) -> float:
        """0 below the stage, else 1. Raises ConvclinicError for a stage that the net does not have.

        >>> [Freeze(until_stage="high").rate(depth, ("low", "high"), 0.9) for depth in (0, 1, 2)]
        [0.0, 1.0, 1.0]
        """
        if not self.until_stage:
            return 1.0
        names = (*stages, HEAD)
        if self.until_stage not in names:
            raise ConvclinicError(
                f"freeze: the net has no stage '{self.until_stage}'", fix=nearest(self.until_stage, names)
            )
        return 1.0 if depth >= names.index(self.until_stage) else 0.0
