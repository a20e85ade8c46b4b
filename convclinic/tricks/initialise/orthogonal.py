"""Orthogonal: each layer begins as a rotation, so that neither signal nor gradient grows or shrinks.

Formula   W = gain Q,   Q random with Q Q^T = I (out <= fan_in) or Q^T Q = I (otherwise);   b = 0
Shapes    weights (out, in / groups, k, k) of convolutions, taken as (out, fan_in) matrices, one for each
          group, and (out, in) of linear layers; fan_in = in / groups * k * k
Strength  gain > 0, that of the net's activation, not an option here; there is no value that means off
Helps     very deep nets without normalisation: all directions keep their size, not only the mean one
Hurts     nothing known. Where out > fan_in the rows are shorter than `gain`, unlike he's; a layer that widens
          by much then shrinks the signal's mean square
Clashes   every other initialiser and pretrained weights (each sets the same weights: the last one wins)
Source    Saxe, McClelland and Ganguli, Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear
          Neural Networks, 2014, arXiv:1312.6120, with a gain for non-linear nets. Q is from the QR of a
          Gaussian matrix, with the signs that make it uniform (Mezzadri, 2007). As in torch, the matrix of
          a convolution is orthogonal, which does not make the map from picture to picture so
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from convclinic.tricks.initialise._layers import fan_in, set_layers


def orthogonal(rows: int, columns: int, rng: torch.Generator) -> Tensor:
    """(rows, columns) with orthonormal rows, or columns where there are fewer of those, on rng's device.

    >>> q = orthogonal(2, 3, torch.Generator().manual_seed(0))
    >>> torch.allclose(q @ q.T, torch.eye(2), atol=1e-6)
    True
    """
    gaussian = torch.randn(rows, columns, generator=rng, device=rng.device)
    q, r = torch.linalg.qr(gaussian.T if rows < columns else gaussian)
    q = q * r.diagonal().sign()
    return q.T if rows < columns else q


def orthogonal_weight(shape: tuple[int, ...], groups: int, gain: float, rng: torch.Generator) -> Tensor:
    """gain Q for each group of weights (out, in / groups, ...)."""
    parts = [orthogonal(shape[0] // groups, fan_in(shape), rng) for _ in range(groups)]
    return gain * torch.cat(parts).reshape(shape)


@dataclass(frozen=True)
class Orthogonal:
    """Every trainable convolution and linear layer, in the order of the net's modules."""

    slot: ClassVar[str] = "initialise"

    def apply(self, net: nn.Module, rng: torch.Generator, images: Tensor, gain: float) -> None:
        """Set weights and biases in place; `images` is not looked at."""
        set_layers(net, lambda shape, groups: orthogonal_weight(shape, groups, gain, rng))
