"""The training loop, read from top to bottom.

    state = start(recipe, data, device)
    for record in fit(recipe, data, state):
        ...                                  # the caller logs, stops, saves, examines

A batch's way: store (uint8) -> augment -> mix -> prepare -> net -> loss and penalties -> backward ->
optimise -> project -> average -> Record. Nothing else touches it: there are no callbacks. Every draw is named
by (seed, trick, step), so a run that was killed goes on bit for bit from its last saved state.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convclinic.data.dataset import Dataset
from convclinic.ground import rng
from convclinic.ground.stats import balanced_accuracy, confusion
from convclinic.history import Record
from convclinic.kinds import Batch, Watch
from convclinic.kinds import State as Fitted
from convclinic.model import batches, build_net, final_size, forward, prepared, to_tensor
from convclinic.models._weights import Matched
from convclinic.recipe import Recipe
from convclinic.slots import name_of
from convclinic.tricks.augment._pipeline import augment
from convclinic.tricks.balance._policies import class_terms, visits
from convclinic.tricks.transfer import _fine_tuning as transfer

FIT_BATCH = 64  # images a forward pass when a head is solved for
FIT_CHUNK = 1000  # images a chunk when preprocessing is fitted
INITIALISE_PIXELS = 2**22  # of training images that data-dependent initialisation sees, at most
FETCH_EVERY = 16  # steps between fetches of scalars from an accelerator, where each fetch waits for it


@dataclass(frozen=True)
class Seen:
    """What the net was given in a step and what it answered: images (b, c, h, w) as prepared, targets (b, k)
    after mixing and smoothing, labels (b,) before, logits (b, k), None before the step."""

    images: Tensor
    targets: Tensor
    labels: Tensor
    logits: Tensor | None = None


@dataclass
class State:
    """Everything a resume needs, and all that `fit` changes. `step` counts finished updates.

    fitted is what each trick of `recipe.prepare` learnt from the training split, augment the recipe's
    augmentations with what they learnt from it, watch the memory of a schedule that reacts, reference the
    pretrained weights by name where training is to stay near them. seen is the latest step's batch, loaded
    what a file of weights filled at the start, for whoever examines them; no resume needs either. best are
    the weights of best_step, whose validation accuracy, balanced where rare classes have a policy, was
    best_accuracy.
    """

    step: int
    net: nn.Module
    optimizer: torch.optim.Optimizer
    averaged: nn.Module | None
    fitted: tuple[Fitted, ...]
    augment: tuple[Any, ...]
    device: torch.device
    watch: Watch = Watch()
    best: dict[str, Tensor] | None = None
    best_accuracy: float = -1.0
    best_step: int = 0
    stalled: int = 0
    running: tuple[float, int] = (0.0, 0)
    reference: Fitted = field(default_factory=dict[str, Tensor])
    seen: Seen | None = None
    loaded: Matched | None = None

    @property
    def judged(self) -> nn.Module:
        """The net whose validation counts: the averaged one where there is one."""
        return self.net if self.averaged is None else self.averaged


def start(recipe: Recipe, data: Dataset, device: torch.device) -> State:
    """A fresh state: preprocessing fitted on the training split, net built, and loaded or initialised."""
    train = data.indices("train")
    fitted: tuple[Fitted, ...] = ()
    for trick in recipe.prepare:  # each on what those before it leave
        fitted = (*fitted, trick.fit(_as_prepared(recipe, fitted, _chunks(data, train))))
    augmentations = tuple(
        trick.fit(_chunks(data, train)) if hasattr(trick, "fit") else trick for trick in recipe.augment
    )
    net = build_net(recipe, len(data.classes))
    loaded = transfer.load(recipe.transfer, net)
    names = () if loaded is None else loaded.loaded
    net = net.to(device)
    count = max(64, min(2000, INITIALISE_PIXELS // (recipe.data.height * recipe.data.width)))
    shuffled = torch.randperm(len(train), generator=rng.generator(recipe.seed, "initialise"))
    images = plain(recipe, data, fitted, train[shuffled[:count].numpy()], device)
    with transfer.kept(net, names):
        for trick in recipe.initialise:
            stream = rng.generator(recipe.seed, "initialise", name_of(trick))
            trick.apply(net, stream, images, recipe.activate.gain)
    solving = transfer.solved_on(recipe.transfer, torch.from_numpy(data.labels[train]), recipe.seed)
    if len(solving):
        chosen = train[solving.numpy()]
        parts = np.array_split(chosen, math.ceil(len(chosen) / FIT_BATCH))
        transfer.solve_head(
            recipe.transfer,
            net,
            (plain(recipe, data, fitted, part, device) for part in parts),
            torch.from_numpy(data.labels[chosen]),
            recipe.seed,
        )
    averaged = copy.deepcopy(net).requires_grad_(False) if recipe.average is not None else None
    optimizer = transfer.optimiser(recipe.optimise, recipe.transfer, net)
    reference = transfer.reference(recipe.transfer, net, names)
    return State(
        0, net, optimizer, averaged, fitted, augmentations, device, reference=reference, loaded=loaded
    )


def plain(
    recipe: Recipe, data: Dataset, fitted: tuple[Fitted, ...], chosen: np.ndarray, device: torch.device
) -> Tensor:
    """Images ready for the net, not augmented."""
    images = augment(_batch(data, chosen, device), (), _no_draws, final_size(recipe)).images
    return prepared(recipe.prepare, fitted, images)


def fit(recipe: Recipe, data: Dataset, state: State) -> Iterator[Record]:
    """Train from `state` to the recipe's last step, yielding one Record per step.

    Changes `state` in place. A state may be saved whenever `record.step == state.step`; on an
    accelerator records come in blocks, and that holds at the end of each, also where a snapshot is due.
    """
    train = data.indices("train")
    labels = torch.from_numpy(data.labels[train])
    terms = class_terms(recipe.balance, torch.bincount(labels, minlength=len(data.classes)))
    size, per_epoch = _lengths(recipe, labels)
    pending: list[tuple[int, float, Tensor]] = []
    fetch_every = _fetch_every(state.device)
    current, visited = -1, train
    while not finished(recipe, state):
        epoch, position = divmod(state.step, per_epoch)
        if epoch != current:
            current, visited = epoch, _visited(recipe, train, labels, epoch)
        chosen = visited[position * size : (position + 1) * size]
        lr, scalars = _step(recipe, _batch(data, chosen, state.device, epoch, state.step), state, terms)
        state.step += 1
        pending.append((state.step, lr, scalars))
        last = state.step == recipe.total_steps
        evaluate = last or state.step % recipe.run.evaluate_every == 0
        kept = recipe.snapshots_by(state.step) > recipe.snapshots_by(state.step - 1)  # by the caller
        if not (evaluate or kept) and len(pending) < fetch_every:
            continue
        records = _fetch(pending, per_epoch, state)
        pending.clear()
        if evaluate:
            records[-1] = _evaluate(recipe, data, state, records[-1])
        yield from records


def _fetch_every(device: torch.device) -> int:
    return 1 if device.type == "cpu" else FETCH_EVERY


def next_batch(recipe: Recipe, data: Dataset, state: State) -> Seen:
    """What the next step will be given. Draws are named by step, so looking changes nothing."""
    train = data.indices("train")
    labels = torch.from_numpy(data.labels[train])
    size, per_epoch = _lengths(recipe, labels)
    epoch, position = divmod(state.step, per_epoch)
    chosen = _visited(recipe, train, labels, epoch)[position * size : (position + 1) * size]
    return _given(recipe, _batch(data, chosen, state.device, epoch, state.step), state)


def _lengths(recipe: Recipe, labels: Tensor) -> tuple[int, int]:
    """Images a step, and steps an epoch."""
    length = len(visits(recipe.balance, labels, recipe.seed, 0, 0.0))
    size = min(recipe.run.batch_size, length)
    return size, length // size


def _visited(recipe: Recipe, train: np.ndarray, labels: Tensor, epoch: int) -> np.ndarray:
    """Positions in the store of the images that `epoch` visits, in order."""
    begun = recipe.progress(epoch * _lengths(recipe, labels)[1])
    return train[visits(recipe.balance, labels, recipe.seed, epoch, begun).numpy()]


def finished(recipe: Recipe, state: State) -> bool:
    """Whether the last step is done, or so many evaluations brought nothing that the recipe says to stop."""
    stalled = 0 < recipe.run.patience <= state.stalled
    return stalled or state.step >= recipe.total_steps


def size_at(recipe: Recipe, progress: float) -> tuple[int, int]:
    """(height, width) of training images at `progress`: progressive resizing, or the store's size."""
    current = (recipe.data.height, recipe.data.width)
    for since, height, width in recipe.run.sizes:
        if progress >= since:
            current = (height, width)
    return current


