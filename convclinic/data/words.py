"""How findings and errors speak of counts and names."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

N_EXAMPLES = 5


def count(n: int, noun: str, plural: str = "") -> str:
    """A count in words.

    >>> count(1, "image"), count(1200, "image"), count(2, "class", "classes")
    ('1 image', '1,200 images', '2 classes')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def shown(name: str) -> str:
    r"""`name` as printable text: bytes that are no UTF-8 appear as escapes.

    >>> shown("caf\udce9.jpg")
    'caf\\udce9.jpg'
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def examples(names: Iterable[str]) -> tuple[str, ...]:
    """The first few names, printable."""
    return tuple(shown(name) for name in islice(names, N_EXAMPLES))


def listed(names: Iterable[str], most: int = N_EXAMPLES) -> str:
    """Names in quotes, the first few of them.

    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    every = [f"'{shown(name)}'" for name in names]
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" and {rest} more" if rest > 0 else "")
