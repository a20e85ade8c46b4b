"""Plain data (from JSON, YAML or a command line) to typed dataclasses, with errors that teach."""

from __future__ import annotations

import dataclasses
import re
import typing
from types import UnionType
from typing import Any

from convclinic.ground.errors import ConvclinicError, nearest


def build(cls: type[Any], options: dict[str, Any], where: str) -> Any:
    """An instance of the dataclass `cls` with the given options, each converted to its field's type."""
    fields = {field.name for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for option in options:
        if option not in fields:
            raise ConvclinicError(f"{where} has no option '{option}'", fix=nearest(str(option), fields))
    return cls(**{key: convert(value, hints[key], f"{where}.{key}") for key, value in options.items()})


def convert(value: Any, wanted: Any, where: str) -> Any:
    """`value` as the type `wanted`, or a ConvclinicError: 3 for 3.0 is taken, "3" is not."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        if len(kinds) == len(value):
            return tuple(convert(item, kind, where) for item, kind in zip(value, kinds, strict=True))
    elif origin in (typing.Union, UnionType):
        if value is None and type(None) in inner:
            return None
        return convert(value, next(kind for kind in inner if kind is not type(None)), where)
    elif wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) < 1e300 or isinstance(value, float):
            return float(value)
    elif wanted is float and isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)  # YAML 1.1 takes 1e-4 for text
    elif (
        isinstance(wanted, type)
        and isinstance(value, wanted)
        and not (wanted is int and isinstance(value, bool))
    ):
        return value
    name = getattr(wanted, "__name__", str(wanted))
    raise ConvclinicError(f"{where} must be {name}, not {value!r}")


def replace_option(choice: Any, option: str, value: Any, where: str) -> Any:
    """`choice` with one option changed; the error for an unknown one names the nearest."""
    options = {field.name: getattr(choice, field.name) for field in dataclasses.fields(choice)}
    if option not in options:
        raise ConvclinicError(f"{where} has no option '{option}'", fix=nearest(option, options))
    kind = typing.get_type_hints(type(choice))[option]
    return dataclasses.replace(choice, **{option: convert(value, kind, f"{where}.{option}")})


def at_least(name: str, value: float, least: float) -> None:
    """Raise ConvclinicError when an option is below the least it may be."""
    if value < least:
        raise ConvclinicError(f"{name} must be at least {least}, not {value}")
