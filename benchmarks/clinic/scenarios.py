"""Which fault and which healthy variant runs on which net, data set and optimizer, in each half."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import clinic.faults_data
import clinic.faults_labels
import clinic.faults_loop
import clinic.faults_net
import clinic.healthy_data
import clinic.healthy_nets
import clinic.healthy_recipes  # noqa: F401
from clinic.families import FAMILIES, Base
from clinic.loop import OPTIMIZERS, Run
from clinic.planting import FAULTS, HEALTHY, Fault

STEPS = 200


def ordinary(run: Run) -> None:
    """Nothing planted."""


@dataclass(frozen=True)
class Scenario:
    """One run to watch: a healthy base, and what is changed in it."""

    half: str
    kind: str  # fault or healthy
    fault: Fault
    base: Base
    preflight: bool

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.fault.name}/{self.base.name}{'' if self.preflight else '/bare'}"


def _place(fault: Fault, half: str, steps: int, seed: int) -> Base:
    """The base on which it is planted: by its name's hash, so that it stays when others are added; another
    seed plants it elsewhere."""
    places = [
        (net, data, optimizer)
        for net, data in FAMILIES[half]
        for optimizer in OPTIMIZERS
        if (not fault.nets or net in fault.nets)
        and (not fault.data or data in fault.data)
        and (not fault.optimizers or optimizer in fault.optimizers)
    ]
    if not places:
        raise LookupError(f"{fault.name} fits no family of the half {half}")
    name = f"{half} {fault.name}" + (f" {seed}" if seed else "")
    net, data, optimizer = places[zlib.crc32(name.encode()) % len(places)]
    return Base(net, data, optimizer, seed, fault.steps or steps)


def scenarios(half: str, steps: int = STEPS, seed: int = 0, preflight: str = "mixed") -> list[Scenario]:
    """Every fault once, every healthy variant once, and every family with every optimizer as it is."""
    plain = Fault("ordinary", (), ordinary)
    rows = [("fault", fault, _place(fault, half, steps, seed)) for fault in FAULTS]
    rows += [("healthy", variant, _place(variant, half, steps, seed)) for variant in HEALTHY]
    rows += [
        ("healthy", plain, Base(net, data, optimizer, seed, steps))
        for net, data in FAMILIES[half]
        for optimizer in OPTIMIZERS
    ]
    made: list[Scenario] = []
    for kind, fault, base in rows:
        asked = zlib.crc32(f"{fault.name} {base.name}".encode()) % 2 == 0
        asked = fault.preflight if fault.preflight is not None else asked
        if preflight != "mixed":
            asked = preflight == "on"
        made.append(Scenario(half, kind, fault, base, asked))
    return made
