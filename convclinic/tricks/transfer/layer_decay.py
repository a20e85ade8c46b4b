"""Layer-wise LR decay: the farther a stage lies from the head, the lower its LR.

Formula   LR of stage i of n = LR decay^(n - i),   i = 0 for the first stage and n for the head
Shapes    depth i and the names of the n stages -> a factor in (0, 1]
Strength  decay in (0, 1]; 1 is off; 0.7 to 0.9 is usual. After n stages decay^n is left: a net of eight
          stages at 0.8 has a sixth of the LR in its first
Helps     fine-tuning all of a pretrained net: edges and textures are good already, what is new is the top
Hurts     images unlike those the weights come from, whose first stages have to change too; training from
          scratch
Clashes   nets without stages. l1 and elastic_net, which shrink all stages by the head's LR
Source    Howard and Ruder, Universal Language Model Fine-tuning, 2018, arXiv:1801.06146, section 3.2, who
          divide by 2.6 from layer to layer; as decay^depth: Clark et al., ELECTRA, 2020, arXiv:2003.10555
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from convclinic.ground.errors import ConvclinicError


@dataclass(frozen=True)
class LayerDecay:
    slot: ClassVar[str] = "transfer"
    kind: ClassVar[Literal["rate"]] = "rate"
    OFF: ClassVar[dict[str, object]] = {"decay": 1.0}
    decay: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ConvclinicError(
                f"layer_decay's decay must lie in (0, 1], not {self.decay}", fix="0.8 is usual, 1 is off"
            )

    def rate(self, depth: int, stages: Sequence[str], progress: float) -> float:
        """The factor of the LR; the same all through training.

        >>> [LayerDecay(decay=0.5).rate(depth, ("low", "high"), 0.3) for depth in (0, 1, 2)]
        [0.25, 0.5, 1.0]
        """
        return self.decay ** (len(stages) - depth)
