"""The clinic: what is wrong with a training run, how we know, and what to do. `Clinic` attaches to any loop.

It is loaded when first used, so that reading recorded curves needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convclinic.clinic.clinic import Clinic as Clinic

__all__ = ["Clinic"]


def __getattr__(name: str) -> Any:
    if name == "Clinic":
        from convclinic.clinic.clinic import Clinic

        return Clinic
    raise AttributeError(f"module 'convclinic.clinic' has no attribute '{name}'")
