"""AlexNet's local response normalisation: formula and module. A helper: two nets and a trick share it."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def local_response(
    x: Float[Tensor, "b c h w"], size: int, alpha: float, beta: float, k: float
) -> Float[Tensor, "b c h w"]:
    """Each value over (k + alpha * the sum of squares at its place in the `size` nearest maps)^beta.

    The paper's formula as printed. torch.nn.LocalResponseNorm divides alpha by `size`, and its average
    pooling has no backward pass on a GPU that gives the same bits twice; a sum of shifted maps has.
    """
    half, maps = size // 2, x.shape[1]
    squares = F.pad(x.square(), (0, 0, 0, 0, half, half))
    near = squares[:, :maps]
    for shift in range(1, size):
        near = near + squares[:, shift : shift + maps]
    return x / (k + alpha * near) ** beta


class LocalResponse(nn.Module):
    """The defaults are the paper's."""

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return local_response(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"size={self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
