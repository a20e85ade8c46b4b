"""Weights that somebody else has trained: read from a file or from the hub, and fitted into a net.

    weights = read_weights(Path("mobilenet_v2.npz"))
    matched = fit_into(net, weights)        # what found its place, what did not
    weights.source.mean                     # what the images must look like, for the features to be the same

Files: safetensors, PyTorch's .pth .pt .th .bin (read with weights_only, so nothing in them is run), NumPy's
.npz, ONNX (by its graph; extra [onnx]). Names: a net's own, under any prefix; and others that stand in
the same order, such as timm's for torchvision's MobileNetV2.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError, nearest
from convclinic.models._order import by_order, unfolded
from convclinic.models._timm import TIMM, import_timm
from convclinic.models._weight_files import READERS, Tensors, without_prefix


class HubUnreachable(ConvclinicError):
    """The net is known, and its weights could not be had."""


FOLDED = "by order and shape; batch norm is folded into the convolutions, so it must stay frozen"
COUNTERS = "num_batches_tracked"  # of batch norm: no weight, and absent from many files


@dataclass(frozen=True)
class Source:
    """How images were fed when the weights were trained.

    mean and std: of pixels in [0, 1], in RGB whatever `order` says; order: of the channels as the first layer
    takes them; side: pixels of the images; sides are `multiple` n + `plus`; known: where this is known from.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    order: str = "rgb"
    side: int = 224
    multiple: int = 32
    plus: int = 0
    model: str = ""
    known: str = "assumed: ImageNet's usual numbers, as the file says nothing"

    def fitting(self, side: float) -> int:
        """The side nearest to `side` that the net likes.

        >>> Source(plus=1).fitting(200)
        193
        """
        return max(1, round((side - self.plus) / self.multiple)) * self.multiple + self.plus


IMAGENET = Source()
HALVES = (0.5, 0.5, 0.5)
CAFFE = (123.68 / 255, 116.779 / 255, 103.939 / 255)
ONES = (1 / 255, 1 / 255, 1 / 255)

KNOWN: tuple[tuple[str, Source], ...] = (
    # TensorFlow sees [-1, 1]; its "same" padding is symmetric only where the side is odd at every halving
    (r"mobilenet.*_tf", Source(HALVES, HALVES, "rgb", 225, 32, 1, "mobilenet_v2")),
    (r"squeezenet1_1.*rgb255mean", Source(CAFFE, ONES, "rgb", 224, 32, 0, "squeezenet1_1")),
    (r"squeezenet1_1", replace(IMAGENET, model="squeezenet1_1")),
    (r"mobilenet_?v2", replace(IMAGENET, model="mobilenet_v2")),
    # Idelbayev's nets for CIFAR-10 (github.com/akamaster/pytorch_resnet_cifar10)
    *(
        (rf"resnet{d}-\w+\.th$", Source(side=32, multiple=8, model=f"resnet{d}"))
        for d in (20, 32, 44, 56, 110)
    ),
    *((rf"resnet{d}", replace(IMAGENET, model=f"resnet{d}")) for d in (18, 34, 50)),
)
"""What is known about files by their names; the first pattern that fits counts."""


@dataclass(frozen=True)
class Weights:
    """Tensors by name, float32, and where they are from."""

    tensors: Tensors
    source: Source
    format: str
    sha256: str
    path: str


@dataclass(frozen=True)
class Matched:
    """What became of each tensor: names of the net's that were loaded, that were not (missing: they keep
    their random values), that had another shape (reinitialised), and names of the file's that were not
    used."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    reinitialised: tuple[str, ...]
    unused: tuple[str, ...]
    how: str

    @property
    def fresh(self) -> tuple[str, ...]:
        """The net's tensors that hold random values."""
        return (*self.missing, *self.reinitialised)

    @property
    def folded(self) -> bool:
        """Whether the file's norms lay in its convolutions: their statistics are none of any images."""
        return self.how == FOLDED

    def words(self) -> str:
        """One line a person can act on."""
        parts = [f"{len(self.loaded)} tensors loaded ({self.how})"]
        for what, names in (
            ("missing from the file", self.missing),
            ("of another shape, so re-initialised", self.reinitialised),
            ("in the file but not in the net", self.unused),
        ):
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                parts.append(f"{len(names)} {what}: {', '.join(names[:3])}{more}")
        return "; ".join(parts)


