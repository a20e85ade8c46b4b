"""Probed head: training begins at the linear classifier that suits the pretrained features best.

Formula   W, b = argmin sum_i loss(W f(x_i) + b, y_i) + |W|^2 / (2 C), f the pooled maps of the last stage, C
          by cross-validation; then W and b over the temperature that calibrates them
Shapes    features (n, c) of training images as they are, not augmented -> head weight (k, c), bias (k,)
Strength  head: logistic, svm or linear (ridge regression); images: as many are drawn at most, each class in
          proportion. There is no value that means off: leave it out
Helps     few images and short runs, as the head need not be trained; and the stages where they learn too,
          since no gradients of a random head reach them
Hurts     nothing known; it costs one forward pass of these images
Clashes   head_first, whose first part it makes needless
Source    a linear classifier on top: Donahue et al., DeCAF, 2014, arXiv:1310.1531; an SVM: Sharif Razavian et
          al., CNN Features off-the-shelf, 2014, arXiv:1403.6382; to fine-tune from there: Kumar et al.,
          Fine-Tuning can Distort Pretrained Features, 2022, arXiv:2202.10054. Done once, at the start of
          training: going on needs the run folder only
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.ground.typed import at_least

LOWEST = 30.0  # below the highest bias
HEADS = ("logistic", "svm", "linear")


@dataclass(frozen=True)
class ProbedHead:
    slot: ClassVar[str] = "transfer"
    kind: ClassVar[Literal["head"]] = "head"
    head: str = "logistic"
    images: int = 2000

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ConvclinicError(f"probed_head's head is '{self.head}'", fix=nearest(self.head, HEADS))
        at_least("probed_head's images", self.images, 2)

    @torch.no_grad()
    def solve(self, net: nn.Module, batches: Iterable[Tensor], labels: Tensor, seed: int) -> None:
        """Set the net's head to the solution on batches (b, c, h, w), ready for the net, and labels (n,).

        Raises ConvclinicError for a net without stages, and where there are too few images to hold any out.
        """
        from convclinic.heads import fit_head  # scikit-learn takes a second, and few recipes need it

        staged: Any = net
        if not hasattr(net, "stages"):
            raise ConvclinicError("probed_head needs a net that is made of stages", fix="choose net=backbone")
        [last] = staged.stage_names[-1:]
        staged.eval()
        features: list[Tensor] = []
        for batch in batches:
            maps = staged.stages(batch.contiguous(memory_format=torch.channels_last), (last,))[last]
            features.append(staged.pooled(maps).float().cpu())
        n_classes, _ = staged.head.weight.shape
        solved = fit_head(self.head, torch.cat(features).numpy(), labels.numpy(), n_classes, seed=seed)
        staged.head.weight.copy_(torch.from_numpy(solved.weight))
        # a class without images has a bias so low that no gradient would ever reach it
        staged.head.bias.copy_(torch.from_numpy(np.maximum(solved.bias, solved.bias.max() - LOWEST)))
