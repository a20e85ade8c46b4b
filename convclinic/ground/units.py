"""Durations and sizes as people write them."""

from __future__ import annotations

import re

from convclinic.ground.errors import ConvclinicError

LONGEST = 366 * 86400.0
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str | float) -> float:
    """Parse a duration into seconds.

    >>> seconds("10m"), seconds("1h30m"), seconds("45s"), seconds(90)
    (600.0, 5400.0, 45.0, 90.0)
    """
    if isinstance(text, int | float):
        value = float(text)
    else:
        cleaned = text.strip().lower().replace(" ", "")
        parts = re.findall(r"(\d+(?:\.\d+)?)(s|m|h|d)", cleaned)
        if not parts or "".join(number + unit for number, unit in parts) != cleaned:
            raise ConvclinicError(f"'{text}' is not a duration", fix="write it like 90s, 10m or 1h30m")
        value = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 < value <= LONGEST:
        wrong = "is longer than a year" if value > 0 else "is not above zero"
        raise ConvclinicError(f"the duration {text!r} {wrong}", fix="write it like 90s, 10m or 1h30m")
    return value


def duration(value: float) -> str:
    """Seconds for people.

    >>> duration(7.24), duration(95), duration(4000)
    ('7.2 s', '1 min 35 s', '1 h 07 min')
    """
    if value < 59.5:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    if value < 3599.5:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes:02d} min"


def size(n_bytes: float) -> str:
    """Bytes for people.

    >>> size(512), size(3_400_000)
    ('512 B', '3.4 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < (999.5 if unit == "B" else 999.95):
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"
