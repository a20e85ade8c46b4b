"""Ways of joining models, each with what it is worth on validation images that it was not chosen on."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convclinic.data.dataset import Dataset
from convclinic.evaluate import CHUNK, Known, split_logits
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.stats import fit_temperature
from convclinic.heads import Head
from convclinic.joint import Ensemble, by_size, joined
from convclinic.model import Model
from convclinic.study import ensembles

AUTO, SOUP, STACK, FUSION = "auto", "soup", "stack", "fusion"
METHODS = (AUTO, *ensembles.METHODS, SOUP, FUSION, STACK)


@dataclass(frozen=True)
class Built:
    """Models under a classifier, and what there is to say of it."""

    model: Ensemble
    about: dict[str, Any]


@dataclass(frozen=True)
class Chosen:
    """The joint model of a method, the members' shares in it (m,), and what validation said: the log loss of
    each method asked about, and the accuracies that the members reach (m,)."""

    method: str
    weights: NDArray[np.float64]
    model: Model
    losses: dict[str, float]
    reached: tuple[float, ...] = ()
    about: dict[str, Any] = field(default_factory=dict[str, Any])


def choose(
    models: Sequence[Model], data: Dataset, method: str, built: Mapping[str, Built], known: Known
) -> Chosen:
    """The method asked for, or of all methods the one with the lowest log loss on validation images that it
    was not chosen on. built: those that join by a classifier; the others are told beside them. known: the
    models' logits, which are added to it."""
    labels = data.labels[data.indices("validation")]
    logits = [split_logits(one, data, "validation", known=known)[0] for one in models]
    probabilities = np.stack([one.probabilities(own) for one, own in zip(models, logits, strict=True)])
    seed = models[0].recipe.seed
    losses = {
        name: ensembles.estimated(weigh, probabilities, labels, seed)
        for name, weigh in ensembles.METHODS.items()
        if method in (AUTO, name) or method in built
    }
    found = {name: _weighed(name, one, models, data, losses) for name, one in built.items()}
    soup = _soup(models, data, known) if method in (AUTO, SOUP) else None
    if soup is not None:
        losses[SOUP], found[SOUP] = soup.losses[SOUP], soup
    elif method == SOUP:
        raise ConvclinicError(
            "a soup needs nets of one recipe", fix="choose --method mean, or train members of one recipe"
        )
    best = min(losses, key=lambda name: losses[name]) if method == AUTO else method
    reached = tuple(float(value) for value in (probabilities.argmax(2) == labels).mean(1))
    if best in found:
        return dataclasses.replace(found[best], losses=losses, reached=reached)
    weights = ensembles.METHODS[best](probabilities, labels)
    kept = [k for k in range(len(models)) if weights[k] > 0]
    model = joined([models[k] for k in kept], [float(weights[k]) for k in kept])
    return Chosen(best, weights, model, losses, reached)


def _weighed(
    name: str, one: Built, models: Sequence[Model], data: Dataset, losses: dict[str, float]
) -> Chosen:
    """A classifier's shares of its members, in their order; its loss is written into `losses`."""
    positions = data.indices("validation")
    inputs = inputs_of(one.model, data, positions)
    weight, bias = (one.model.head[part].numpy().astype(np.float64) for part in ("weight", "bias"))
    logits = np.concatenate(inputs, 1) @ weight.T + bias
    losses[name] = ensembles.tempered(logits, data.labels[positions], models[0].recipe.seed)
    weights = np.zeros(len(models))
    weights[by_size(models)] = ensembles.shares([part.astype(np.float64) for part in inputs], weight)
    return Chosen(name, weights, one.model, losses, about=one.about)


def inputs_of(
    model: Ensemble,
    data: Dataset,
    positions: NDArray[np.int64],
    progress: Callable[[int, int], None] | None = None,
) -> list[NDArray[np.float32]]:
    """(n, d) of each member: what the model's classifier reads of these images, streamed from the store."""
    chunks: list[list[NDArray[np.float32]]] = []
    for begin in range(0, len(positions), CHUNK):
        chunks.append(model.inputs(data.images(positions[begin : begin + CHUNK])))
        if progress:
            progress(min(len(positions), begin + CHUNK), len(positions))
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def with_head(models: Sequence[Model], reads: str, head: Head | None = None) -> Ensemble:
    """The models under a classifier that reads the columns of their inputs in the order of `by_size`."""
    tensors = {} if head is None else {
        "weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias)
    }  # fmt: skip
    return dataclasses.replace(joined(models, [1.0] * len(models)), reads=reads, head=tensors)


def _soup(models: Sequence[Model], data: Dataset, known: Known) -> Chosen | None:
    """Greedy soup (Wortsman et al. 2022, arXiv:2203.05482): in the order of their validation accuracy nets
    are averaged in where that does not lower it. Chosen on one half of the validation images; its log loss is
    that on the other. None where the nets are of other recipes, or ensembles."""
    plain = [dataclasses.replace(one.recipe, seed=0, run=models[0].recipe.run) for one in models]
    if any(recipe != plain[0] for recipe in plain) or any(isinstance(one, Ensemble) for one in models):
        return None

    def accuracy(model: Model, known: Known | None = None) -> float:
        logits, labels = split_logits(model, data, "validation", known=known)
        return float((logits.argmax(1) == labels)[::2].mean())

    reached = [accuracy(one, known) for one in models]
    order = sorted(range(len(models)), key=lambda k: -reached[k])
    pot, best = order[:1], reached[order[0]]
    for k in order[1:]:
        with_it = accuracy(_averaged([models[i] for i in (*pot, k)]))
        if with_it >= best:
            pot, best = [*pot, k], with_it
    model = _averaged([models[i] for i in pot])
    logits, labels = split_logits(model, data, "validation")
    facts = {"temperature": fit_temperature(labels[::2], logits[::2].astype(np.float64))}
    model = dataclasses.replace(model, facts=facts)
    loss = ensembles.log_loss(model.probabilities(logits[1::2]), labels[1::2])
    weights = np.isin(np.arange(len(models)), pot) / len(pot)
    return Chosen(SOUP, weights, model, {SOUP: loss})


def _averaged(models: Sequence[Model]) -> Model:
    """The first model with the mean of all weights."""
    states = [one.net.state_dict() for one in models]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
    net = copy.deepcopy(models[0].net)
    net.load_state_dict(mean)
    return dataclasses.replace(models[0], net=net, facts={})