def _step(
    recipe: Recipe, batch: Batch, state: State, terms: tuple[Tensor | None, Tensor | None]
) -> tuple[float, Tensor]:
    """One update. Returns the LR used and a tensor (loss, accuracy, gradient norm), still on the device.

    The loss is that of the classification, penalties left aside; the gradient norm has them.
    """
    step, progress = state.step, recipe.progress(state.step)
    seen = _given(recipe, batch, state)
    transfer.learn(recipe.transfer, state.net, state.optimizer, progress)
    _rest_finished(state.optimizer, progress)
    state.net.train()
    transfer.hold(recipe.transfer, state.net)
    low = recipe.run.precision == "bfloat16"
    with (
        rng.scoped(recipe.seed, "forward", step),
        torch.autocast(state.device.type, dtype=torch.bfloat16, enabled=low),
    ):
        logits = state.net(seen.images).float()
    weights, offsets = (None if term is None else term.to(logits.device) for term in terms)
    loss = F.cross_entropy(logits if offsets is None else logits + offsets, seen.targets, weight=weights)
    penalties = [trick.penalty(state.net) for trick in _of_kind(recipe, "penalty")]
    penalties += transfer.penalties(recipe.transfer, state.net, state.reference)
    state.optimizer.zero_grad(set_to_none=True)
    sum(penalties, start=loss).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in state.net.parameters() if p.grad is not None])
    lr = _set_lr(recipe, state, progress)
    state.optimizer.step()
    for trick in _of_kind(recipe, "projection"):
        trick.project(state.net, lr)
    if state.averaged is not None:
        recipe.average.update(state.averaged.state_dict(), state.net.state_dict(), step)
    state.seen = dataclasses.replace(seen, logits=logits.detach())
    accuracy = (logits.detach().argmax(1) == seen.labels).float().mean()
    return lr, torch.stack([loss.detach(), accuracy, norm.detach()])


