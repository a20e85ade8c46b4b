"""Models that answer together, as one model in one file.

Tensors are named `members.<number>.*` and, where a classifier joins the members, `head.*`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import State
from convclinic.model import Model

LEAST = 1e-12  # a probability below is written as this one


@dataclass(frozen=True)
class Ensemble(Model):
    """Models of the same classes that answer together: by the weighted mean of calibrated probabilities, or
    by a linear classifier on what each of them says (stacking) or sees (early fusion).

    recipe and fitted are the first member's, whose image size the store has; each member resizes them to its
    own. net holds all their nets. weights (m,) sum to one. reads, one of READS, is what the
    classifier gets of each member, empty where there is none; head holds its weight (k, d) and bias (k,).
    """

    members: tuple[Model, ...] = ()
    weights: tuple[float, ...] = ()
    reads: str = ""
    head: State = field(default_factory=dict[str, Tensor])

    def inputs(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """(n, d) of each member: what the classifier reads of images (n, h, w, c), one after another."""
        read = READS[self.reads]
        return [read(one, images) for one in self.members]

    def stream(self, chunks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """The classifier's logits, or logits whose softmax is the mean, chunk by chunk."""
        for chunk in chunks:
            if self.reads:
                inputs = np.concatenate(self.inputs(chunk), 1)
                yield inputs @ self.head["weight"].numpy().T + self.head["bias"].numpy()
                continue
            yield self.mean([one.probabilities(one.logits(chunk)) for one in self.members])

    def mean(self, probabilities: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
        """(n, k) logits whose softmax is the weighted mean of the members' probabilities, each (n, k)."""
        return log_probabilities(np.tensordot(self.weights, np.stack(probabilities), 1))

    @property
    def format(self) -> int:
        return max(3 if self.reads else 2, *(one.format for one in self.members))

    def tensors(self) -> dict[str, Tensor]:
        head = {f"head.{name}": value for name, value in self.head.items()}
        return head | {
            f"members.{number}.{name}": value.clone()  # one net may be a member twice
            for number, one in enumerate(self.members)
            for name, value in one.tensors().items()
        }

    def header(self) -> dict[str, Any]:
        members = [one.header() for one in self.members]
        plain = {**super().header(), "members": members, "weights": list(self.weights)}
        return {**plain, "reads": self.reads} if self.reads else plain


def log_probabilities(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    """The logarithms of (n, k), bounded below: logits of a mean, and what a stacking classifier reads."""
    return np.log(np.maximum(probabilities, LEAST)).astype(np.float32)


def _said(model: Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return log_probabilities(model.probabilities(model.logits(images)))


READS: dict[str, Callable[[Model, NDArray[np.uint8]], NDArray[np.float32]]] = {
    "log_probabilities": _said,
    "features": Model.features,
}


def by_size(members: Sequence[Model]) -> list[int]:
    """The order in which an ensemble has its members: the largest images first, else as they come."""
    return sorted(
        range(len(members)), key=lambda i: -members[i].recipe.data.height * members[i].recipe.data.width
    )


def joined(
    members: Sequence[Model], weights: Sequence[float], facts: dict[str, Any] | None = None
) -> Ensemble:
    """An ensemble of one or more models, in the order of `by_size`. Weights are divided by their sum.

    Raises ConvclinicError where their classes or channels differ.
    """
    order = by_size(members)
    ranked, total = [members[i] for i in order], sum(weights)
    first = ranked[0]
    for one in ranked:
        if one.classes != first.classes or one.recipe.data.channels != first.recipe.data.channels:
            raise ConvclinicError(
                "the models are of different classes or channels", fix="join models of the same data"
            )
    nets = nn.ModuleList([one.net for one in ranked])
    shares = tuple(weights[i] / total for i in order)
    return Ensemble(
        first.recipe, first.classes, nets, first.fitted, first.deep_max, facts or {}, tuple(ranked), shares
    )
