"""The augmentation as a module: the loop's own draws, one image or many, in training and in evaluation."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from convclinic import augmenter
from convclinic.augmenter import Augment
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.rng import generator
from convclinic.kinds import Batch
from convclinic.tricks.augment._pipeline import augment, resize
from convclinic.tricks.augment.alternating_flip import AlternatingFlip
from convclinic.tricks.augment.colour_jitter import ColourJitter
from convclinic.tricks.augment.cutout import Cutout
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.mix.mixup import Mixup

TRICKS = (Shift(pixels=2), Flip(), ColourJitter(), Cutout())


def noise(n: int = 8, side: int = 12) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=generator(0, "noise"))


def test_the_draws_are_those_of_convclinics_loop():
    """At its k-th call: the same as the loop's step k."""
    images = noise()
    module = Augment(TRICKS, size=(10, 10), seed=3)
    for step in range(3):
        batch = Batch(images, torch.ones(8, 1), torch.arange(8), step=step)
        wanted = augment(batch, TRICKS, lambda trick, step=step: generator(3, "draw", trick, step), (10, 10))
        assert torch.equal(module(images), wanted.images)


def test_each_call_draws_anew_and_a_seed_repeats_them():
    images = noise()
    first, again = Augment(TRICKS, (12, 12), seed=1), Augment(TRICKS, (12, 12), seed=1)
    other = Augment(TRICKS, (12, 12), seed=2)
    a, b = first(images), first(images)
    assert not torch.equal(a, b)
    assert torch.equal(again(images), a)
    assert torch.equal(again(images), b)
    assert not torch.equal(other(images), a)


def test_global_random_numbers_are_neither_used_nor_changed():
    before = torch.get_rng_state()
    Augment(TRICKS, (12, 12))(noise())
    assert torch.equal(torch.get_rng_state(), before)


def test_images_come_out_as_floats_and_go_in_unchanged():
    images = noise()
    kept = images.clone()
    out = Augment(TRICKS, size=(9, 7))(images)
    assert (out.shape, out.dtype) == ((8, 3, 9, 7), torch.float32)
    assert out.min() >= 0 and out.max() <= 1
    assert torch.equal(images, kept)


def test_evaluation_resizes_and_draws_nothing():
    images = noise()
    module = Augment(TRICKS, size=(9, 7)).eval()
    assert torch.equal(module(images), resize(images, (9, 7)).float() / 255)
    assert torch.equal(module(images), module(images))
    same = Augment(TRICKS, size=(12, 12)).eval()
    assert torch.equal(same(images), images.float() / 255)
    assert module.calls == 0


def test_it_follows_the_mode_of_the_net_it_stands_in():
    net = nn.Sequential(Augment([Flip(p=1.0)], (12, 12)), nn.Identity())
    images = noise()
    assert torch.equal(net(images), images.flip(3).float() / 255)
    assert torch.equal(net.eval()(images), images.float() / 255)


def test_one_image_is_a_batch_of_one():
    images = noise(1)
    one, many = Augment(TRICKS, (12, 12)), Augment(TRICKS, (12, 12))
    assert torch.equal(one(images[0]), many(images)[0])
    assert one(images[0]).shape == (3, 12, 12)


def test_the_epoch_and_the_indices_reach_the_tricks():
    images = noise()
    module = Augment([AlternatingFlip()], (12, 12))
    places = torch.arange(40, 48)
    even, odd = (module(images, indices=places, epoch=epoch) for epoch in (0, 1))
    assert torch.equal(even.flip(3), odd)
    assert torch.equal(module(images, indices=places, epoch=2), even)
    assert not torch.equal(module(images, indices=places + 8), even)


def test_a_resumed_run_goes_on_with_new_draws():
    images = noise()
    module = nn.Sequential(Augment(TRICKS, (12, 12)))
    for _ in range(3):
        module(images)
    resumed = nn.Sequential(Augment(TRICKS, (12, 12)))
    resumed.load_state_dict(module.state_dict())
    assert torch.equal(resumed(images), module(images))
    assert all(isinstance(value, torch.Tensor) for value in module.state_dict().values())


def test_copies_and_pickles_go_on_where_the_module_is():
    images = noise()
    module = Augment(TRICKS, (12, 12))
    module(images)
    copied, pickled = copy.deepcopy(module), pickle.loads(pickle.dumps(module))
    expected = module(images)
    assert torch.equal(copied(images), expected)
    assert torch.equal(pickled(images), expected)


def test_workers_of_a_loader_draw_differently(monkeypatch):
    images = noise()

    def drawn(seed: int | None) -> torch.Tensor:
        info = None if seed is None else SimpleNamespace(seed=seed)
        monkeypatch.setattr(augmenter, "get_worker_info", lambda: info)
        return Augment(TRICKS, (12, 12))(images)

    assert not torch.equal(drawn(100), drawn(101))
    assert not torch.equal(drawn(100), drawn(None))
    assert torch.equal(drawn(100), drawn(100))


class Image(torch.Tensor):
    """A tensor of another library's, such as torchvision's tv_tensors.Image."""


def test_other_kinds_of_tensor_are_taken_as_plain_ones():
    images = noise()
    out = Augment(TRICKS, (12, 12))(images.as_subclass(Image))
    assert type(out) is torch.Tensor
    assert torch.equal(out, Augment(TRICKS, (12, 12))(images))


@pytest.mark.parametrize("images", [noise().float() / 255, noise().to(torch.int64)])
def test_what_is_not_uint8_is_refused(images):
    with pytest.raises(ConvclinicError, match=r"uint8 in \[0, 255\], not torch\.\w+ \(let it stand before"):
        Augment(TRICKS, (12, 12))(images)


def test_what_is_no_augmentation_is_refused_at_once():
    with pytest.raises(ConvclinicError, match="Mixup is no augmentation"):
        Augment([Flip(), Mixup()], (12, 12))
    with pytest.raises(ConvclinicError, match=r"size is \(0, 12\)"):
        Augment([Flip()], (0, 12))


def test_it_says_what_it_does():
    assert repr(Augment([Flip(p=0.3)], (12, 8), seed=4)) == "Augment(Flip(p=0.3), size=(12, 8), seed=4)"