def _given(recipe: Recipe, batch: Batch, state: State) -> Seen:
    """A batch as the net and the loss get it: augmented, mixed, smoothed and prepared."""
    step = state.step

    def draws(trick: str) -> torch.Generator:
        return rng.generator(recipe.seed, "draw", trick, step)

    # where nothing stands between them, the first preparation joins the last pass of augmentation
    joined = bool(recipe.prepare) and hasattr(recipe.prepare[0], "channelwise") and not recipe.mix
    then = recipe.prepare[0].channelwise(state.fitted[0]) if joined else None
    images = augment(batch, state.augment, draws, size_at(recipe, recipe.progress(step)), then).images
    targets = batch.targets
    for trick in recipe.mix:
        mixing = dataclasses.replace(batch, images=images, targets=targets)
        images, targets = trick.apply(images, targets, trick.sample(draws(name_of(trick)), mixing))
    for trick in _of_kind(recipe, "targets"):
        targets = trick.targets(targets)
    images = prepared(recipe.prepare[joined:], state.fitted[joined:], images)
    return Seen(images.contiguous(memory_format=torch.channels_last), targets, batch.targets.argmax(1))


def _of_kind(recipe: Recipe, kind: str) -> list[Any]:
    return [trick for trick in recipe.regularise if trick.kind == kind]


def _set_lr(recipe: Recipe, state: State, progress: float) -> float:
    """Set every group's LR for this step, and return the head's.

    A group with `until` falls linearly to zero by then; one with `depth` has its stage's share.
    """
    factor = recipe.lr_factor(progress) * state.watch.scale
    for group in state.optimizer.param_groups:
        own = max(0.0, 1 - progress / group["until"]) if "until" in group else factor
        group["lr"] = group["initial_lr"] * own * transfer.share(recipe.transfer, state.net, group, progress)
    return recipe.optimise.lr * factor * transfer.head_share(recipe.transfer, state.net, progress)


