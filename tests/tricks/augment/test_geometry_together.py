"""Rotation, scale, shift and flips together: their formulas one inside the other, and resampled once."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.ground.rng import generator
from convclinic.kinds import Batch
from convclinic.tricks.augment._pipeline import replay
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.quarter_turn import QuarterTurn
from convclinic.tricks.augment.rotate import Rotate
from convclinic.tricks.augment.scale import Scale
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.augment.vertical_flip import VerticalFlip

SIDE = 32
HALF = SIDE / 2


def one(value: float | int | bool) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64 if isinstance(value, float) else None)


def ramp(gradient: complex) -> torch.Tensor:
    """A plane of gray levels, which linear interpolation keeps but for the rounding to levels."""
    at = torch.arange(SIDE) + 0.5 - HALF
    plane = 127.5 + gradient.real * at + gradient.imag * at[:, None]
    return plane.round().to(torch.uint8).expand(1, 1, SIDE, SIDE)


Inward = Callable[[complex], complex]


def step(name: str, amount: float, dy: int, dx: int) -> tuple[object, dict[str, torch.Tensor], Inward]:
    """A trick, its parameters, and where its card says that an output point lies in the input.

    Points are x + iy in pixels from the centre.
    """
    angle, factor, flips, turns = math.pi * amount, 1.1 + 0.2 * amount, amount > 0, round(1.5 + 1.5 * amount)
    if name == "rotate":
        return Rotate(), {"radians": one(angle)}, lambda z: z * cmath.exp(1j * angle)
    if name == "scale":
        return Scale(), {"factor": one(factor)}, lambda z: z / factor
    if name == "shift":
        return Shift(), {"dy": one(dy), "dx": one(dx)}, lambda z: z + complex(dx, dy)
    if name == "flip":
        return Flip(), {"flip": one(flips)}, lambda z: -z.conjugate() if flips else z
    if name == "vertical_flip":
        return VerticalFlip(), {"flip": one(flips)}, lambda z: z.conjugate() if flips else z
    return QuarterTurn(), {"turns": one(turns)}, lambda z: z * 1j**turns


names = st.sampled_from(["rotate", "scale", "shift", "flip", "vertical_flip", "quarter_turn"])
plans = st.lists(
    st.tuples(names, st.floats(-1, 1), st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=4
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(plans, st.floats(0, 2 * math.pi))
def test_a_combination_is_the_composition_of_its_formulas(
    plan: list[tuple[str, float, int, int]], direction: float
) -> None:
    """The first trick works on the image, so its formula is the last that an output point passes."""
    drawn = [step(*choice) for choice in plan]
    gradient = cmath.rect(3.5, direction)
    images = ramp(gradient)
    batch = Batch(images, torch.ones(1, 1), torch.zeros(1, dtype=torch.int64))
    out = replay(batch, [(trick, params) for trick, params, _ in drawn], (SIDE, SIDE)).images[0, 0] * 255
    seen = 0
    for i in range(0, SIDE, 3):
        for j in range(0, SIDE, 3):
            z = complex(j + 0.5 - HALF, i + 0.5 - HALF)
            for _, _, inward in reversed(drawn):
                z = inward(z)
            if max(abs(z.real), abs(z.imag)) < HALF - 3:  # elsewhere a filter may see the border
                seen += 1
                expected = 127.5 + gradient.real * z.real + gradient.imag * z.imag
                assert abs(out[i, j].item() - expected) < 0.6
    assert seen


def test_there_and_back_is_the_image_itself() -> None:
    """One resampling for all: resampled one after another, noise would lose most of its contrast."""
    shape = (1, 3, SIDE, SIDE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(0, "noise"))
    batch = Batch(images, torch.ones(1, 1), torch.zeros(1, dtype=torch.int64))
    there = [(Rotate(), {"radians": one(0.4)}), (Scale(), {"factor": one(1.3)})]
    back = [(Scale(), {"factor": one(1 / 1.3)}), (Rotate(), {"radians": one(-0.4)})]
    together = replay(batch, [*there, *back], (SIDE, SIDE)).images
    assert torch.allclose(together, images / 255, atol=1e-5)
    between = Batch((replay(batch, there, (SIDE, SIDE)).images * 255).byte(), batch.targets, batch.indices)
    apart = replay(between, back, (SIDE, SIDE)).images
    middle = (..., slice(8, -8), slice(8, -8))
    assert np.std(apart[middle].numpy()) < 0.8 * np.std(together[middle].numpy())
