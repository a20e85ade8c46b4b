"""Pretrained weights: the net starts from what another one of its kind has learned.

Formula   w at the start = the file's w, wherever names and shapes fit; the rest is initialised afresh
Shapes    tensors of the file as the net has them; a first convolution of three channels also fits one
Strength  file: safetensors, .pth, .npz or ONNX, or timm:NAME for the hub's; sha256: where given, no file with
          another one is taken. There is no value that means off: leave it out
Helps     nearly always, the more the fewer the images and the more alike they are to those of the weights
Hurts     images that have nothing in common with them, where much data and time are at hand: little
Clashes   muon, which gives every filter a length of its own; images that are prepared otherwise than those
          that the weights were trained on
Source    Donahue et al., DeCAF, 2014, arXiv:1310.1531; Girshick et al., Rich feature hierarchies, 2014,
          arXiv:1311.2524, for training on from them. The file is read at the start of training alone: going
          on and predicting need the run folder only. Initialisers then set what nothing was loaded into
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.models._timm import TIMM
from convclinic.models._weights import Matched, fit_into, hub_weights, read_weights


@dataclass(frozen=True)
class Pretrained:
    slot: ClassVar[str] = "transfer"
    kind: ClassVar[Literal["load"]] = "load"
    file: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([0-9a-f]{64})?", self.sha256):
            raise ConvclinicError(
                f"pretrained's sha256 is '{self.sha256}'", fix="give 64 hexadecimal digits, or leave it out"
            )

    def load(self, net: nn.Module) -> Matched:
        """Copy the file's weights into the net, and say what fitted.

        Raises ConvclinicError for a file that is missing, damaged, another one, or of another net.
        """
        if not self.file:
            raise ConvclinicError(
                "pretrained names no file", fix="--set transfer.pretrained.file=FILE, or timm:NAME"
            )
        hub = self.file.startswith(TIMM)
        weights = hub_weights(self.file[len(TIMM) :]) if hub else read_weights(Path(self.file))
        if self.sha256 and weights.sha256 != self.sha256:
            raise ConvclinicError(
                f"{self.file} is not the file that the recipe was made with",
                fix="give that file, or plan anew with this one",
            )
        return fit_into(net, weights)
