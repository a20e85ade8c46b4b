"""Ranges of options, refused in words."""

from __future__ import annotations

from convclinic.ground.errors import ConvclinicError


def within(name: str, value: float | int, low: float | int, high: float | int) -> None:
    """Raise ConvclinicError unless `low` <= `value` <= `high`; NaN is never within.

    >>> within("flip.p", 0.5, 0, 1)
    >>> within("flip.p", 50, 0, 1)
    Traceback (most recent call last):
    convclinic.ground.errors.ConvclinicError: flip.p is 50 (give a number from 0 to 1)
    """
    if not low <= value <= high:
        raise ConvclinicError(f"{name} is {value}", fix=f"give a number from {low:g} to {high:g}")
