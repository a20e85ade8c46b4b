"""Dropout: in training each feature is left out with probability p, so that no other can rely on it.

Formula   training: y = x m / (1 - p),   m = 0 with probability p, else 1, for each element;   testing: y = x
Shapes    any, kept: the input of the layers that the net has marked with an nn.Dropout
Strength  p in [0, 1); 0 is off; 0.5 is the source's for large fully connected layers, 0.1 to 0.2 is usual
          where only the last layer has it
Helps     large fully connected layers (LeNet, AlexNet, VGG); small sets
Hurts     short runs, which do not even fit the training set; feature maps, whose neighbours tell what was
          left out: spatial_dropout is for those
Clashes   batch norm straight behind it (its stored statistics are those of training, with the noise)
Source    Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014; Hinton
          et al., 2012, arXiv:1207.0580. Scaled in training, not in testing as there. The draws come from
          torch's global generator, which the loop scopes by name, on the device of the features. It sets p in
          every nn.Dropout of the net, and so overrules an option of the net for it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.regularise._places import check_p


def set_dropout(net: nn.Module, p: float) -> int:
    """Set p in every nn.Dropout of the net. Returns how many there are."""
    found = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    for module in found:
        module.p = p
    return len(found)


@dataclass(frozen=True)
class Dropout:
    slot: ClassVar[str] = "regularise"
    kind: ClassVar[Literal["noise"]] = "noise"
    OFF: ClassVar[dict[str, object]] = {"p": 0.0}
    USUAL: ClassVar[dict[str, tuple[float, float]]] = {"p": (0.0, 0.8)}
    p: float = 0.5

    def __post_init__(self) -> None:
        check_p("dropout", self.p, usual="0.5")

    def install(self, net: nn.Module) -> None:
        """Set p. Raises ConvclinicError when the net has no place for dropout."""
        if not set_dropout(net, self.p):
            raise ConvclinicError(
                "dropout needs a net with nn.Dropout in it, and this one has none",
                fix="take another net, or spatial_dropout",
            )
