"""What every trick keeps to, whoever wrote it: run over each file found in each folder of tricks."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import convclinic.tricks.augment as augment_folder
from convclinic.ground.discovery import adapters, card
from convclinic.ground.rng import generator
from convclinic.ground.typed import build
from convclinic.kinds import Batch

FOLDER = Path(augment_folder.__path__[0]).parent
HEADINGS = ("Formula", "Shapes", "Strength", "Helps", "Hurts", "Clashes", "Source")
# files are listed here and imported in the tests, so that a broken one fails alone
FOUND = sorted(
    (file.parent.name, file.stem) for file in FOLDER.glob("*/*.py") if not file.stem.startswith("_")
)


def of_slot(*slots: str) -> Any:
    found = [(slot, name) for slot, name in FOUND if not slots or slot in slots]
    return pytest.mark.parametrize(("slot", "name"), found, ids=[f"{slot}-{name}" for slot, name in found])


def adapter(slot: str, name: str) -> Any:
    return adapters(f"convclinic.tricks.{slot}")[name]


def ready(slot: str, name: str, channels: int = 3, **options: Any) -> Any:
    """The trick, fitted on the contract's batch where it is an augmentation that learns from the images."""
    trick = adapter(slot, name)(**options)
    fits = slot == "augment" and hasattr(trick, "fit")
    return trick.fit([batch(channels=channels).images]) if fits else trick


