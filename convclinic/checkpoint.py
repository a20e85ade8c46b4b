"""A training state on disk: everything a resume needs, atomically written, nothing pickled."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from convclinic.data.dataset import Dataset
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import write_bytes
from convclinic.kinds import Watch
from convclinic.loop import State
from convclinic.model import build_net
from convclinic.recipe import Recipe
from convclinic.slots import named, read_slot
from convclinic.tricks.transfer._fine_tuning import optimiser


def save(state: State, recipe: Recipe, path: Path) -> None:
    """Write everything a resume needs, atomically: safetensors with a JSON header, nothing pickled."""
    tensors = {f"net.{name}": value for name, value in state.net.state_dict().items()}
    if state.averaged is not None:
        tensors |= {f"averaged.{name}": value for name, value in state.averaged.state_dict().items()}
    if state.best is not None:
        tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for position, fitted in enumerate(state.fitted):
        tensors |= {f"fitted.{position}.{name}": value for name, value in fitted.items()}
    tensors |= {f"reference.{name}": value for name, value in state.reference.items()}
    plain: dict[str, Any] = {}
    for index, slots in state.optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain[f"{index}.{name}"] = value
    header = {
        "recipe": _identity(recipe),
        "step": state.step,
        "best_accuracy": state.best_accuracy,
        "best_step": state.best_step,
        "stalled": state.stalled,
        "running": state.running,
        "optimizer": plain,
        "augment": [named(trick) for trick in state.augment],
        "watch": [str(value) for value in state.watch],  # JSON has no -inf
    }
    ready = {name: value.detach().cpu().clone() for name, value in tensors.items()}
    ready = {name: value.contiguous() for name, value in ready.items()}
    write_bytes(path, to_safetensors(ready, {"convclinic-state": json.dumps(header)}))


def _identity(recipe: Recipe) -> str:
    """The recipe's hash without later bends of its schedule, which leave earlier checkpoints valid."""
    return dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, rescheduled=())).hash()


def restore(
    recipe: Recipe, data: Dataset, device: torch.device, path: Path, of: Recipe | None = None
) -> State:
    """The state that `save` wrote. Raises ConvclinicError when the file is damaged or of another recipe.

    of: the recipe that wrote it, where `recipe` is a change of that one which leaves the net as it is. An
    optimiser of another kind then begins without memory, as does one whose groups are cut otherwise.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["convclinic-state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise ConvclinicError(
            f"the checkpoint {path} is damaged: {error}", fix="delete it to start over"
        ) from error
    if header["recipe"] != _identity(of or recipe):
        raise ConvclinicError(
            f"the checkpoint {path} belongs to another recipe", fix="delete it to start over"
        )

    def group(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

    net = build_net(recipe, len(data.classes)).to(device)
    net.load_state_dict(group("net."))
    averaged = copy.deepcopy(net).requires_grad_(False) if recipe.average is not None else None
    if averaged is not None:
        averaged.load_state_dict(group("averaged."))
    optimizer = optimiser(recipe.optimise, recipe.transfer, net)
    slots: dict[int, dict[str, Any]] = {}
    for name, value in [*group("optimizer.").items(), *header["optimizer"].items()]:
        index, _, key = name.partition(".")
        slots.setdefault(int(index), {})[key] = value
    same = of is None or (type(of.optimise) is type(recipe.optimise) and of.transfer == recipe.transfer)
    if same:
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    fitted = tuple(group(f"fitted.{position}.") for position in range(len(recipe.prepare)))
    own = net.state_dict()
    best = {name: value.to(device) for name, value in group("best.").items()} or None
    return State(
        step=header["step"],
        net=net,
        optimizer=optimizer,
        averaged=averaged,
        fitted=fitted,
        augment=read_slot("augment", header["augment"]),
        device=device,
        watch=Watch(float(header["watch"][0]), float(header["watch"][1]), int(header["watch"][2])),
        best=best,
        best_accuracy=header["best_accuracy"],
        best_step=header["best_step"],
        stalled=header["stalled"],
        running=tuple(header["running"]),
        reference={name: torch.empty_like(own[name]).copy_(v) for name, v in group("reference.").items()},
    )
