"""Test accuracy and wall time of fastai's usual recipe, trained from scratch or fine-tuned.

Measures  vision_learner(pretrained=False) and fit_one_cycle with the settings of fastai's book (chapter 7,
          training from scratch): Resize to about twice the size on the CPU, Normalize,
          aug_transforms(size, min_scale=0.75), Adam, peak learning rate 3e-3, batches of 64.
          --augment light keeps only the crop and the flip.
          --weights FILE instead fine-tunes torchvision's MobileNetV2 from these weights (an npz with
          torchvision's names): Learner.fine_tune with its defaults (one epoch of the head, then all layers,
          base learning rate 2e-3), images scaled to [-1, 1] as the weights want them.
Data      DATA is a folder of class folders, and --valid names a table with columns path,label,split,group
          (paths relative to DATA; split is train, validation or test) that is followed exactly. Without a
          table, DATA/train, DATA/validation and DATA/test are used as they are if the first exists; else a
          random fifth is the validation set and there is no test set.
Protocol  Validation and test images are looked at once, after the last update: fastai's epochs then cost only
          training, which favours this peer. wall_seconds counts everything from the start of the script to
          the test accuracy: imports, listing, timing a few batches, training, evaluation.
Budget    --budget times the first batches of a throw-away learner, then trains the number of whole epochs
          that fits, because a one-cycle schedule has to know its end. --epochs needs no such trial.
Prints    one JSON object; accuracies are fractions, null where there are no such images

Set up an environment apart, so that these packages are no dependency of the project:
    python3.11 -m venv peers-env
    echo torch==2.13.0 > peers.txt
    peers-env/bin/pip install --constraint peers.txt torch numpy
    peers-env/bin/pip install --no-deps torchvision==0.28.0
    peers-env/bin/pip install --constraint peers.txt 'fastai==2.8.*' torchvision==0.28.0
    peers-env/bin/python benchmarks/peers/fastai_fit.py DATA --budget 600 --size 128
"""
# ruff: noqa: E402 - the clock starts before the slow imports

from __future__ import annotations

import time

STARTED = time.perf_counter()

import argparse
import csv
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import torch
from peer_torchvision import torchvision

# isort: split
import fastai
import numpy as np
from fastai.vision import all as fv

SPLITS = ("train", "validation", "test")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
WARM_BATCHES, TIMED_BATCHES = 4, 16
RECIPE = ("arch", "size", "presize", "augment", "lr", "batch", "workers", "seed")  # options that are printed
SPARE = 0.02  # part of the budget left unplanned: epochs are not equally fast

Table = dict[str, dict[Path, str]]  # split -> file -> label


class TrainOnly(fv.Callback):
    """Leave out the validation pass after each epoch."""

    def before_validate(self) -> None:
        raise fv.CancelValidException


class Stopwatch(fv.Callback):
    """Note when each training batch ends, and stop after the first few."""

    def before_fit(self) -> None:
        self.marks = [time.perf_counter()]

    def after_batch(self) -> None:
        self.marks.append(time.perf_counter())
        if len(self.marks) > WARM_BATCHES + TIMED_BATCHES:
            raise fv.CancelFitException


def class_folders(folder: Path) -> dict[Path, str]:
    """Image files of folder/<class>/…, labelled by the class, in the order of their names."""
    files = (file for file in sorted(folder.glob("*/**/*")) if file.suffix.lower() in SUFFIXES)
    return {file: file.relative_to(folder).parts[0] for file in files}


def read_splits(data: Path, splits: Path) -> Table:
    """The rows of a splits.csv. Exits with a message when a row names no split or no file."""
    table: Table = {split: {} for split in SPLITS}
    with open(splits, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] not in table:
                raise SystemExit(f"{splits}: split is {row['split']!r}, expected one of {', '.join(SPLITS)}")
            table[row["split"]][data / row["path"]] = row["label"]
    missing = [path for files in table.values() for path in files if not path.is_file()]
    if missing:
        raise SystemExit(f"{splits} names {len(missing)} files that are not there, the first is {missing[0]}")
    return table


def read_table(data: Path, splits: Path | None, seed: int) -> Table:
    """Which file is used for what; see `Data` above for the three layouts."""
    if splits is not None:
        return read_splits(data, splits)
    if (data / "train").is_dir():
        return {split: class_folders(data / split) for split in SPLITS}
    files = list(class_folders(data).items())
    random.Random(seed).shuffle(files)
    held = len(files) // 5
    return {"train": dict(files[held:]), "validation": dict(files[:held]), "test": {}}


def augmentation(options: argparse.Namespace) -> list:
    """Batch transforms: (b, 3, h, w) in [0, 1] -> (b, 3, size, size), standardised."""
    off = {"max_rotate": 0.0, "max_warp": 0.0, "max_lighting": 0.0, "max_zoom": 1.0}
    kept = off if options.augment == "light" else {}
    random_part = fv.aug_transforms(size=options.size, min_scale=0.75, **kept)
    halves = ([0.5] * 3, [0.5] * 3)
    return [*random_part, fv.Normalize.from_stats(*(halves if options.weights else fv.imagenet_stats))]


