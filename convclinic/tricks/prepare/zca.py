"""ZCA: whitened images that still look like the pictures they were, as if their edges had been drawn over.

Formula   x' = (x - m) U diag(1 / sqrt(S + eps)) U^T,   C = mean of (x - m)(x - m)^T = U diag(S) U^T
Shapes    as pca: chunks (n, c, h, w) of one size, d = c h w up to 12,288; (b, c, h, w) float, kept; state:
          mean (c, h, w) and matrix (d, d), float32, which go into the model file
Strength  eps > 0 is the smoothing: directions with S far below it stay small instead of being blown up to
          full size. There is no value that means off: leave it out
Helps     small images and small nets without normalisation: of all whitenings this one changes the
          images least, so convolutions, flips and views keep their meaning
Hurts     eps too small: the last directions are noise and compression, made as loud as the picture; rounding
          to 256 levels alone leaves S = 1.3e-6
Clashes   run.sizes and views of other sizes, since it knows one size; patch_whitening (white already)
Source    Bell and Sejnowski, The "Independent Components" of Natural Scenes Are Edge Filters, 1997; on whole
          images: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; eps as smoothing:
          Ng et al., UFLDL Tutorial, Whitening, 2011. The default of 1e-2 is for images in [0, 1]; the
          sources leave it to the data
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import State
from convclinic.tricks.prepare._covariance import linear_state, principal_axes, project


@dataclass(frozen=True)
class ZCA:
    """Whitening by the symmetric root of the training split's inverse covariance."""

    slot: ClassVar[str] = "prepare"
    eps: float = 1e-2

    def __post_init__(self) -> None:
        if not self.eps > 0:
            raise ConvclinicError(f"zca.eps must be above 0, not {self.eps}", fix="1e-2 is usual")

    def fit(self, chunks: Iterable[Tensor]) -> State:
        """State {"mean", "matrix"} from chunks of images: one pass, in memory that does not grow with them.

        Raises ConvclinicError when there are no images, when they are neither uint8 nor float, when they
        differ in channels or size, or have too many dimensions.
        """
        mean, vectors, variances = principal_axes("zca", chunks)
        return linear_state(mean, (vectors / (variances + self.eps).sqrt()) @ vectors.T)

    def apply(self, images: Tensor, state: State) -> Tensor:
        """(b, c, h, w) float. Raises ConvclinicError when channels or size do not match."""
        return project("zca", images, state)
