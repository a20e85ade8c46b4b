"""What is averaged over the views of an image: their logits, or the probabilities they stand for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from convclinic.ground.errors import ConvclinicError, nearest

MEANS = ("logits", "probabilities")


def check_mean(trick: str, mean: str) -> None:
    """Raise ConvclinicError unless `mean` is one of the two."""
    if mean not in MEANS:
        raise ConvclinicError(f"{trick}.mean is '{mean}'", fix=nearest(mean, MEANS))


def averaged(
    logits: Sequence[Float[Tensor, "b k"]], weights: Sequence[float], mean: str
) -> Float[Tensor, "b k"]:
    """The logits of the combined prediction; `weights` are above zero and sum to one.

    For "logits" the weighted mean of the views' logits, so that the probabilities are the normalised
    geometric mean of theirs; for "probabilities" the logarithm of the weighted mean of their probabilities.

    >>> views = [torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.2, 0.8]]).log()]
    >>> averaged(views, [0.5, 0.5], "probabilities").softmax(1)
    tensor([[0.5500, 0.4500]])
    >>> averaged(views, [0.5, 0.5], "logits").softmax(1)
    tensor([[0.6000, 0.4000]])
    """
    stacked = torch.stack(list(logits))
    shares = stacked.new_tensor(weights)[:, None, None]
    if mean == "logits":
        return (shares * stacked).sum(0)
    return (stacked.log_softmax(2) + shares.log()).logsumexp(0)
