"""What the repair bench plants: small real data, healthy recipes, faults, and the list of random changes."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clinic.data import Arrays, digits, fashion, pictures
from convclinic.clinic.remedies import AFRESH, Remedy
from convclinic.data.dataset import Dataset, assemble
from convclinic.data.intake import survey
from convclinic.data.sources import open_source
from convclinic.recipe import Recipe, scaled

SIDE = 16
PARTS = {"digits": (900, 400), "fashion": (1500, 500), "cifar": (2000, 500), "trash": (1100, 400)}
STEPS, BATCH, EVERY = 200, 32, 20
PLACES = 1  # in which a fault is planted; another seed plants it elsewhere
FEW, RARE = 150, 25  # training images of an overfitting case; of each rare class
READERS: dict[str, Callable[[Path], Arrays]] = {
    "digits": lambda folder: digits(),
    "fashion": lambda folder: fashion(folder, 3000),
    "cifar": lambda folder: pictures(folder / "cifar10-jpeg.tar.xz", SIDE, 340),
    "trash": lambda folder: pictures(folder / "trashnet-256.tar", SIDE, 420),
}
_loaded: dict[str, Dataset] = {}


def load(name: str, folder: Path, cache: Path, seed: int, few: bool = False, rare: bool = False) -> Dataset:
    """The data set with its split: few training images, or half of the classes rare among them."""
    key = f"{name}-{seed}"
    if key not in _loaded:
        path = cache / f"{key}.npz"
        if not path.exists():
            _write(name, folder, path, seed)
        source = open_source(path)
        channels = 1 if name in ("digits", "fashion") else 3
        _loaded[key] = assemble(
            source, survey(source, seed=0), (SIDE, SIDE, channels), cache / key, seed=seed
        )
    data = _loaded[key]
    if few:
        return _without(data, data.indices("train")[FEW:])
    if rare:
        train = data.indices("train")
        each = [train[data.labels[train] == k] for k in range(1, len(data.classes), 2)]
        return _without(data, np.concatenate([rows[RARE:] for rows in each]))
    return data


def _write(name: str, folder: Path, path: Path, seed: int) -> None:
    images, labels = READERS[name](folder)
    order = np.random.default_rng(seed).permutation(len(labels))
    cuts = np.cumsum(PARTS[name])
    arrays: dict[str, np.ndarray] = {}
    for part, rows in zip(("train", "val", "test"), np.split(order, cuts), strict=True):
        arrays |= {f"x_{part}": images[rows], f"y_{part}": labels[rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **arrays)


def _without(data: Dataset, positions: np.ndarray) -> Dataset:
    """The same where these images belong to no part."""
    splits = data.splits.copy()
    splits[positions] = -1
    return replace(data, splits=splits)


# Healthy recipes

NETS: dict[str, tuple[str, ...]] = {
    "fast": ("net.widths=[16,32]", "activate=gelu", "initialise=dirac,patch_whitening"),
    "plain": ("net.widths=[16,24,32]", "activate=relu", "normalise=none"),
    "tanh": ("net.widths=[16,32]", "activate=tanh", "normalise=none", "initialise=xavier"),
    "compact": ("net=compact", "net.widths=[16,32,64]", "net.dropout=0.0", "activate=relu"),
}
RATES: dict[str, dict[str, float]] = {
    "fast": {"sgd": 0.3, "adamw": 0.01, "adam": 0.01, "rmsprop": 0.003},
    "plain": {"sgd": 0.1, "adamw": 0.006, "adam": 0.006, "rmsprop": 0.002},
    "tanh": {"sgd": 1.0, "adamw": 0.01, "adam": 0.01, "rmsprop": 0.003},
    "compact": {"sgd": 0.1, "adamw": 0.005, "adam": 0.005, "rmsprop": 0.003},
}
FAMILIES: dict[str, tuple[tuple[str, str], ...]] = {
    "tuning": (("fast", "digits"), ("tanh", "fashion"), ("plain", "digits"), ("compact", "cifar")),
    "reporting": (("fast", "fashion"), ("tanh", "digits"), ("plain", "fashion"), ("compact", "trash")),
}
HALVES = tuple(FAMILIES)


@dataclass(frozen=True)
class Base:
    """A healthy recipe."""

    net: str
    data: str
    optimise: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.net}-{self.data}-{self.optimise}"

    @property
    def recipe(self) -> Recipe:
        settings = [
            f"seed={self.seed}",
            f"data.height={SIDE}",
            f"data.width={SIDE}",
            f"data.channels={1 if self.data in ('digits', 'fashion') else 3}",
            *NETS[self.net],
            "augment.shift.pixels=1",
            f"optimise={self.optimise}",
            f"optimise.lr={RATES[self.net][self.optimise]}",
            f"run.steps={STEPS}",
            f"run.batch_size={BATCH}",
            f"run.evaluate_every={EVERY}",
        ]
        drop = ("augment=none",)
        return Recipe().override([*drop, *settings])


# Faults

Plant = Callable[[Recipe], Recipe]


@dataclass(frozen=True)
class Fault:
    """A change of a healthy recipe.

    nets, optimisers: where it makes sense, empty for anywhere; few, rare: data on which it is one; cure: what
    the healthy twin has there.
    """

    name: str
    plant: Plant
    nets: tuple[str, ...] = ()
    optimisers: tuple[str, ...] = ()
    few: bool = False
    rare: bool = False
    cure: tuple[str, ...] = ()


def sets(*settings: str) -> Plant:
    return lambda recipe: recipe.override(settings)


def rate(factor: float) -> Plant:
    return lambda recipe: replace(recipe, optimise=scaled(recipe.optimise, factor))


def batches(size: int) -> Plant:
    """Another batch size, for as many images."""

    def plant(recipe: Recipe) -> Recipe:
        share = recipe.run.batch_size / size
        every = max(1, round(recipe.run.evaluate_every * share))
        steps = max(1, round(recipe.run.steps * share))
        return replace(recipe, run=replace(recipe.run, batch_size=size, steps=steps, evaluate_every=every))

    return plant


def chain(*plants: Plant) -> Plant:
    def plant(recipe: Recipe) -> Recipe:
        for one in plants:
            recipe = one(recipe)
        return recipe

    return plant


BARE = ("plain", "tanh")
SGDS, ADAPTIVE = ("sgd",), ("adamw", "adam", "rmsprop")


def _too_small(recipe: Recipe) -> Recipe:
    return recipe.override(["net.widths=[2,2]"])


FAULTS = (
    Fault("lr_x1e5", rate(1e5)),
    Fault("lr_x1000", rate(1000.0)),
    Fault("lr_x100", rate(100.0)),
    Fault("lr_x30_sgd", rate(30.0), optimisers=SGDS),
    Fault("lr_x10", rate(10.0)),
    Fault("lr_x10_bare", rate(10.0), nets=BARE),
    Fault("lr_over_10", rate(0.1)),
    Fault("lr_over_100", rate(0.01)),
    Fault("lr_over_1000", rate(0.001)),
    Fault("momentum_0.999", sets("optimise.momentum=0.999"), optimisers=SGDS),
    Fault("no_momentum_low_rate", sets("optimise.momentum=0", "optimise.lr=0.002"), optimisers=SGDS),
    Fault("schedule_dies_early", sets("schedule=exponential", "schedule.exponential.final=1e-12")),
    Fault("weight_decay_sgd", sets("optimise.weight_decay=0.3"), optimisers=SGDS),
    Fault("weight_decay_adamw", sets("optimise.weight_decay=20"), optimisers=("adamw",)),
    Fault("weight_decay_adam", sets("optimise.weight_decay=0.3"), optimisers=("adam",)),
    Fault("l2", sets("regularise.l2.strength=0.5")),
    Fault("l1", sets("regularise.l1.strength=0.3")),
    Fault("max_norm", sets("regularise.max_norm.c=0.02"), nets=BARE),
    Fault("dropout_0.95", sets("regularise.dropout.p=0.95")),
    Fault("spatial_dropout_0.8", sets("regularise.spatial_dropout.p=0.8"), nets=("fast", "compact", "tanh")),
    Fault("label_smoothing", sets("regularise.label_smoothing.smoothing=0.98")),
    Fault("cutout", sets("augment.cutout.size=0.95")),
    Fault("rotate", sets("augment.rotate.degrees=180")),
    Fault("tiny_crops", sets("augment.resized_crop.area_low=0.02", "augment.resized_crop.area_high=0.05")),
    Fault("blur", sets("augment.gaussian_blur.p=1.0", "augment.gaussian_blur.sigma=[6.0,8.0]")),
    Fault("far_shift", sets("augment.shift.pixels=16")),
    Fault("batch_of_2", batches(2), nets=("fast", "compact")),
    Fault("batch_of_256", batches(256)),
    Fault("init_zero", sets("initialise=zero"), nets=BARE),
    Fault("init_constant", sets("initialise=constant"), nets=BARE),
    Fault("init_constant_large", sets("initialise=constant", "initialise.constant.value=0.3")),
    Fault("init_tiny", sets("initialise=small_random"), nets=BARE),
    Fault("init_large", sets("initialise=small_random", "initialise.small_random.scale=2.0"), nets=BARE),
    Fault("sigmoid_deep", sets("activate=sigmoid", "normalise=none"), nets=("plain", "fast")),
    Fault("no_norm_high_rate", chain(sets("normalise=none"), rate(10.0)), nets=("fast", "compact")),
    Fault("inputs_as_they_are", sets("prepare=none"), nets=BARE),
    Fault("killed_relus", chain(sets("activate=relu"), rate(20.0)), nets=("plain",), optimisers=SGDS),
    Fault("net_too_small", _too_small, nets=("fast", "plain", "compact")),
    Fault("overfit", sets("augment=none"), few=True, cure=("mix.mixup.alpha=0.2", "augment.shift.pixels=2")),
    Fault("rare_classes", sets("balance=none"), rare=True, cure=("balance=up_sampling",)),
)


@dataclass(frozen=True)
class Case:
    """One fault planted in one healthy recipe."""

    fault: Fault
    base: Base

    @property
    def name(self) -> str:
        return f"{self.fault.name}/{self.base.name}"

    @property
    def twin_name(self) -> str:
        return f"{self.base.name} {self.few} {self.rare} {self.fault.cure}"

    @property
    def data(self) -> str:
        return self.base.data

    @property
    def few(self) -> bool:
        return self.fault.few

    @property
    def rare(self) -> bool:
        return self.fault.rare

    @property
    def healthy(self) -> Recipe:
        return self.base.recipe.override(self.fault.cure)

    @property
    def faulty(self) -> Recipe:
        return self.fault.plant(self.base.recipe)


def cases(half: str, seed: int) -> list[Case]:
    """Every fault in `PLACES` recipes of the half, chosen by its name; then some of the healthy recipes."""
    made: list[Case] = []
    for fault in FAULTS:
        places = [
            Base(net, data, optimise, seed)
            for net, data in FAMILIES[half]
            for optimise in RATES[net]
            if (not fault.nets or net in fault.nets)
            and (not fault.optimisers or optimise in fault.optimisers)
        ]
        drawn = random.Random(zlib.crc32(f"{half} {fault.name} {seed}".encode()))
        drawn.shuffle(places)
        first = places[0]
        others = [p for p in places if (p.net, p.data) != (first.net, first.data)] or places[1:]
        made += [Case(fault, base) for base in (first, *others)[:PLACES]]
    healthy = Fault("healthy", lambda recipe: recipe)
    made += [Case(healthy, Base(net, data, "adamw", seed)) for net, data in FAMILIES[half]]
    return made


# Random changes

EDITS = (
    "normalise=batch_norm",
    "normalise=group_norm",
    "activate=relu",
    "activate=leaky_relu",
    "activate=gelu",
    "initialise=he",
    "initialise=xavier",
    "initialise=orthogonal",
    "prepare=standardise",
    "augment=none",
    "augment=flip",
    "augment.shift.pixels=2",
    "augment.cutout.size=0.25",
    "mix.mixup.alpha=0.2",
    "regularise=none",
    "regularise.dropout.p=0.3",
    "regularise.label_smoothing.smoothing=0.1",
    "optimise.weight_decay=0",
    "optimise.weight_decay=0.0005",
    "optimise.weight_decay=0.05",
    "balance=class_weights",
    "balance=up_sampling",
    "net=fast",
    "schedule=one_cycle",
    "schedule=cosine",
    "schedule=constant",
)
FACTORS = (0.001, 0.01, 0.1, 0.3, 3.0, 10.0, 100.0, 1000.0)
SIZES = (16, 32, 64, 128)


def changes(recipe: Recipe, chance: random.Random) -> Iterator[Remedy]:
    """Sensible changes of the recipe, in random order."""
    made = [Remedy(f"LR times {f:g}", rate(f)(recipe)) for f in FACTORS]
    for edit in EDITS:
        slot = edit.partition("=")[0].partition(".")[0]
        made.append(Remedy(edit, recipe.override([edit]), slot in AFRESH))
    made += [Remedy(f"batches of {size}", batches(size)(recipe), True) for size in SIZES]
    made = [remedy for remedy in made if remedy.recipe != recipe]
    chance.shuffle(made)
    yield from made
