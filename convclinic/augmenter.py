"""The augmentation of whole batches as a module, for loops and pipelines that are not convclinic's own.

    augment = Augment([ResizedCrop(), Flip(), ColourJitter()], size=(128, 128), seed=0)
    images = augment(images)        # uint8 (b, c, H, W) in, float32 (b, c, 128, 128) in [0, 1] out

It stands wherever a module or a function of images may: first in a net, in a Lightning module, in a fastai
callback, in `torchvision.transforms.v2.Compose`, or in a data set's `transform` for one image at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from convclinic.ground import rng
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Batch
from convclinic.tricks.augment._pipeline import augment, in_order, resize


class Augment(nn.Module):
    """Tricks of the slot `augment`, drawn anew at each call.

    In training mode, draws follow from `seed`, each trick's name and the number of calls so far: the same
    that convclinic's own loop makes at the same step. The number is kept in the state dict, so a resumed
    run goes on with new draws. In a worker of a DataLoader they follow from the worker's seed as well;
    without that, all workers would draw alike. In evaluation mode nothing is drawn, and images are only
    brought to `size` and to [0, 1], as convclinic does it in validation.

    Raises ConvclinicError for what is no augmentation.

    >>> from convclinic.tricks.augment.flip import Flip
    >>> mirror = Augment([Flip(p=1.0)], size=(1, 3))
    >>> image = torch.tensor([[[0, 51, 255]]], dtype=torch.uint8)
    >>> mirror(image).tolist() == torch.tensor([[[1.0, 0.2, 0.0]]]).tolist()
    True
    """

    def __init__(self, tricks: Sequence[Any], size: tuple[int, int], seed: int = 0) -> None:
        super().__init__()
        in_order(tricks)  # what is no augmentation is refused here and not at the first batch
        if min(size) < 1:
            raise ConvclinicError(f"size is {size}", fix="give (height, width) in pixels")
        self.tricks = tuple(tricks)
        self.size = size
        self.seed = seed
        self.calls = 0

    def forward(self, images: Tensor, *, indices: Tensor | None = None, epoch: int = 0) -> Tensor:
        """From uint8 images (b, c, H, W), or one (c, H, W), to float32 in [0, 1] at `size`.

        `indices` (b,) are the images' places in the data set; with `epoch` they matter to alternating_flip
        alone, which wants to know an image again. Raises ConvclinicError unless images are uint8.
        """
        if images.dtype != torch.uint8:
            raise ConvclinicError(
                f"Augment takes images as stored, uint8 in [0, 255], not {images.dtype}",
                fix="let it stand before the conversion to float: it ends with one of its own",
            )
        images = images.as_subclass(Tensor)  # torchvision's own kinds of tensor stand in the pipeline's way
        if images.ndim == 3:
            return self._batch(images[None], indices, epoch)[0]
        return self._batch(images, indices, epoch)

    def _batch(self, images: Tensor, indices: Tensor | None, epoch: int) -> Tensor:
        if not self.training:
            return resize(images, self.size).float().div_(255)
        call, self.calls = self.calls, self.calls + 1
        if indices is None:
            indices = torch.arange(len(images))
        unlabelled = torch.ones(len(images), 1, device=images.device)
        worker = get_worker_info()
        whose = () if worker is None else ("worker", int(worker.seed))

        def draws(trick: str) -> torch.Generator:
            return rng.generator(self.seed, "draw", trick, call, *whose)

        batch = Batch(images, unlabelled, indices, epoch, call)
        return augment(batch, self.tricks, draws, self.size).images

    def get_extra_state(self) -> Tensor:
        """The number of calls, for the state dict."""
        return torch.tensor(self.calls)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on after as many calls as the state dict says."""
        self.calls = int(state)

    def extra_repr(self) -> str:
        return f"{', '.join(map(repr, self.tricks))}, size={self.size}, seed={self.seed}"
