"""What the rules are told beside the recipe, and the few questions that most of them ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from convclinic.kinds import Finding
from convclinic.slots import name_of

GRID = tuple(i / 100 for i in range(101))  # of progress: fine enough for every schedule there is


@dataclass(frozen=True)
class Facts:
    """What is known about the data and the net; what is not keeps its default, and its rules keep silent.

    gray: every image is gray, whatever the number of its channels. n_train: images in the training split;
    counts: of each class there, in the order of `classes`. net: as the recipe builds it, weights or none.
    """

    classes: tuple[str, ...] = ()
    gray: bool = False
    n_train: int = 0
    counts: tuple[int, ...] = ()
    net: nn.Module | None = None


# a recipe is taken as it comes: the class stands above this room
Rule: TypeAlias = Callable[[Any, Facts], Iterator[Finding]]


def is_on(trick: object) -> bool:
    """Whether a trick has a setting other than what its file calls off."""
    off: dict[str, object] = getattr(trick, "OFF", {})
    return not off or any(getattr(trick, option) != value for option, value in off.items())


def on(tricks: Iterable[Any], *names: str) -> list[Any]:
    """The tricks that do something; with names, only those from files of these names."""
    return [trick for trick in tricks if is_on(trick) and (not names or name_of(trick) in names)]


def listed(names: Iterable[str]) -> str:
    """Words of a sentence.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