def _rest_finished(optimizer: torch.optim.Optimizer, progress: float) -> None:
    """Parameters whose own LR has fallen to zero need no gradient any more, nor do the layers below them."""
    for group in optimizer.param_groups:
        if progress >= group.get("until", 1.0):
            for parameter in group["params"]:
                parameter.requires_grad_(False)


def _batch(data: Dataset, chosen: np.ndarray, device: torch.device, epoch: int = 0, step: int = 0) -> Batch:
    images = to_tensor(data.images(chosen)).to(device, non_blocking=True)
    labels = torch.from_numpy(data.labels[chosen])
    targets = F.one_hot(labels, len(data.classes)).float().to(device, non_blocking=True)
    return Batch(images, targets, torch.from_numpy(chosen), epoch, step)


def _fetch(pending: list[tuple[int, float, Tensor]], per_epoch: int, state: State) -> list[Record]:
    values = torch.stack([scalars for _, _, scalars in pending]).cpu().tolist()
    for _, accuracy, _ in values:
        state.running = (state.running[0] + accuracy, state.running[1] + 1)
    return [
        Record(step, step / per_epoch, lr, loss, accuracy, norm)
        for (step, lr, _), (loss, accuracy, norm) in zip(pending, values, strict=True)
    ]


def _evaluate(recipe: Recipe, data: Dataset, state: State, record: Record) -> Record:
    """The record with validation results added; keeps the best weights and counts stalled evaluations."""
    logits, labels = split_logits(recipe, data, "validation", state.judged, state.fitted, state.device)
    predictions = logits.argmax(1)
    accuracy = float((predictions == labels).float().mean())
    matrix = confusion(labels.numpy(), predictions.numpy(), len(data.classes))
    loss = float(F.cross_entropy(logits, labels))
    # a policy for rare classes gives up images of the frequent ones: plain accuracy would undo it
    score = balanced_accuracy(matrix) if recipe.balance else accuracy
    if score >= state.best_accuracy and math.isfinite(loss):  # of equals the later: it trained longer
        state.best = {name: value.clone() for name, value in state.judged.state_dict().items()}
        state.stalled = 0 if score > state.best_accuracy else state.stalled + 1
        state.best_accuracy, state.best_step = score, state.step
    else:
        state.stalled += 1
    for trick in recipe.schedule:
        if hasattr(trick, "observe"):
            state.watch = trick.observe(state.watch, score)
    total, count = state.running
    state.running = (0.0, 0)
    return dataclasses.replace(
        record,
        val_loss=loss,
        val_accuracy=accuracy,
        val_balanced_accuracy=balanced_accuracy(matrix),
        train_accuracy=total / max(1, count),
    )


def split_logits(
    recipe: Recipe,
    data: Dataset,
    split: Any,
    net: nn.Module,
    fitted: tuple[Fitted, ...],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Logits (n, k) and labels (n,) of a whole split, single view, streamed."""
    positions = data.indices(split)
    out: list[Tensor] = []
    for begin in range(0, len(positions), FIT_CHUNK):
        chunk = data.images(positions[begin : begin + FIT_CHUNK])
        out += [forward(net, recipe, fitted, part, device, views=False) for part in batches(chunk)]
    return torch.cat(out), torch.from_numpy(data.labels[positions])


def _chunks(data: Dataset, positions: np.ndarray) -> Iterator[Tensor]:
    for begin in range(0, len(positions), FIT_CHUNK):
        yield to_tensor(data.images(positions[begin : begin + FIT_CHUNK]))


def _as_prepared(recipe: Recipe, fitted: tuple[Fitted, ...], chunks: Iterator[Tensor]) -> Iterator[Tensor]:
    """Chunks as the first tricks of `recipe.prepare` leave them: untouched uint8 before the first."""
    for chunk in chunks:
        yield prepared(recipe.prepare[: len(fitted)], fitted, chunk.float() / 255) if fitted else chunk


def _no_draws(trick: str) -> torch.Generator:
    raise AssertionError(f"nothing is drawn here, but {trick} asked")
