"""What the options of several transfer tricks may be. A helper: no trick lives here."""

from __future__ import annotations

from convclinic.ground.errors import ConvclinicError


def check_share(trick: str, option: str, value: float) -> None:
    """Raises ConvclinicError unless 0 <= value <= 1."""
    if not 0 <= value <= 1:
        raise ConvclinicError(
            f"{trick}'s {option} is a share of training in [0, 1], not {value}", fix="0.3 is a third of it"
        )
