import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.tricks.prepare._stream import NOTHING, as_float, merged, moments


def test_levels_become_what_the_net_is_given():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(as_float(levels), levels.float().div(255))
    assert torch.equal(levels, torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)), "changed in place"


def test_floats_are_kept_but_for_half_precision():
    for dtype, wide in [("float16", "float32"), ("float32", "float32"), ("float64", "float64")]:
        x = torch.rand(1, 1, 2, 2).to(getattr(torch, dtype))
        assert as_float(x).dtype == getattr(torch, wide) and torch.equal(as_float(x).to(x.dtype), x)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.floats(-1e6, 1e6), st.integers(0, 99))
def test_merged_moments_are_those_of_all_together(sizes, origin, seed):
    rng = np.random.default_rng(seed)
    parts = [origin + rng.normal(size=(size, 2, 3, 2)) for size in sizes]
    for axes in [(0,), (0, 2, 3)]:
        total = NOTHING
        for part in parts:
            total = merged(total, moments(torch.from_numpy(part), axes))
        whole = np.concatenate(parts)
        assert total.n == whole.size // total.mean.numel()
        np.testing.assert_allclose(total.mean.numpy(), whole.mean(axes), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(total.std.numpy(), whole.std(axes), rtol=1e-7, atol=1e-9)
