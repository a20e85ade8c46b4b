"""Find what a folder holds by looking into it: no list and no registry to edit."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any


@cache
def adapters(package: str) -> dict[str, type[Any]]:
    """Every adapter in `package`: file name -> the class in it that has a `slot`.

    A file whose name starts with an underscore is a helper and is passed over.

    >>> "cosine" in adapters("convclinic.tricks.schedule")
    True
    """
    found: dict[str, type[Any]] = {}
    folder = importlib.import_module(package)
    for info in pkgutil.iter_modules(folder.__path__):
        if info.name.startswith("_") or info.ispkg:
            continue
        module = importlib.import_module(f"{package}.{info.name}")
        classes = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "slot")
        ]
        if len(classes) != 1:
            raise TypeError(
                f"{module.__name__} must hold exactly one adapter with a slot, not {len(classes)}"
            )
        found[info.name] = classes[0]
    return found


def card(adapter: type[Any]) -> str:
    """The card of a trick: the docstring of its file."""
    return (importlib.import_module(adapter.__module__).__doc__ or "").strip()
