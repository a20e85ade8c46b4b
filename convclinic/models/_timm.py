"""Nets of timm as stages. timm is an optional extra, imported when one of its nets is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.models._staged import known_stage

TIMM = "timm:"  # before the name of one of its nets, where a net of ours or a file could stand
LAST = "final"  # what the net's own classifier would pool


def import_timm() -> Any:
    """The package. Raises ConvclinicError that says what to install where it is missing or broken."""
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ConvclinicError(
            f"nets of timm need the package timm: {error}", fix="pip install 'convclinic[pretrained]'"
        ) from error
    except RuntimeError as error:  # torchvision's operators, beside another build of torch
        raise ConvclinicError(
            f"timm does not import, because torchvision does not fit this torch: {error}",
            fix="install torch and torchvision from one index, such as https://download.pytorch.org/whl/cpu; "
            "or take one of our own nets, such as mobilenet_v2",
        ) from error


class TimmStaged(nn.Module):
    """A net of timm with the interface of `Staged`: its own blocks under `net`, and a fresh `head`."""

    def __init__(self, net: nn.Module, n_classes: int, dropout: float, cut: str) -> None:
        super().__init__()
        info: list[dict[str, Any]] = list(getattr(net, "feature_info", []))
        intermediate = info if hasattr(net, "forward_intermediates") else []
        names = [str(stage["module"]).replace(".", "_") for stage in intermediate]
        self._modules_of = dict(zip(names, (str(stage["module"]) for stage in intermediate), strict=True))
        last = known_stage(cut, [*names, LAST]) if cut else len(names)
        self.stage_names = (*names, LAST)[: last + 1]
        self.net: Any = net
        widths = [int(stage["num_chs"]) for stage in intermediate]
        own: Any = net
        hidden = int(getattr(own, "head_hidden_size", 0) or own.num_features)
        self.maps = dict(zip(self.stage_names, (*widths, hidden), strict=False))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.maps[self.stage_names[-1]], n_classes)
        if self.stage_names[-1] != LAST:
            own.prune_intermediate_layers([last], prune_norm=True, prune_head=True)

    def stages(self, images: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Feature maps (b, c, h, w) behind the wanted stages; the last as the net pools it, (b, c, 1, 1)."""
        order = sorted(known_stage(name, self.stage_names) for name in wanted)
        inner = [position for position in order if self.stage_names[position] != LAST]
        whole = len(inner) < len(order)
        if not inner:
            return {LAST: self._last(self.net.forward_features(images))}
        out = self.net.forward_intermediates(
            images, indices=inner, intermediates_only=not whole, stop_early=not whole
        )
        final, maps = out if whole else (None, out)
        found = {self.stage_names[k]: each for k, each in zip(inner, maps, strict=True)}
        return {**found, LAST: self._last(final)} if final is not None else found

    def _last(self, maps: Tensor) -> Tensor:
        return self.net.forward_head(maps, pre_logits=True)[:, :, None, None]

    def pooled(self, maps: Tensor) -> Tensor:
        """(b, c): the mean of each map."""
        return maps.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        last = self.stage_names[-1]
        return self.head(self.dropout(self.pooled(self.stages(images, (last,))[last])))

    def depth_of(self, parameter: str) -> int:
        """The first stage that holds a parameter or comes after it, by its name; see `Staged.depth_of`."""
        room, _, rest = parameter.partition(".")
        if room == "head":
            return len(self.stage_names)
        order = [name for name, _ in self.net.named_modules()]
        owner = order.index(rest.rpartition(".")[0])
        for position, name in enumerate(self.stage_names[:-1]):
            if owner <= _end(order, self._modules_of[name]):
                return position
        return len(self.stage_names) - 1

    def origin(self, name: str) -> str | None:
        """The name in timm's own files of weights."""
        room, _, rest = name.partition(".")
        return rest if room == "net" else None


def _end(order: Sequence[str], module: str) -> int:
    """Position of the last module inside of `module`, or of itself."""
    return max(k for k, name in enumerate(order) if name == module or name.startswith(f"{module}."))


def timm_staged(name: str, channels: int, n_classes: int, dropout: float, cut: str) -> TimmStaged:
    """timm's net `name` without weights. Raises ConvclinicError for a name that it does not know."""
    timm = import_timm()
    if not timm.is_model(name.partition(".")[0]):
        raise ConvclinicError(f"timm has no net '{name}'", fix=nearest(name, timm.list_models()))
    net = timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels)
    return TimmStaged(net, n_classes, dropout, cut)
