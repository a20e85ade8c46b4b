"""What the nets are put together from: places for noise, convolutions with their norm, checks of options."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable

from jaxtyping import Float
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Layers

Norm = Callable[[int], nn.Module]


class BranchPlace(nn.Identity):
    """Where stochastic depth may drop a residual branch: on the branch's output, before the addition."""


class MapsPlace(nn.Identity):
    """Where spatial dropout may drop whole maps: after a stage of convolutions."""


def needs_bias(norm: nn.Module) -> bool:
    """Whether the layer before `norm` needs a bias: not where the norm has one of its own."""
    return getattr(norm, "bias", None) is None


def conv_norm(
    c_in: int,
    c_out: int,
    kernel: int,
    norm: Norm,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
) -> tuple[nn.Conv2d, nn.Module]:
    """A convolution and the norm after it; same padding for odd kernels unless told otherwise."""
    after = norm(c_out)
    conv = nn.Conv2d(
        c_in,
        c_out,
        kernel,
        stride=stride,
        padding=kernel // 2 if padding is None else padding,
        groups=groups,
        bias=needs_bias(after),
    )
    return conv, after


def conv_unit(
    c_in: int,
    c_out: int,
    kernel: int,
    layers: Layers,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
) -> nn.Sequential:
    """A convolution, the recipe's norm (none where the choice is the net's own) and the activation."""
    conv, norm = conv_norm(
        c_in, c_out * layers.pieces, kernel, layers.norm or nn.Identity, stride, padding, groups
    )
    return nn.Sequential(OrderedDict(conv=conv, norm=norm, act=layers.activation(c_out)))


def linear_unit(c_in: int, c_out: int, layers: Layers) -> nn.Sequential:
    """A linear layer and its activation. Norms are for maps, so there is none."""
    linear = nn.Linear(c_in, c_out * layers.pieces)
    return nn.Sequential(OrderedDict(linear=linear, act=layers.activation(c_out)))


def widened(x: Float[Tensor, "b c h w"], pieces: int) -> Float[Tensor, "b d h w"]:
    """Each map `pieces` times over, side by side: a shortcut that is added before an activation of pieces."""
    return x if pieces == 1 else x.repeat_interleave(pieces, 1)


def start_closed(norm: nn.Module) -> None:
    """Let a residual branch that ends in `norm` start at zero, where the norm has a scale to do it with."""
    scale = getattr(norm, "weight", None)
    if isinstance(scale, Tensor):
        nn.init.zeros_(scale)


def scaled(maps: int, width: float) -> int:
    """`maps` times `width`, as an even number, so that two groups can share it."""
    return max(2, 2 * round(maps * width / 2))


def check_size(x: Tensor, least: int, net: str) -> None:
    """Raise ConvclinicError when images (b, c, h, w) are too small for the net."""
    height, width = x.shape[2:]
    if min(height, width) < least:
        raise ConvclinicError(
            f"{net} needs images of at least {least} x {least} pixels, not {height} x {width}",
            fix="set data.height and data.width to more, or choose another net",
        )


def check_dropout(p: float) -> None:
    """Raise ConvclinicError unless `p` is a probability below one."""
    if not 0 <= p < 1:
        raise ConvclinicError(f"net.dropout must lie in [0, 1), not {p}", fix="0 is off, 0.5 is usual")


def check_width(width: float) -> None:
    """Raise ConvclinicError unless `width` is a finite number above zero."""
    if not 0 < width < math.inf:
        raise ConvclinicError(f"net.width must be above 0, not {width}", fix="1 is the paper's net")


def check_depth(depth: int, known: Iterable[int]) -> None:
    """Raise ConvclinicError unless `depth` is one of the paper's."""
    if depth not in known:
        allowed = ", ".join(map(str, known))
        raise ConvclinicError(f"net.depth must be one of {allowed}, not {depth}")
