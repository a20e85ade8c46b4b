"""A trained model: net, classes and preprocessing in one file that predicts anywhere.

The file is safetensors: tensors named `net.*` and `prepare.<position>.*`, and a JSON header with the recipe,
the classes and the facts measured on validation. `model_file` reads it; `joint` has models that answer
together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from convclinic.ground import rng
from convclinic.ground.files import write_bytes
from convclinic.kinds import Layers, State
from convclinic.recipe import Recipe
from convclinic.tricks.augment._pipeline import resize
from convclinic.tricks.combine._mean import averaged
from convclinic.tricks.normalise.own import Own


@dataclass(frozen=True)
class Model:
    """What predicts. `fitted` is what each trick of `recipe.prepare` learnt from the training split;
    `deep_max` the white level of 16-bit images; `facts` plain data such as temperature and threshold."""

    recipe: Recipe
    classes: tuple[str, ...]
    net: nn.Module
    fitted: tuple[State, ...]
    deep_max: int = 65535
    facts: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the one file. Raises ConvclinicError when there is no room."""
        plain = {name: value.detach().cpu().contiguous() for name, value in self.tensors().items()}
        header = {"format": self.format, **self.header()}
        write_bytes(path, to_safetensors(plain, {"convclinic": json.dumps(header)}))

    @property
    def format(self) -> int:
        """The oldest format that can hold it."""
        return 1

    def tensors(self) -> dict[str, Tensor]:
        """What the file holds, by name."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        for position, state in enumerate(self.fitted):
            tensors |= {f"prepare.{position}.{name}": value for name, value in state.items()}
        return tensors

    def header(self) -> dict[str, Any]:
        """What the file says beside them."""
        return {
            "recipe": self.recipe.to_dict(),
            "classes": list(self.classes),
            "deep_max": self.deep_max,
            "facts": self.facts,
        }

    @property
    def threshold(self) -> float:
        """The probability below which the answer is "not sure"; 0 where none was measured."""
        return float(self.facts.get("reject", {}).get("threshold", 0.0))

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, k) logits, averaged over the recipe's test-time views, of (n, h, w, c) uint8 store images."""
        return np.concatenate(list(self.stream([images])))

    def stream(self, chunks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """`logits` chunk by chunk, so memory does not grow with their number."""
        device = next(self.net.parameters()).device
        for chunk in chunks:
            out = [forward(self.net, self.recipe, self.fitted, part, device) for part in batches(chunk)]
            yield torch.cat(out).numpy()

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, d) what the net's last layer reads of (n, h, w, c) uint8 store images; see `read_last`."""
        device = next(self.net.parameters()).device
        parts = [
            forward(self.net, self.recipe, self.fitted, part, device, answer=read_last)
            for part in batches(images)
        ]
        return torch.cat(parts).numpy()

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, k) calibrated probabilities: softmax of logits over the fitted temperature."""
        scaled = logits.astype(np.float64) / float(self.facts.get("temperature", 1.0))
        scaled = np.exp(scaled - scaled.max(1, keepdims=True))
        return scaled / scaled.sum(1, keepdims=True)


def bare_net(recipe: Recipe, n_classes: int) -> nn.Module:
    """The recipe's net with torch's default weights, without the noise that only training has."""
    norm = None if isinstance(recipe.normalise, Own) else recipe.normalise.build
    layers = Layers(recipe.activate.build, norm, getattr(recipe.activate, "pieces", 1))
    net: nn.Module = recipe.net.build(recipe.data.channels, n_classes, layers)
    return net


def build_net(recipe: Recipe, n_classes: int) -> nn.Module:
    """The net as it is trained, its weights drawn from the recipe's own stream."""
    with rng.scoped(recipe.seed, "net"):
        net = bare_net(recipe, n_classes)
    for trick in recipe.regularise:
        if trick.kind == "noise":
            trick.install(net)
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """(b, h, w, c) uint8 array -> (b, c, h, w) uint8 tensor in channels-last order, without a copy."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def batches(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Parts that keep activations at a few hundred megabytes, whatever the image size."""
    side = max(1, images.shape[1] * images.shape[2])
    size = int(min(1024, max(8, 2**20 // side)))
    for start in range(0, len(images), size):
        yield images[start : start + size]


def final_size(recipe: Recipe) -> tuple[int, int]:
    """(height, width) of images in validation, testing and prediction: the store's."""
    return recipe.data.height, recipe.data.width


def prepared(prepare: Sequence[Any], fitted: Sequence[State], images: Tensor) -> Tensor:
    """Float images in [0, 1] to what the net sees."""
    for trick, state in zip(prepare, fitted, strict=True):
        images = trick.apply(images, {name: value.to(images.device) for name, value in state.items()})
    return images


@torch.inference_mode()
def forward(
    net: nn.Module,
    recipe: Recipe,
    fitted: Sequence[State],
    images: NDArray[np.uint8],
    device: torch.device,
    views: bool = True,
    answer: Callable[[nn.Module, Tensor], Tensor] | None = None,
) -> Tensor:
    """(b, k) float32 logits on the CPU of one part of a set: resize, views, prepare, net. No draws at all.

    answer: what is asked of the net instead of its logits, as vectors (b, d); over views it is their mean.
    """
    net.eval()
    scaled = resize(to_tensor(images), final_size(recipe)).to(device).float().div_(255)
    scaled = scaled.contiguous(memory_format=torch.channels_last)
    seen = recipe.combine.views(scaled) if views else [(1.0, scaled)]
    low = recipe.run.precision == "bfloat16"
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=low):
        given = [prepared(recipe.prepare, fitted, view) for _, view in seen]
        parts = [(net(view) if answer is None else answer(net, view)).float() for view in given]
    mean = recipe.combine.mean if answer is None else "logits"
    return averaged(parts, [weight for weight, _ in seen], mean).cpu()


def read_last(net: nn.Module, images: Tensor) -> Tensor:
    """(b, d) what the last layer with weights (linear, or a convolution) is given of images as the net sees
    them: vectors as they are, maps by their means."""
    read = images

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        nonlocal read
        read = given[0]

    layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        net(images)
    finally:
        for hook in hooks:
            hook.remove()
    return read.mean((2, 3)) if read.ndim == 4 else read
