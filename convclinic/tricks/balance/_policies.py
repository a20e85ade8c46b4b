"""What a recipe's balance policies make of an epoch and of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from convclinic.ground import rng
from convclinic.ground.errors import ConvclinicError


def visits(
    policies: Sequence[Any], labels: Int[Tensor, " n"], seed: int, epoch: int, progress: float
) -> Int[Tensor, " m"]:
    """The training images, as positions into `labels`, that epoch `epoch` visits, in order.

    Without a sampling policy, each once. Raises ConvclinicError for two, which would undo each other.
    """
    sampling = [policy for policy in policies if policy.kind == "sampling"]
    if not sampling:
        return torch.randperm(len(labels), generator=rng.generator(seed, "order", epoch))
    names = [type(policy).__module__.rpartition(".")[2] for policy in sampling]
    if len(sampling) > 1:
        raise ConvclinicError(
            f"two sampling policies: {' and '.join(names)}", fix=f"keep one, like --set balance={names[0]}"
        )
    return sampling[0].visits(rng.generator(seed, "balance", names[0], epoch), labels, progress)


def class_terms(
    policies: Sequence[Any], counts: Int[Tensor, " k"]
) -> tuple[Float[Tensor, " k"] | None, Float[Tensor, " k"] | None]:
    """The loss's weight of each class and what is added to its logit; None and None without a policy."""
    losses = [policy for policy in policies if policy.kind == "loss"]
    if not losses:
        return None, None
    weights = torch.stack([policy.weights(counts) for policy in losses]).prod(0)
    offsets = torch.stack([policy.offsets(counts) for policy in losses]).sum(0)
    return weights.float(), offsets.float()
