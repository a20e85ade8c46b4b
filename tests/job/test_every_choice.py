"""Whatever stands in a slot trains, is saved half-way, and goes on exactly as if nothing had been."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from making import photos
from safetensors.torch import save_file

from convclinic import checkpoint, loop
from convclinic.data.dataset import Dataset, assemble
from convclinic.data.sources import open_source
from convclinic.data.survey import survey
from convclinic.ground.discovery import adapters
from convclinic.model import bare_net
from convclinic.models.backbone import Backbone
from convclinic.models.compact import Compact
from convclinic.recipe import Input, Recipe, Run
from convclinic.slots import SLOTS
from convclinic.tricks.initialise.he import He
from convclinic.tricks.transfer.pretrained import Pretrained

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SIDE = 32
FOUND = [(slot, name) for slot, kind in SLOTS.items() for name in adapters(kind.package)]
# options that make a large net small, or a trick act within a few steps
SMALL: dict[str, dict[str, Any]] = {
    "vgg": {"depth": 11, "head": 16, "width": 0.125},
    "alexnet": {"width": 0.125, "head": 16},
    "nin": {"width": 0.125},
    "googlenet": {"width": 0.25},
    "fast": {"widths": (8, 8, 8)},
    "compact": {"widths": (8, 16)},
    "resnet_cifar": {"depth": 20},
    "resnet": {"depth": 18, "width": 0.125},
    "mobilenet_v2": {"width": 0.25},
    "squeezenet": {"width": 0.25},
    "backbone": {"model": "resnet20"},
    "plateau": {"patience": 1},
    "l1": {"strength": 0.1},
    "freeze": {"until_stage": "layer1"},
}
OTHER_SIDES = {
    "alexnet": 96,
    "pca": 16,
    "pca_whitening": 16,
    "zca": 16,
}  # the last three take axes of all pixels


@pytest.fixture(scope="module")
def data_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("every")
    source = open_source(photos(folder / "photos", per_class=24, side=SIDE))
    made: dict[int, Dataset] = {}

    def get(side: int) -> Dataset:
        if side not in made:
            target: Path = folder / str(side)
            target.mkdir()
            made[side] = assemble(source, survey(source, seed=0), (side, side, 3), target, seed=0)
        return made[side]

    return get


def recipe_with(slot: str, name: str) -> Recipe:
    adapter = adapters(SLOTS[slot].package)[name]
    known = {field.name for field in dataclasses.fields(adapter)}
    choice = adapter(**{k: v for k, v in SMALL.get(name, {}).items() if k in known})
    side = OTHER_SIDES.get(name, SIDE)
    plain = dataclasses.replace(
        tiny.RECIPE,
        data=Input(side, side, 3),
        # a net with every kind of place for noise, but for small sides
        net=Compact(widths=(8, 16)) if side >= SIDE else tiny.RECIPE.net,
        initialise=(He(),),
        run=Run(steps=4, batch_size=8, evaluate_every=2),
    )
    if name == "patch_whitening":
        plain = dataclasses.replace(plain, net=tiny.RECIPE.net)
    if slot == "transfer":
        plain = dataclasses.replace(plain, net=Backbone(model="resnet20"))
    return dataclasses.replace(plain, **{slot: (choice,) if SLOTS[slot].many else choice})


def weights_of(recipe: Recipe, folder: Path) -> Path:
    """A file of weights that fits the recipe's net."""
    net: Any = bare_net(recipe, 2)
    tensors = {net.origin(name): value.contiguous() for name, value in net.state_dict().items()}
    save_file(tensors, folder / "w.safetensors")
    return folder / "w.safetensors"


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize(("slot", "name"), FOUND, ids=[f"{slot}-{name}" for slot, name in FOUND])
def test_it_trains_and_goes_on_exactly_from_a_checkpoint(
    slot: str, name: str, where: str, data_of: Any, tmp_path: Path
) -> None:
    device = torch.device(where)
    recipe = recipe_with(slot, name)
    data = data_of(recipe.data.height)
    if name == "pretrained":
        recipe = dataclasses.replace(recipe, transfer=(Pretrained(str(weights_of(recipe, tmp_path))),))
    state = loop.start(recipe, data, device)
    before = [p.detach().clone() for p in state.net.parameters()]
    whole = []
    for record in loop.fit(recipe, data, state):
        whole.append(record)
        if record.step == 2:
            checkpoint.save(state, recipe, tmp_path / "middle.safetensors")
    assert [record.step for record in whole] == [1, 2, 3, 4]
    assert all(torch.isfinite(torch.tensor(record.loss)) for record in whole)
    assert whole[-1].val_accuracy is not None
    if (slot, name) != ("initialise", "zero"):  # where the zeros block every gradient but the last layer's
        moved = [not torch.equal(a, b) for a, b in zip(before, state.net.parameters(), strict=True)]
        assert sum(moved) > len(moved) // 2
    again = checkpoint.restore(recipe, data, device, tmp_path / "middle.safetensors")
    assert again.augment == state.augment
    rest = list(loop.fit(recipe, data, again))
    states = zip(state.net.state_dict().items(), again.net.state_dict().values(), strict=True)
    if where == "cuda":  # some of its kernels add in any order
        assert [record.loss for record in rest] == pytest.approx([r.loss for r in whole[2:]], rel=0.02)
        return
    assert rest == whole[2:]
    for (key, value), other in states:
        assert torch.equal(value, other), key
