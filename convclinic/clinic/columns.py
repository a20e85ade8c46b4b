"""The bounded table of what was seen step by step."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from convclinic.clinic.signals import ByLayer, Floats, Steps

FIRST = 256  # steps that are kept one by one
MOST = 2048  # rows; when they are full, every second one after the first goes

NAMES = tuple(field.name for field in dataclasses.fields(Steps))


class Columns:
    """Rows of named numbers, appended one step at a time, never more than `MOST`."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.layers: list[tuple[int, Floats, Floats]] = []
        self.stride = 1

    def append(self, row: dict[str, float]) -> None:
        """A row has at least `step`; what it lacks is NaN."""
        if (
            row["step"] > FIRST
            and row["step"] % self.stride
            and not math.isfinite(row.get("ratio", math.nan))
        ):
            return
        self.rows.append(row)
        if len(self.rows) > MOST:
            self.rows = self.rows[:FIRST] + self.rows[FIRST::2]
            self.stride *= 2

    def append_layers(self, step: int, gradient: Floats, ratio: Floats) -> None:
        self.layers.append((step, gradient, ratio))
        if len(self.layers) > FIRST:
            self.layers = self.layers[: FIRST // 4] + self.layers[FIRST // 4 :: 2]

    def steps(self) -> Steps:
        table = {name: np.array([row.get(name, math.nan) for row in self.rows], np.float64) for name in NAMES}
        return Steps(**table)

    def by_layer(self, names: tuple[str, ...]) -> ByLayer:
        if not self.layers:
            return ByLayer()
        steps, gradient, ratio = zip(*self.layers, strict=True)
        return ByLayer(names, np.array(steps, np.float64), np.stack(gradient), np.stack(ratio))