def make_loaders(table: Table, options: argparse.Namespace) -> fv.DataLoaders:
    """fastai's DataLoaders; its `valid` part stands for whatever is not trained on, until the end unused."""
    labels = {path: label for files in table.values() for path, label in files.items()}
    train, rest = list(table["train"]), list(table["validation"] or table["test"])
    if not train or not rest:
        raise SystemExit(f"{len(train)} images to train on and {len(rest)} to judge by: both are needed")
    block = fv.DataBlock(
        blocks=(fv.ImageBlock, fv.CategoryBlock),
        get_y=lambda path: labels[path],
        splitter=fv.IndexSplitter(range(len(train), len(train) + len(rest))),
        item_tfms=fv.Resize(options.presize) if options.presize else None,
        batch_tfms=augmentation(options),
    )
    return block.dataloaders(train + rest, bs=options.batch, num_workers=options.workers)


def tuned_arch(weights: Path) -> Callable[..., torch.nn.Module]:
    """torchvision's MobileNetV2 with the weights of the file, as fastai's `arch`."""

    def arch(pretrained: bool = True) -> torch.nn.Module:
        net = torchvision.models.mobilenet_v2()
        with np.load(weights) as arrays:
            net.load_state_dict({name: torch.from_numpy(arrays[name]).float() for name in arrays})
        return net

    return arch


def make_learner(loaders: fv.DataLoaders, options: argparse.Namespace) -> fv.Learner:
    fv.set_seed(options.seed)
    if options.weights:
        arch = tuned_arch(options.weights)
        fv.model_meta[arch] = {"cut": 1, "split": fv.default_split}  # the features; as for its own nets
        return fv.vision_learner(loaders, arch, normalize=False, metrics=fv.accuracy)
    return fv.vision_learner(loaders, getattr(fv, options.arch), pretrained=False, metrics=fv.accuracy)


def time_batches(loaders: fv.DataLoaders, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds a training batch takes, and seconds an epoch takes more than the sum of its batches."""
    learner, watch = make_learner(loaders, options), Stopwatch()
    learner.unfreeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, cbs=[watch, TrainOnly()])
    marks = watch.marks
    if len(marks) < 2:
        raise SystemExit(f"fewer training images than one batch of {options.batch}: lower --batch")
    warm = min(WARM_BATCHES, len(marks) - 2)
    batch = (marks[-1] - marks[warm]) / (len(marks) - 1 - warm)
    return batch, max(0.0, marks[1] - marks[0] - batch)


def epochs_in_budget(loaders: fv.DataLoaders, held_out: int, options: argparse.Namespace) -> int:
    """Whole epochs that fit into what is left of the budget, at least one."""
    batch, start = time_batches(loaders, options)
    epoch = start + batch * len(loaders.train)
    evaluation = 2 * start + 0.5 * batch * held_out / options.batch  # no backward pass: about half
    left = options.budget * (1 - SPARE) - (time.perf_counter() - STARTED) - evaluation
    return max(1, int(left / epoch))


def accuracy_on(learner: fv.Learner, files: dict[Path, str]) -> float | None:
    if not files:
        return None
    loader = learner.dls.test_dl(list(files), with_labels=True)
    return float(learner.validate(dl=loader)[1])


def run(options: argparse.Namespace) -> dict[str, object]:
    fv.set_seed(options.seed)
    table = read_table(options.data, options.valid, options.seed)
    loaders = make_loaders(table, options)
    held_out = len(table["validation"]) + len(table["test"])
    epochs = options.epochs or epochs_in_budget(loaders, held_out, options)
    learner = make_learner(loaders, options)
    with learner.no_bar(), learner.no_logging():
        before = time.perf_counter()
        if options.weights:  # its epoch of the head is cheaper, but counted as a whole one
            learner.fine_tune(max(1, epochs - 1), options.lr, cbs=TrainOnly())
        else:
            learner.fit_one_cycle(epochs, options.lr, cbs=TrainOnly())
        fit_seconds = time.perf_counter() - before
        val_accuracy = accuracy_on(learner, table["validation"])
        test_accuracy = accuracy_on(learner, table["test"])
    return {
        "test_accuracy": test_accuracy,
        "val_accuracy": val_accuracy,
        "wall_seconds": round(time.perf_counter() - STARTED, 2),
        "fit_seconds": round(fit_seconds, 2),
        "epochs": epochs,
        "budget_seconds": options.budget,
        "images": {split: len(files) for split, files in table.items()},
        "classes": len(loaders.vocab),
        "parameters": sum(parameter.numel() for parameter in learner.model.parameters()),
        **{name: getattr(options, name) for name in RECIPE},
        "weights": options.weights and options.weights.name,
        "device": str(loaders.device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "fastai": fastai.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--epochs", type=int)
    length.add_argument("--budget", type=float, metavar="SECONDS", help="for everything, imports included")
    parser.add_argument("--valid", type=Path, metavar="SPLITS_CSV", help="which file is used for what")
    parser.add_argument("--size", type=int, default=128, help="side of the network's input in pixels")
    parser.add_argument(
        "--presize", type=int, help="side before augmentation (default 2 x size); 0: as stored"
    )
    parser.add_argument("--augment", choices=("full", "light"), default="full")
    parser.add_argument("--arch", default="resnet18", help="a network of fastai or torchvision, by name")
    parser.add_argument("--weights", type=Path, help="fine-tune MobileNetV2 from this npz file")
    parser.add_argument(
        "--lr", type=float, help="peak of the one-cycle schedule (default 3e-3), base of fine_tune (2e-3)"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.lr is None:
        options.lr = 2e-3 if options.weights else 3e-3
    if options.weights:
        options.arch = "mobilenet_v2"
    if options.presize is None:
        options.presize = 2 * options.size
    if not callable(getattr(fv, options.arch, None)):
        parser.error(f"fastai has no network {options.arch!r}")
    print(json.dumps(run(options), indent=2))


if __name__ == "__main__":
    main()
