"""Options of augmentations, refused in words."""

from __future__ import annotations

from collections.abc import Sequence

from convclinic.ground.errors import ConvclinicError, nearest


def within(name: str, value: float | int, low: float | int, high: float | int) -> None:
    """Raise ConvclinicError unless `low` <= `value` <= `high`; NaN is never within.

    >>> within("flip.p", 0.5, 0, 1)
    >>> within("flip.p", 50, 0, 1)
    Traceback (most recent call last):
    convclinic.ground.errors.ConvclinicError: flip.p is 50 (give a number from 0 to 1)
    """
    if not low <= value <= high:
        raise ConvclinicError(f"{name} is {value}", fix=f"give a number from {low:g} to {high:g}")


def span(name: str, value: tuple[float, float], low: float | int, high: float | int) -> None:
    """Raise ConvclinicError unless `value` is a (low, high) that lies within `low` and `high`.

    >>> span("hsv_jitter.power", (0.25, 4), 0.01, 100)
    >>> span("hsv_jitter.power", (4, 0.25), 0.01, 100)
    Traceback (most recent call last):
    convclinic.ground.errors.ConvclinicError: hsv_jitter.power is (4, 0.25) (give the lower number first)
    """
    for end in value:
        within(name, end, low, high)
    if value[0] > value[1]:
        raise ConvclinicError(f"{name} is {value}", fix="give the lower number first")


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ConvclinicError unless `value` is one of the `allowed` words.

    >>> one_of("shift.border", "zeros", ("reflect", "zero"))
    Traceback (most recent call last):
    convclinic.ground.errors.ConvclinicError: shift.border is 'zeros' (did you mean 'zero'?)
    """
    if value not in allowed:
        raise ConvclinicError(f"{name} is '{value}'", fix=nearest(value, allowed))
