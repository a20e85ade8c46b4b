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
    """`row` and `arrays` hold what is on the host already; `tensors` what is still on a device."""

    row: dict[str, float]
    arrays: dict[str, Array] = field(default_factory=dict[str, Array])
    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def add(self, name: str, value: Tensor | float | None) -> None:
        """A scalar or array, to be kept as it is now; a plain number goes into the row, None is left out."""
        if isinstance(value, Tensor):
            value = value.detach()
            if value.device.type == "cpu":
                self.arrays[name] = value.to(torch.float32, copy=True).numpy()
            else:
                self.tensors[name] = value
        elif value is not None:
            self.row[name] = float(value)


def fetch(block: list[Taken]) -> None:
    """Bring the tensors of a whole block to the host, with one transfer for all that are on a device."""
    flat = [tensor.reshape(-1).to(torch.float32) for taken in block for tensor in taken.tensors.values()]
    if not flat:
        return
    values = torch.cat([tensor.to(flat[0].device) for tensor in flat]).cpu().numpy()
    begin = 0
    for taken in block:
        for name, tensor in taken.tensors.items():
            taken.arrays[name] = values[begin : begin + tensor.numel()].reshape(tuple(tensor.shape))
            begin += tensor.numel()
        taken.tensors.clear()


def hard(targets: Tensor | None) -> Tensor | None:
    """Class numbers (b,) of integer, one-hot or soft targets; None of anything else."""
    if targets is None or not targets.ndim:
        return None
    if targets.ndim == 1 and not targets.is_floating_point() and not targets.is_complex():
        return targets.detach().long()
    if targets.ndim == 2 and targets.shape[1] > 1:
        return targets.detach().argmax(1)
    return None


def of_outputs(logits: Array, labels: Array | None, soft: Array | None) -> dict[str, float]:
    """What a measured step keeps of logits (b, k): spreads, the share of the commonest prediction, and beside
    `labels` (b,) or `soft` targets (b, k) cross-entropy, accuracy and sure mistakes. Labels outside of the
    range are left aside."""
    b, k = logits.shape
    with np.errstate(invalid="ignore", over="ignore"):  # of a net that has diverged
        shifted = logits - logits.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        kept = {
            "spread": float(logits.std(1, ddof=1).mean()) if k > 1 else 0.0,
            "between": float(logits.std(0, ddof=1).mean()) if b > 1 else math.nan,
        }
    predictions = logits.argmax(1)
    kept["top"] = float(np.bincount(predictions, minlength=k).max()) / b
    if labels is None or len(labels) != b:
        return kept
    inside = (labels >= 0) & (labels < k)
    numbers = np.where(inside, labels, 0).astype(np.int64)
    with np.errstate(invalid="ignore"):
        if soft is not None and soft.shape == logits.shape:
            losses = -(soft * log_p).sum(1)
        else:
            losses = -log_p[np.arange(b), numbers]
    number = int(inside.sum())
    wrong = predictions != numbers
    kept["cross_entropy"] = float(losses[inside].sum()) / number if number else math.nan
    kept["accuracy"] = float((inside & ~wrong).sum()) / number if number else math.nan
    sure = log_p.max(1) > math.log(SURE)
    kept["sure_wrong"] = float((sure & inside & wrong).sum()) / number if number else math.nan
    return kept


def small(images: Tensor) -> Tensor | None:
    """Thumbnails as rows, of images (b, c, h, w); other inputs have none."""
    if images.ndim != 4 or not images.is_floating_point():
        return None
    return F.adaptive_avg_pool2d(images.detach().float(), SIDE).flatten(1)


def scalar(value: Any) -> Tensor | float:
    """The loss as the loop gives it: a tensor of any shape or a number."""
    if not isinstance(value, Tensor):
        return float(value)
    mean = value.detach() if value.numel() == 1 else value.detach().float().mean()
    return float(mean) if mean.device.type == "cpu" else mean.float().reshape(())
