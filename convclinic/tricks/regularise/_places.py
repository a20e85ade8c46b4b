"""How noise is put into a net: at places that the net leaves for it. A helper: no trick lives here."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from convclinic.ground.errors import ConvclinicError


def places(net: nn.Module, kind: type[nn.Module]) -> list[tuple[nn.Module, str]]:
    """Each place of that kind as (its parent, its name there), in the order of the net's modules."""
    paths = [path.rpartition(".") for path, module in net.named_modules() if isinstance(module, kind)]
    return [(net.get_submodule(parent), name) for parent, _, name in paths]


def fill(found: Sequence[tuple[nn.Module, str]], noise: Sequence[nn.Module]) -> None:
    """Put one module into each place; it trains or tests as its parent does."""
    for (parent, name), module in zip(found, noise, strict=True):
        setattr(parent, name, module.train(parent.training))


def check_p(trick: str, p: float, usual: str) -> None:
    """Raises ConvclinicError unless 0 <= p < 1."""
    if not 0 <= p < 1:
        raise ConvclinicError(f"{trick}'s p must lie in [0, 1), not {p}", fix=f"{usual} is usual, 0 is off")
