"""The one exception that users are meant to read: what went wrong, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConvclinicError(Exception):
    """A mistake in the input or the surroundings, told in words a user can act on.

    The command line prints it without a traceback and exits with status 2.

    >>> print(ConvclinicError("no folder 'photo'", fix="check the spelling"))
    no folder 'photo' (check the spelling)
    """

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message, fix)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} ({self.fix})" if self.fix else self.message


class Interrupted(ConvclinicError):
    """Ctrl-C: the step was finished and everything is saved."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """A sentence that names the nearest allowed word, or all of them when none is near.

    >>> nearest("flop", ["flip", "crop"])
    "did you mean 'flip'?"
    >>> nearest("xyz", ["flip", "crop"])
    'allowed: crop, flip'
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(given, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"allowed: {', '.join(names)}"
