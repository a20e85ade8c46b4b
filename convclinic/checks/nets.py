"""What `check_net` says of the layers of any net before it is trained with cross-entropy."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from torch import nn

from convclinic.checks.facts import Facts
from convclinic.kinds import Evidence, Finding

SQUASHING = (nn.Softmax, nn.Softmax2d, nn.Softmin, nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid)
DROPOUT = nn.modules.dropout._DropoutNd  # pyright: ignore[reportPrivateUsage]
BATCH_NORM = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]

Named = tuple[str, nn.Module]


def check_net(net: nn.Module) -> list[Finding]:
    """Mistakes that show in a net's layers, for anyone's own loop. Nothing is run and nothing is changed.

    The order of layers is certain in an nn.Sequential alone. Elsewhere the order in which they were
    registered is a guess at it, and the findings say so by a lower confidence.

    >>> [finding.cause for finding in check_net(nn.Sequential(nn.Linear(8, 2), nn.Softmax(1)))]
    ['wrong_loss_pairing']
    >>> check_net(nn.Sequential(nn.Linear(8, 2)))
    []
    """
    return [*_last_layer(net), *_noise_before_norm(net)]


def wiring(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """The same for a recipe's net, where it is known."""
    if facts.net is not None:
        yield from check_net(facts.net)


def _last_layer(net: nn.Module) -> Iterator[Finding]:
    """Cross-entropy has a softmax of its own: a second one flattens the gradient."""
    name, last, certain = _last(net)
    confidence = 1.0 if certain else 0.7
    guess = "" if certain else ", if the net ends in it"
    if isinstance(last, SQUASHING):
        yield Finding(
            "wrong_loss_pairing",
            "warning",
            confidence=confidence,
            where=name,
            summary=f"{type(last).__name__} before cross-entropy, which has a softmax of its own{guess}: "
            "training is slow and stays unsure",
            evidence=(Evidence("last layer", type(last).__name__, "one that leaves logits"),),
            remedies=(
                f"net without {name or 'it'}, and softmax on its logits where probabilities are wanted",
            ),
            reference="Goodfellow, Bengio and Courville, 2016, section 6.2.2.3",
        )
    elif isinstance(last, nn.LogSoftmax):
        yield Finding(
            "wrong_loss_pairing",
            "info",
            confidence=confidence,
            where=name,
            summary=f"LogSoftmax before cross-entropy does nothing{guess}; it belongs to NLLLoss",
            evidence=(Evidence("last layer", "LogSoftmax", "one that leaves logits"),),
            remedies=(f"net without {name or 'it'}, or NLLLoss",),
            reference="torch.nn.CrossEntropyLoss",
        )


def _last(net: nn.Module) -> tuple[str, nn.Module, bool]:
    """The last layer, its name, and whether that is certain: only sequences are gone into beyond the net."""
    path, certain = "", True
    module = net
    while children := list(module.named_children()):
        if not isinstance(module, nn.Sequential):
            if module is not net:
                break  # the last layer of a block, such as a gate's sigmoid, need not be its output
            certain = False
        name, module = children[-1]
        path = f"{path}.{name}" if path else name
    return path, module, certain


def _noise_before_norm(net: nn.Module) -> Iterator[Finding]:
    """Batch norm stores the variance of what dropout left in training; in testing it is another."""
    told: set[str] = set()
    for path, module in net.named_modules():  # a sequence comes before those in it
        children = [(f"{path}.{name}" if path else name, child) for name, child in module.named_children()]
        certain = isinstance(module, nn.Sequential)
        layers = _flattened(children) if certain else children
        for (name, layer), (_, after) in pairwise(layers):
            noise = isinstance(layer, DROPOUT) and layer.p > 0
            if not noise or not isinstance(after, BATCH_NORM) or name in told:
                continue
            told.add(name)
            yield Finding(
                "dropout_before_batch_norm",
                "warning" if certain else "info",
                confidence=1.0 if certain else 0.5,
                where=name,
                summary="dropout straight before batch norm: in testing its stored variance is wrong"
                + ("" if certain else ", if the two follow each other"),
                evidence=(Evidence(f"after {type(layer).__name__}", type(after).__name__, "no batch norm"),),
                remedies=(f"{name} behind the norm, or behind the last norm of the net",),
                reference="Li et al., 2018, arXiv:1801.05134",
            )


def _flattened(layers: list[Named]) -> list[Named]:
    """What a sequence runs through when the sequences in it are opened; identities are passed over."""
    flat: list[Named] = []
    for path, layer in layers:
        if isinstance(layer, nn.Sequential):
            flat += _flattened([(f"{path}.{name}", child) for name, child in layer.named_children()])
        elif not isinstance(layer, nn.Identity):
            flat.append((path, layer))
    return flat


RULES = (wiring,)