def read_weights(path: Path) -> Weights:
    """Everything in a file of weights.

    Raises ConvclinicError where it is missing, damaged, of an unknown kind, or holds no tensors. A file
    `NAME.json` beside it may say `mean`, `std`, `order`, `side`, `multiple`, `plus` and `model`.
    """
    if not path.is_file():
        raise ConvclinicError(
            f"no file of weights {path}", fix="give a .safetensors, .pth, .npz or .onnx file"
        )
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise ConvclinicError(
            f"{path.name}: '{path.suffix}' is no kind of weights that is known",
            fix=nearest(path.suffix, READERS),
        )
    try:
        plain, said = read(path)
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        RuntimeError,
        zipfile.BadZipFile,
        SafetensorError,
    ) as error:
        raise ConvclinicError(f"{path} cannot be read: {error}", fix="copy or download it again") from error
    tensors = {name: value.float() for name, value in plain.items() if value.is_floating_point()}
    if not tensors:
        raise ConvclinicError(f"{path} holds no tensors", fix="give a file of a net's weights")
    broken = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ConvclinicError(
            f"{path}: {broken[0]} holds values that are no numbers", fix="download it again"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Weights(without_prefix(tensors), _source(path, said), path.suffix.lower()[1:], digest, str(path))


def _source(path: Path, said: Mapping[str, Any]) -> Source:
    """What the file, or one beside it, says about its images; else what is known of files of that name."""
    known = next((source for pattern, source in KNOWN if re.search(pattern, path.name)), IMAGENET)
    if known.model:
        known = replace(known, known=f"known for files named like {path.name}")
    beside = path.with_name(path.name + ".json")
    if beside.exists():
        try:
            said = json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConvclinicError(f"{beside} cannot be read: {error}") from error
    elif "pretrained_cfg" in said:
        said = json.loads(said["pretrained_cfg"])
    else:
        return known
    where = beside.name if beside.exists() else "the file's own header"
    return replace(known, **_told(said), known=f"said by {where}")


def _told(said: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {name: tuple(map(float, said[name])) for name in ("mean", "std") if name in said}
    told |= {name: said[name] for name in ("order", "side", "multiple", "plus", "model") if name in said}
    if "side" not in told and "input_size" in said:  # timm's word
        told["side"] = int(said["input_size"][-1])
    if told.get("order", "rgb") not in ("rgb", "bgr"):
        raise ConvclinicError(f"the order of channels is '{told['order']}'", fix="write rgb or bgr")
    return told


def hub_weights(name: str) -> Weights:
    """The weights that timm's hub has for its net `name`.

    Raises ConvclinicError where timm is missing, does not know the net, or there is no network.
    """
    timm = import_timm()
    if not timm.is_model(name.partition(".")[0]):
        raise ConvclinicError(f"timm has no net '{name}'", fix=nearest(name, timm.list_models()))
    try:
        net = timm.create_model(name, pretrained=True)
    except (
        Exception
    ) as error:  # of the network stack, of the hub, of the file that came: all mean the same here
        words = " ".join(str(error).split())[:200]
        raise HubUnreachable(
            f"no weights for '{name}' from the hub: {words}",
            fix="check the network, or download the file elsewhere and give it with --weights FILE",
        ) from error
    cfg = net.pretrained_cfg
    source = replace(
        IMAGENET,
        **_told(cfg),
        model=f"{TIMM}{name}",
        known=f"said by timm for {cfg.get('hf_hub_id') or name}",
    )
    tensors = {key: value.float() for key, value in net.state_dict().items() if value.is_floating_point()}
    mark = hashlib.sha256(b"".join(v.numpy().tobytes() for v in tensors.values())).hexdigest()
    return Weights(tensors, source, "hub", mark, f"{TIMM}{name}")


@torch.no_grad()
def fit_into(net: nn.Module, weights: Weights) -> Matched:
    """Copy into `net` (a Staged, or any module) what fits; what does not keeps its values.

    First by name, and where hardly any name is known by order: convolutions, norms and linear layers stand in
    files of weights in the order of the net, whoever has named them; each must then fit. Norms that an
    exporter has folded into the convolutions are taken out again. The first layer is summed over its input
    channels for gray images, and repeated for more than three. Raises ConvclinicError when so little fits
    that the file must be of another net.
    """
    own = {name: value for name, value in net.state_dict().items() if not name.endswith(COUNTERS)}
    file, how = {n: v for n, v in weights.tensors.items() if not n.endswith(COUNTERS)}, "by name"
    # a file that this program wrote has the net's own names
    wanted = {name: name if name in file else _origin(net, name) for name in own}
    names = {name: origin for name, origin in wanted.items() if origin is not None and origin in file}
    if len(names) < len([o for o in wanted.values() if o]) / 2:
        known = {name: value for name, value in own.items() if wanted[name] is not None}
        names, file, how = _paired(net, known, file)
    loaded, shaped = [], []
    for name, origin in names.items():
        value = _adapted(file[origin], own[name], weights.source.order, name == next(iter(own)))
        if value is None:
            shaped.append(name)
            continue
        own[name].copy_(value)
        loaded.append(name)
    body = [name for name in own if _origin(net, name) is not None and not name.startswith("head.")]
    if len([name for name in loaded if name in body]) < len(body) / 2:
        raise ConvclinicError(
            f"{weights.path} is of another net: {len(loaded)} of {len(own)} tensors fit",
            fix="name the net with --backbone; names in the file begin with " + ", ".join(list(file)[:3]),
        )
    used = set(names.values())
    missing = tuple(name for name in own if name not in names)
    unused = tuple(name for name in file if name not in used)
    return Matched(tuple(loaded), missing, tuple(shaped), unused, how)


def _origin(net: nn.Module, name: str) -> str | None:
    origin: Callable[[str], str | None] | None = getattr(net, "origin", None)
    return name if origin is None else origin(name)


def _paired(net: nn.Module, own: Tensors, file: Tensors) -> tuple[dict[str, str], Tensors, str]:
    """Names by order, the file's tensors, which may have to be taken apart first, and how it was done."""
    epsilons = [float(module.eps) for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    pairs = by_order(own, file)
    if pairs or not epsilons or any(name.endswith(".running_mean") for name in file):
        return pairs, file, "by order and shape"
    apart = unfolded(file, epsilons[0])
    return by_order(own, apart), apart, FOLDED


def _adapted(value: Tensor, place: Tensor, order: str, first: bool) -> Tensor | None:
    """The tensor as the place takes it; None where it does not fit."""
    if first and value.ndim == 4 and value.shape[1] == 3:
        value = value.flip(1) if order == "bgr" else value
        channels = place.shape[1]
        if channels == 1:
            value = value.sum(1, keepdim=True)
        elif channels != 3:
            value = value.repeat(1, math.ceil(channels / 3), 1, 1)[:, :channels] * (3 / channels)
    if value.shape == place.shape:
        return value
    flat = value.reshape(value.shape[:2]) if value.ndim == 4 and value.shape[2:] == (1, 1) else value
    return flat if flat.shape == place.shape else None
