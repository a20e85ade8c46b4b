"""PCA whitening: coordinates along the principal axes, each brought to variance 1.

Formula   Xwhite = Xrot / sqrt(S + eps),   Xrot = (x - m) U,   C = mean of (x - m)(x - m)^T = U diag(S) U^T
Shapes    as pca: chunks (n, c, h, w) of one size, d = c h w up to 12,288; (b, c, h, w) float, kept, with
          coordinate j at place j, zeros from `keep` on; state: mean (c, h, w) and matrix (d, keep), float32
Strength  eps > 0 is the smoothing: directions with S far below it stay small instead of being blown up to
          full size; keep from 1 to d drops them, 0 keeps all. There is no value that means off: leave it out
Helps     linear models and nets of linear layers, which then learn all directions at the same rate
Hurts     eps too small: the last directions are noise and compression, made as loud as the picture; rounding
          to 256 levels alone leaves S = 1.3e-6.
          Convolutions: neighbours in the result are no neighbours in the picture (zca keeps pictures)
Clashes   run.sizes and views of other sizes, since it knows one size; patch_whitening and convolutional nets
Source    Wei, Must Know Tips/Tricks in Deep Neural Networks, 2015, section 2, after CS231n (Karpathy, 2015);
          eps as smoothing: Ng et al., UFLDL Tutorial, Whitening, 2011. The first two write 1e-5, and say to
          smooth more where noise is exaggerated; the default of 1e-2 is for images in [0, 1]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.ground.typed import at_least
from convclinic.kinds import State
from convclinic.tricks.prepare._covariance import leading, linear_state, principal_axes, project


@dataclass(frozen=True)
class PCAWhitening:
    """Coordinates of variance S / (S + eps) along the principal axes of the training split."""

    slot: ClassVar[str] = "prepare"
    eps: float = 1e-2
    keep: int = 0

    def __post_init__(self) -> None:
        at_least("pca_whitening.keep", self.keep, 0)
        if not self.eps > 0:
            raise ConvclinicError(f"pca_whitening.eps must be above 0, not {self.eps}", fix="1e-2 is usual")

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """State {"mean", "matrix"} from chunks of images: one pass, in memory that does not grow with them.

        Raises ConvclinicError when there are no images, when they are neither uint8 nor float, when they
        differ in channels or size, when they have too many dimensions, or fewer than `keep`.
        """
        axes = leading("pca_whitening", principal_axes("pca_whitening", chunks), self.keep)
        return linear_state(axes.mean, axes.vectors / (axes.variances + self.eps).sqrt())

    def apply(self, images: Tensor, state: State) -> Tensor:
        """(b, c, h, w) float. Raises ConvclinicError when channels or size do not match."""
        return project("pca_whitening", images, state)
