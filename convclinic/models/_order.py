"""Weights under names that somebody else has chosen: layers are known by their order and their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


def by_order(own: Tensors, file: Tensors) -> dict[str, str]:
    """The file's name for each of the net's, where the layers with weights of both come in one order with
    the same shapes. The file may go on where the net ends. Empty as soon as one layer does not fit its
    partner, as then nothing says which belong together; only the last, the head, may be another or missing.
    """
    mine, theirs = _layers(own), list(_layers(file).values())
    pairs: dict[str, str] = {}
    for position, layer in enumerate(mine.values()):
        partner = theirs[position] if position < len(theirs) else {}
        if not _alike({k: own[n] for k, n in layer.items()}, {k: file[n] for k, n in partner.items()}):
            return pairs if position == len(mine) - 1 else {}
        pairs |= {name: partner[role] for role, name in layer.items()}
    return pairs


def unfolded(file: Tensors, eps: float) -> dict[str, Tensor]:
    """Convolutions with a bias as convolutions without one, each with a batch norm that adds it: for files
    whose exporter has folded the norms into the convolutions. In evaluation mode the net is the same; the
    statistics are none of any data, so these norms must stay frozen.
    """
    out: dict[str, Tensor] = {}
    for layer, roles in _layers(file).items():
        bias = file[roles["bias"]] if "bias" in roles else None
        if bias is None or "weight" not in roles or file[roles["weight"]].ndim != 4:
            out |= {name: file[name] for name in roles.values()}
            continue
        one, norm = torch.ones_like(bias), f"{layer}.norm"
        out[roles["weight"]] = file[roles["weight"]]
        out |= {f"{norm}.weight": one, f"{norm}.bias": bias}
        out |= {f"{norm}.running_mean": one * 0, f"{norm}.running_var": one - eps}
    return out


def _layers(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """By layer, in order: what is weight, bias, ... in it."""
    layers: dict[str, dict[str, str]] = {}
    for name in names:
        layer, _, role = name.rpartition(".")
        layers.setdefault(layer, {})[role] = name
    return layers


def _alike(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(_same(one[k].shape, other[k].shape) for k in one)


def _same(one: torch.Size, other: torch.Size) -> bool:
    """Equal, but for the channels of the images, which may be others."""
    return one == other or (len(one) == 4 and one[0] == other[0] and one[2:] == other[2:] and other[1] == 3)
