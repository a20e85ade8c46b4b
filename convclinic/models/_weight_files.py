"""Tensors out of the kinds of files that weights come in, and what a file's header says beside them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.models._onnx import read_onnx

Tensors = dict[str, Tensor]
WRAPPED = ("state_dict", "model", "model_state_dict", "net", "state_dict_ema")  # keys that hold the weights
PREFIXES = ("module.", "model.", "backbone.", "encoder.", "_orig_mod.", "net.")


def _safetensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        said = dict(file.metadata() or {})
        return {name: file.get_tensor(name) for name in file.keys()}, said  # noqa: SIM118 (not a mapping)


def _torch(path: Path) -> tuple[Tensors, dict[str, Any]]:
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConvclinicError(
            f"{path} holds more than tensors, and running what is in it would not be safe",
            fix="save its state_dict() alone, or convert it to safetensors",
        ) from error
    for key in WRAPPED:
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    if not isinstance(value, Mapping):
        raise ConvclinicError(f"{path} holds a {type(value).__name__}, not a state_dict")
    return {str(name): each for name, each in value.items() if isinstance(each, Tensor)}, {}


def _npz(path: Path) -> tuple[Tensors, dict[str, Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}, {}


def _onnx(path: Path) -> tuple[Tensors, dict[str, Any]]:
    return read_onnx(path), {}


READERS: dict[str, Callable[[Path], tuple[Tensors, dict[str, Any]]]] = {
    ".safetensors": _safetensors,
    **dict.fromkeys((".pth", ".pt", ".th", ".bin", ".ckpt"), _torch),
    ".npz": _npz,
    ".onnx": _onnx,
}


def without_prefix(tensors: Tensors) -> Tensors:
    """Without a prefix that all names share, such as `module.` of nn.DataParallel."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            return without_prefix({name[len(prefix) :]: value for name, value in tensors.items()})
    return tensors
