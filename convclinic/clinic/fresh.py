"""Whether weights still look as an initialiser draws them, and which units are copies of one another.

A fresh layer is uniform up to a known bound, or normal with a known spread, or constant, and its biases are
constant or PyTorch's own. Training breaks all of these at once; where in doubt a layer counts as touched.

Source  Glorot and Bengio 2010; He et al. 2015, arXiv:1502.01852; PyTorch's reset_parameters
"""

from __future__ import annotations

import itertools
import math
from collections import Counter

import torch
from torch import Tensor

EQUAL = 1e-4  # relative distance up to which two gradients are the same, summed in another order
EXACT = 1e-4  # relative; float16 aside, a bound is met far better
SIGMAS = 4.0  # of sampling error that a fresh draw may be off
ENTRIES = 2**20  # of a weight that its moments are taken from
FEW = 4096  # weights; fewer tell a normal from a trained layer only together with constant biases
EDGE = 256  # rows and columns that singular values are taken from
OVER_EDGE = 1.0  # the largest one's own spread falls with n to the power of -2/3 (Tracy and Widom, 1994)
MISSED = 10.0  # the largest of n uniform draws is within 10 / n of their bound, all but once in e^10 times
COLUMNS = 64  # of a row that are compared before whole rows are
GAINS = (1.0, math.sqrt(2.0), 5.0 / 3.0, math.sqrt(2.0 / 1.04), 0.1)  # linear, ReLU, tanh, leaky ReLU, small
STDS = (0.001, 0.01, 0.02, 0.05, 0.1, 1.0)  # written into many recipes
TRUNCATED = 0.87963  # std of a normal cut at two of its own standard deviations
KURTOSES = {3.0: 1.0, 2.3687: TRUNCATED}  # of a normal and of one so cut: spread over the nominal spread


def is_fresh(weight: Tensor, bias: Tensor | None, groups: int = 1) -> bool:
    """Whether weight (units, fan-in, ...) and bias (units) look like a draw of an initialiser."""
    values = weight.detach().float().cpu()
    fan_in = max(1, values[0].numel())
    if not values.numel() or not bool(torch.isfinite(values).all()):
        return False
    if bias is not None and not _fresh_bias(bias.detach().float().cpu(), fan_in):
        return False
    size = float(values.abs().max())
    if float(values.std(correction=0)) <= EXACT * size or size == 0:
        return True
    fan_out = max(1, len(values) * fan_in // max(1, values.shape[1]) // groups) if values.ndim > 1 else 1
    fans = (fan_in, fan_out, (fan_in + fan_out) / 2, len(values))
    if _uniform(values, [1 / math.sqrt(fan_in)], size):
        return True
    if values.numel() < FEW and (bias is None or not bool((bias == bias[0]).all())):
        return False
    bounds = [gain * math.sqrt(3 / fan) for gain, fan in itertools.product(GAINS, fans)]
    return _uniform(values, bounds, size) or (_normal(values, fans) and _without_structure(values))


def _fresh_bias(bias: Tensor, fan_in: int) -> bool:
    constant = bool((bias == bias[0]).all())
    bound, size = 1 / math.sqrt(fan_in), float(bias.abs().max())
    return constant or bound * (1 - MISSED / len(bias)) <= size <= bound * (1 + EXACT)


def _uniform(values: Tensor, bounds: list[float], size: float) -> bool:
    slack = MISSED / values.numel() + EXACT
    if not any(bound * (1 - slack) <= size <= bound * (1 + EXACT) for bound in bounds):
        return False
    n = min(values.numel(), ENTRIES)
    return abs(_kurtosis(values) - 1.8) <= SIGMAS * 1.2 / math.sqrt(n)  # 1.2 by simulation


def _normal(values: Tensor, fans: tuple[float, ...]) -> bool:
    n = min(values.numel(), ENTRIES)
    kurtosis = _kurtosis(values)
    std = float(values.square().mean().sqrt())
    stds = [*STDS, *(gain / math.sqrt(fan) for gain, fan in itertools.product(GAINS, fans))]
    for normal, shrunk in KURTOSES.items():
        if abs(kurtosis - normal) > SIGMAS * math.sqrt(24.0 / n):
            continue
        slack = SIGMAS * math.sqrt((normal - 1) / (4 * n)) + EXACT
        if any(abs(std - share * nominal) <= slack * std for nominal in stds for share in {1.0, shrunk}):
            return True
    return False


def _without_structure(values: Tensor) -> bool:
    """The largest singular value of independent draws lies at the edge of Marchenko and Pastur, sqrt(n) +
    sqrt(m) times their spread; what training adds has few directions, and stands out."""
    matrix = values.flatten(1)[:EDGE, :EDGE].double()
    n, m = matrix.shape
    std = float(values.square().mean().sqrt())
    edge = std * (math.sqrt(n) + math.sqrt(m))
    return float(torch.linalg.svdvals(matrix)[0]) <= edge * (1 + OVER_EDGE * min(n, m) ** (-2 / 3))


def _kurtosis(values: Tensor) -> float:
    flat = values.reshape(-1)
    flat = flat[:: -(-len(flat) // ENTRIES)].double()
    flat = flat - flat.mean()
    return float(flat.pow(4).mean() / flat.square().mean().square().clamp_min(1e-60))


def copies(rows: Tensor) -> list[list[int]]:
    """Groups of two and more positions whose rows (n, ...) are exactly equal.

    >>> copies(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]))
    [[0, 2]]
    """
    flat = rows.detach().flatten(1)
    some = flat[:, :: max(1, -(-flat.shape[1] // COLUMNS))].float().cpu().numpy()
    marks = [row.tobytes() for row in some]
    common = {mark for mark, number in Counter(marks).items() if number > 1}
    groups: dict[bytes, list[int]] = {}
    for position, mark in enumerate(marks):
        if mark in common:
            groups.setdefault(flat[position].float().cpu().numpy().tobytes(), []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def share_alike(rows: Tensor) -> float:
    """Share of rows that equal another row; 0 for a single one."""
    return sum(map(len, copies(rows))) / max(1, len(rows)) if len(rows) > 1 else 0.0


def share_twins(weights: Tensor, gradients: Tensor) -> float:
    """Share of units (rows) with the weights and the gradient of another unit: they stay equal for ever.

    Equal gradients alone say nothing: they are all zero behind a layer that starts at zero.
    """
    twins = 0
    for group in copies(weights) if len(weights) > 1 else []:
        rest = gradients[group].flatten(1).double()
        while len(rest) > 1:
            near = (rest - rest[0]).norm(dim=1) <= EQUAL * rest[0].norm()
            near[0] = True  # also where it is no number
            twins += int(near.sum()) if int(near.sum()) > 1 else 0
            rest = rest[~near]
    return twins / max(1, len(weights))
