"""One observed step as tensors on the device: taken at once, fetched to the host in blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from convclinic.clinic.data_probe import SIDE
from convclinic.clinic.label_watch import SURE

Array = NDArray[np.float32]


@dataclass
class Taken:
    """`row` holds what is known on the host already; `tensors` what is still on the device."""

    row: dict[str, float]
    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def add(self, name: str, value: Tensor | float | None) -> None:
        """A scalar or array; a plain number goes into the row, None is left out."""
        if isinstance(value, Tensor):
            self.tensors[name] = value.detach()
        elif value is not None:
            self.row[name] = float(value)


def fetch(block: list[Taken]) -> list[dict[str, Array]]:
    """The tensors of a whole block on the host, with one transfer for each kind of device."""
    flat = [tensor.reshape(-1).to(torch.float32) for taken in block for tensor in taken.tensors.values()]
    if not flat:
        return [{} for _ in block]
    device = max((tensor.device for tensor in flat), key=lambda device: device.type != "cpu")
    values = torch.cat([tensor.to(device) for tensor in flat]).cpu().numpy()
    out: list[dict[str, Array]] = []
    begin = 0
    for taken in block:
        arrays: dict[str, Array] = {}
        for name, tensor in taken.tensors.items():
            arrays[name] = values[begin : begin + tensor.numel()].reshape(tuple(tensor.shape))
            begin += tensor.numel()
        out.append(arrays)
    return out


def hard(targets: Tensor | None) -> Tensor | None:
    """Class numbers (b,) of integer, one-hot or soft targets; None of anything else."""
    if targets is None or not targets.ndim:
        return None
    if targets.ndim == 1 and not targets.is_floating_point() and not targets.is_complex():
        return targets.detach().long()
    if targets.ndim == 2 and targets.shape[1] > 1:
        return targets.detach().argmax(1)
    return None


def of_outputs(logits: Tensor, targets: Tensor | None) -> dict[str, Tensor]:
    """What a measured step keeps of logits (b, k): spreads, the commonest prediction, and beside targets
    cross-entropy, accuracy and sure mistakes. Labels outside of the range are left aside."""
    logits = logits.detach().float()
    b, k = logits.shape
    log_p = F.log_softmax(logits, 1)
    predictions = logits.argmax(1)
    kept = {
        "spread": logits.std(1).mean() if k > 1 else logits.new_zeros(()),
        "between": logits.std(0).mean() if b > 1 else logits.new_full((), math.nan),
        "top": torch.bincount(predictions, minlength=k).max() / b,
        "predictions": predictions,
    }
    labels = hard(targets)
    if labels is None or targets is None or len(labels) != b:
        return kept
    inside = (labels >= 0) & (labels < k)
    if targets.ndim == 2 and targets.shape[1] == k:
        losses = -(targets.detach().float() * log_p).sum(1)
    else:
        losses = -log_p.gather(1, labels.clamp(0, k - 1)[:, None])[:, 0]
    number = inside.sum()
    kept["cross_entropy"] = torch.where(inside, losses, 0.0).sum() / number
    right = inside & (predictions == labels)
    kept["accuracy"] = right.sum() / number
    sure = log_p.amax(1) > math.log(SURE)
    kept["sure_wrong"] = (sure & inside & ~right).sum() / number
    return kept


def small(images: Tensor) -> Tensor | None:
    """Thumbnails as rows, of images (b, c, h, w); other inputs have none."""
    if images.ndim != 4 or not images.is_floating_point():
        return None
    return F.adaptive_avg_pool2d(images.detach().float(), SIDE).flatten(1)


def scalar(value: Any) -> Tensor | float:
    """The loss as the loop gives it: a tensor of any shape or a number."""
    if isinstance(value, Tensor):
        return value.detach().float().mean()
    return float(value)
