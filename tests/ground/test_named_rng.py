import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.ground.rng import derive, generator, scoped

part = st.text(st.characters(codec="utf-8", exclude_characters="\x1f"), max_size=8)
path = st.lists(part, max_size=4).map(tuple)


def test_golden_values():
    """Runs of earlier versions can be replayed only while these stay. Checked with b2sum -l 64."""
    assert derive(0) == 4246866556266386882
    assert derive(0, "augment", "flip", 120) == 4630722420517425176
    assert derive(42, "order", 3) == 6560334338443685962


@settings(deadline=None, derandomize=True)
@given(st.integers(-(2**40), 2**40), path, path)
def test_streams_are_told_apart_by_every_part_of_their_name(seed, a, b):
    assert 0 <= derive(seed, *a) < 2**63
    assert (derive(seed, *a) == derive(seed, *b)) == (a == b)
    assert derive(seed, *a) != derive(seed + 1, *a)


def test_names_do_not_run_together():
    assert derive(0, "ab", "c") != derive(0, "a", "bc")
    assert derive(1, "2") != derive(12)
    assert derive(0, "a", "b") != derive(0, "b", "a")


def test_a_draw_does_not_depend_on_who_drew_before():
    alone = torch.rand(5, generator=generator(0, "flip", 3))
    torch.rand(100)
    torch.rand(7, generator=generator(0, "crop", 3))
    assert torch.equal(torch.rand(5, generator=generator(0, "flip", 3)), alone)
    assert not torch.equal(torch.rand(5, generator=generator(0, "flip", 4)), alone)


def test_streams_are_uncorrelated():
    drawn = torch.stack([torch.randn(2000, generator=generator(0, "x", i)) for i in range(20)])
    correlations = torch.corrcoef(drawn) - torch.eye(20)
    assert correlations.abs().max() < 0.12  # 5 standard deviations of 1 / sqrt(2000)


def test_scoped_names_global_draws_and_puts_the_state_back():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with scoped(0, "forward", 5):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    torch.rand(11)
    with scoped(0, "forward", 5):
        assert torch.equal(torch.rand(3), inside)
    with scoped(0, "forward", 6):
        assert not torch.equal(torch.rand(3), inside)


def test_scoped_puts_the_state_back_after_an_exception():
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="inside"), scoped(0, "forward"):
        torch.rand(3)
        raise ValueError("inside")
    assert torch.equal(torch.get_rng_state(), before)