def batch(n: int = 10, channels: int = 3, epoch: int = 0, as_float: bool = False) -> Batch:
    """Images of the kind that the slot is given, with soft targets."""
    rng = generator(0, "contract")
    images = torch.randint(0, 256, (n, channels, 12, 16), dtype=torch.uint8, generator=rng)
    targets = torch.rand((n, 5), generator=rng)
    floats = images.float() / 255
    return Batch(
        (floats if as_float else images).contiguous(memory_format=torch.channels_last),
        targets / targets.sum(1, keepdim=True),
        torch.arange(n) * 7,
        epoch=epoch,
    )


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def effect(trick: Any, given: Batch, params: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """What the trick makes of the batch: its map, or the images (and targets)."""
    kind: str = trick.kind if getattr(trick, "slot", "augment") == "augment" else trick.slot
    if kind == "policy":
        parts = trick.parts(params)
        return tuple(value for part, own in parts for value in effect(part, given, own))
    if kind == "geometry":
        return (trick.matrix(params, 12, 16),)
    if kind == "colour":
        return (trick.matrix(params, given.images.mean((2, 3))),)
    if kind == "pixels":
        return (trick.apply(given.images, params),)
    result: tuple[Tensor, ...] = trick.apply(given.images, given.targets, params)
    return result


def nothing(trick: Any, given: Batch) -> tuple[Tensor, ...]:
    """The effect of a trick that is off."""
    kind: str = trick.kind if getattr(trick, "slot", "augment") == "augment" else trick.slot
    n, c = given.images.shape[:2]
    if kind == "policy":
        parts = trick.parts(trick.sample(generator(0), given))
        return tuple(value for part, _ in parts for value in nothing(part, given))
    if kind == "geometry":
        return (torch.eye(3, dtype=torch.float64).repeat(n, 1, 1),)
    if kind == "colour":
        return (torch.eye(c, c + 1).repeat(n, 1, 1),)
    return (given.images,) if kind == "pixels" else (given.images, given.targets)


@of_slot()
def test_the_folder_is_the_slot(slot: str, name: str) -> None:
    assert adapter(slot, name).slot == slot


@of_slot()
def test_default_constructible_frozen_and_small(slot: str, name: str) -> None:
    trick = adapter(slot, name)()
    assert dataclasses.is_dataclass(trick)
    fields = dataclasses.fields(trick)
    assert len(fields) <= 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(trick, fields[0].name if fields else "anything", 0)


@of_slot()
def test_round_trips_through_json(slot: str, name: str) -> None:
    """Read back as a recipe reads it: JSON's lists become tuples where the option is one."""
    trick = adapter(slot, name)()
    text = json.dumps(dataclasses.asdict(trick), allow_nan=False)
    assert build(type(trick), json.loads(text), name) == trick


@of_slot()
def test_card_is_complete(slot: str, name: str) -> None:
    text = card(adapter(slot, name))
    idea, _, rest = text.partition("\n")
    assert len(idea) > 20 and idea.rstrip().endswith(".")
    pieces = re.split(rf"(?:^|(?<=\s\s))({'|'.join(HEADINGS)})\s{{2,}}", rest, flags=re.MULTILINE)
    assert tuple(pieces[1::2]) == HEADINGS, "each heading once and in this order, two blanks before its text"
    for heading, body in zip(pieces[1::2], pieces[2::2], strict=True):
        assert re.search(r"\w", body), heading
    assert re.search(r"\b(?:1[89]|20)\d\d\b", pieces[-1]), "the year of the source"


@of_slot()
def test_off_is_a_setting_of_the_trick(slot: str, name: str) -> None:
    kind = adapter(slot, name)
    off = getattr(kind, "OFF", None)
    if off is None:
        pytest.skip("has no setting that means off")
    assert off and off.keys() <= {field.name for field in dataclasses.fields(kind)}
    kind(**off)


@of_slot("augment", "mix")
def test_off_is_the_identity(slot: str, name: str) -> None:
    kind = adapter(slot, name)
    if not hasattr(kind, "OFF"):
        pytest.skip("has no setting that means off")
    for channels in (1, 3):
        given = batch(channels=channels, as_float=True)
        trick = ready(slot, name, channels, **kind.OFF)
        made = effect(trick, given, trick.sample(generator(0, name), given))
        for got, wanted in zip(made, nothing(trick, given), strict=True):
            assert torch.equal(got.to(wanted.dtype), wanted)


@of_slot("augment", "mix")
def test_same_stream_same_bits_other_step_other_bits(slot: str, name: str) -> None:
    trick = adapter(slot, name)()
    first = trick.sample(generator(3, slot, name, 0), batch(64))
    again = trick.sample(generator(3, slot, name, 0), batch(64))
    later = trick.sample(generator(3, slot, name, 1), batch(64, epoch=1))
    assert equal(first, again)
    assert not equal(first, later)


@of_slot("augment", "mix")
def test_draws_lie_on_the_cpu_one_row_per_image(slot: str, name: str) -> None:
    params = adapter(slot, name)().sample(generator(0, name), batch(10))
    assert params
    for value in params.values():
        assert value.device.type == "cpu"
        assert len(value) == 10


@of_slot("augment", "mix")
@pytest.mark.parametrize("channels", [1, 3])
def test_replays_without_touching_what_it_was_given(slot: str, name: str, channels: int) -> None:
    trick = ready(slot, name, channels)
    given = batch(channels=channels, as_float=True)
    images, targets = given.images.clone(), given.targets.clone()
    params = trick.sample(generator(0, name), given)
    drawn = {key: value.clone() for key, value in params.items()}
    first, again = effect(trick, given, params), effect(trick, given, params)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(given.images, images) and torch.equal(given.targets, targets)
    assert equal(params, drawn)


@of_slot("augment", "mix")
@pytest.mark.parametrize("channels", [1, 3])
def test_type_device_and_shape_are_kept(slot: str, name: str, channels: int) -> None:
    trick = ready(slot, name, channels)
    given = batch(channels=channels, as_float=True)
    made = effect(trick, given, trick.sample(generator(0, name), given))
    for got, wanted in zip(made, nothing(trick, given), strict=True):
        assert got.shape == wanted.shape
        assert got.is_floating_point() and got.device == wanted.device
        if getattr(trick, "kind", "pixels") == "pixels":
            assert got.dtype == wanted.dtype


@of_slot("augment", "mix")
def test_the_order_of_the_batch_does_not_matter(slot: str, name: str) -> None:
    trick = ready(slot, name)
    given = batch(as_float=True)
    params = trick.sample(generator(0, name), given)
    order = torch.randperm(10, generator=generator(1))
    place = order.argsort()  # where each image went: a partner has moved as well
    mixed = {key: place[value[order]] if key == "partner" else value[order] for key, value in params.items()}
    shuffled = Batch(given.images[order], given.targets[order], given.indices[order])
    made, remade = effect(trick, given, params), effect(trick, shuffled, mixed)
    assert all(torch.allclose(a[order], b, atol=1e-6) for a, b in zip(made, remade, strict=True))


@of_slot("mix")
def test_targets_stay_distributions(slot: str, name: str) -> None:
    trick = adapter(slot, name)()
    given = batch(as_float=True)
    _, targets = trick.apply(given.images, given.targets, trick.sample(generator(0, name), given))
    assert targets.min() >= 0
    assert torch.allclose(targets.sum(1), torch.ones(10), atol=1e-6)


@of_slot("transfer")
def test_a_rate_is_a_pure_factor_that_lets_the_head_learn(slot: str, name: str) -> None:
    trick = adapter(slot, name)()
    if trick.kind != "rate":
        pytest.skip("gives stages no LRs of their own")
    stages, times = ("low", "middle", "high"), [i / 20 for i in range(21)]
    rates = [[trick.rate(depth, stages, t) for depth in range(4)] for t in times]
    assert rates == [[trick.rate(depth, stages, t) for depth in range(4)] for t in times]
    for row in rates:
        assert row == sorted(row), "the lower a stage, the less it learns"
        assert row[0] >= 0 and 0 < row[-1] <= 1
    off = adapter(slot, name)(**trick.OFF)
    assert {off.rate(depth, stages, t) for depth in range(4) for t in times} == {1.0}


@of_slot("combine")
@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_weighted_pictures_of_the_same_kind(slot: str, name: str, channels: int) -> None:
    given = batch(channels=channels, as_float=True)
    kept = given.images.clone()
    first, again = (adapter(slot, name)().views(given.images) for _ in range(2))
    assert sum(weight for weight, _ in first) == pytest.approx(1)
    for (weight, view), (same, repeated) in zip(first, again, strict=True):
        assert weight == same > 0
        assert torch.equal(view, repeated)
        assert view.shape[:2] == kept.shape[:2] and view.dtype == kept.dtype and view.device == kept.device
    assert torch.equal(given.images, kept)
