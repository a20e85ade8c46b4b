"""Reading a model file, which may come from anyone.

Nothing in it is pickled, and nothing is allocated for what its header merely claims, so a hostile file can at
worst be refused.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from convclinic.ground.errors import ConvclinicError
from convclinic.joint import Ensemble, joined
from convclinic.model import Model, bare_net
from convclinic.recipe import Recipe

FORMAT = 3  # ensembles with a head; 2: without, 1: what has one net only
MOST_PIXELS = 2**22  # an image: a file that asks for more is refused


def load(path: Path, device: torch.device | None = None) -> Model:
    """Read a model file, or the one in a run folder.

    Raises ConvclinicError for a file that is missing, truncated, not safetensors, of another program, of
    a newer version, or whose tensors do not fit the net its recipe names: one blank image must pass.
    """
    if path.is_dir():
        if not (path / "recipe.json").exists():
            raise ConvclinicError(f"{path} is not a run folder of convclinic", fix="it has no recipe.json")
        if not (path / "model.safetensors").exists():
            raise ConvclinicError(
                f"{path} has no model yet", fix=f"finish it with `convclinic resume {path}`"
            )
        path = path / "model.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("convclinic")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise ConvclinicError(f"no model file {path}") from error
    except (SafetensorError, OSError, struct.error) as error:
        raise ConvclinicError(
            f"{path} is not a readable model file: {error}", fix="copy or train it again"
        ) from error
    if header is None:
        raise ConvclinicError(f"{path} is a safetensors file of another program", fix="give a convclinic run")
    model = _assemble(path, _header(path, header), tensors)
    model.net.to(device or torch.device("cpu"))
    return model


def _header(path: Path, text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
        version = int(header["format"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConvclinicError(f"the header of {path} is damaged: {error}") from error
    if version > FORMAT:
        raise ConvclinicError(
            f"{path} has format {version}; this convclinic reads up to {FORMAT}", fix="upgrade convclinic"
        )
    return header


def _assemble(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> Model:
    try:
        model = _members(path, header, tensors) if "members" in header else _single(header, tensors)
        shape = model.recipe.data
        blank = np.zeros((1, shape.height, shape.width, shape.channels), np.uint8)
        probabilities, threshold = model.probabilities(model.logits(blank)), model.threshold
    except Exception as error:  # what a constructor makes of a hostile value can be anything
        words = " ".join(str(error).split())[:300]
        raise ConvclinicError(
            f"the parts of {path} do not fit together: {type(error).__name__}: {words}",
            fix="copy or train it again",
        ) from error
    if not np.isfinite([*probabilities[0], threshold]).all():
        raise ConvclinicError(f"the net in {path} gives no numbers", fix="train it again, with a smaller LR")
    return model


def _members(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> Ensemble:
    parts = [
        _assemble(path, one, _named(tensors, f"members.{number}."))
        for number, one in enumerate(list(header["members"]))
    ]
    ensemble = joined(parts, [float(weight) for weight in header["weights"]], dict(header["facts"]))
    if "reads" not in header:
        return ensemble
    weight, bias = tensors["head.weight"], tensors["head.bias"]
    if bias.shape != (len(ensemble.classes),) or weight.ndim != 2 or len(weight) != len(bias):
        raise ValueError("the head is of other classes")
    head = {"weight": weight, "bias": bias}
    return dataclasses.replace(ensemble, reads=str(header["reads"]), head=head)


def _single(header: dict[str, Any], tensors: dict[str, Tensor]) -> Model:
    recipe, classes = Recipe.from_dict(dict(header["recipe"])), tuple(map(str, header["classes"]))
    deep_max, facts = int(header["deep_max"]), dict(header["facts"])
    _check_values(recipe, classes, deep_max, facts)
    fitted = tuple(_named(tensors, f"prepare.{i}.") for i in range(len(recipe.prepare)))
    with torch.device("meta"):  # a hostile header can ask for any width: nothing is allocated for it
        net = bare_net(recipe, len(classes))
    net.load_state_dict(_named(tensors, "net."), assign=True)
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return Model(recipe, classes, net, fitted, deep_max, facts)


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _check_values(recipe: Recipe, classes: tuple[str, ...], deep_max: int, facts: dict[str, Any]) -> None:
    """Refuse what would ask for absurd amounts of memory, or could not be answered with."""
    height, width, channels = recipe.data.height, recipe.data.width, recipe.data.channels
    if height < 1 or width < 1 or height * width > MOST_PIXELS or channels not in (1, 3):
        raise ValueError(f"images of {height} x {width} pixels and {channels} channels")
    if len(set(classes)) < max(2, len(classes)):
        raise ValueError("classes must be two or more different names")
    if deep_max < 1 or not float(facts.get("temperature", 1.0)) > 0:
        raise ValueError("deep_max and temperature must be above zero")
