"""PCA: each image as its coordinates along the principal axes of the training images.

Formula   C = mean of (x - m)(x - m)^T;   C = U diag(S) U^T;   Xrot = (x - m) U;   of these the first `keep`
Shapes    fit: chunks (n, c, h, w) uint8 or float of one size, d = c h w up to 12,288; apply: (b, c, h, w)
          float of that size, kept: coordinate j, by falling S_j, at place j of the order (c, h, w), zeros
          from `keep` on; state: mean (c, h, w) and matrix (d, keep), float32, kept in the model file
Strength  keep from 1 to d components; 0 keeps all, which is a mere rotation. Leave it out to switch it off
Helps     linear models and nets of linear layers; fewer dimensions where there are few images
Hurts     convolutions: neighbours in the result are no neighbours in the picture (zca keeps pictures)
Clashes   run.sizes and views of other sizes, since it knows one size; patch_whitening and convolutional nets
Source    Pearson, 1901; Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, section 2, after CS231n
          (Karpathy, 2015). As there, C is divided by n and not by n - 1. The largest entry of each axis is
          made positive, which the sources leave open
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from convclinic.ground.typed import at_least
from convclinic.kinds import State
from convclinic.tricks.prepare._covariance import leading, linear_state, principal_axes, project


@dataclass(frozen=True)
class PCA:
    """Coordinates along the principal axes of the training split."""

    slot: ClassVar[str] = "prepare"
    keep: int = 0

    def __post_init__(self) -> None:
        at_least("pca.keep", self.keep, 0)

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """State {"mean", "matrix"} from chunks of images: one pass, in memory that does not grow with them.

        Raises ConvclinicError when there are no images, when they are neither uint8 nor float, when they
        differ in channels or size, when they have too many dimensions, or fewer than `keep`.
        """
        axes = leading("pca", principal_axes("pca", chunks), self.keep)
        return linear_state(axes.mean, axes.vectors)

    def apply(self, images: Tensor, state: State) -> Tensor:
        """(b, c, h, w) float. Raises ConvclinicError when channels or size do not match."""
        return project("pca", images, state)
