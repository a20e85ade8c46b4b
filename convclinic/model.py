"""A trained model: net, classes and preprocessing in one file that predicts anywhere.

The file is safetensors: tensors named `net.*` and `prepare.<position>.*`, and a JSON header with the
recipe, the classes and the facts measured on validation; of an ensemble `members.<number>.*` and, where a
classifier joins them, `head.*`. Nothing in it is pickled, so a hostile file can at worst be refused.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from convclinic.ground import rng
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import write_bytes
from convclinic.kinds import Layers, State
from convclinic.recipe import Recipe
from convclinic.tricks.augment._pipeline import resize
from convclinic.tricks.combine._mean import averaged
from convclinic.tricks.normalise.own import Own

FORMAT = 3  # ensembles with a head; 2: without, 1: what has one net only
LEAST = 1e-12  # a probability below is written as this one
MOST_PIXELS = 2**22  # an image: a file that asks for more is refused


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


@dataclass(frozen=True)
class Ensemble(Model):
    """Models of the same classes that answer together: by the weighted mean of calibrated probabilities, or
    by a linear classifier on what each of them says (stacking) or sees (early fusion).

    recipe and fitted are the first member's, whose image size the store has; members of another size get the
    images resized. net holds all their nets. weights (m,) sum to one. reads, one of READS, is what the
    classifier gets of each member, empty where there is none; head holds its weight (k, d) and bias (k,).
    """

    members: tuple[Model, ...] = ()
    weights: tuple[float, ...] = ()
    reads: str = ""
    head: State = field(default_factory=dict[str, Tensor])

    def inputs(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """(n, d) of each member: what the classifier reads of images (n, h, w, c), one after another."""
        read = READS[self.reads]
        return [read(one, _resized(images, one.recipe)) for one in self.members]

    def stream(self, chunks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """The classifier's logits, or logits whose softmax is the mean, chunk by chunk."""
        for chunk in chunks:
            if self.reads:
                inputs = np.concatenate(self.inputs(chunk), 1)
                yield inputs @ self.head["weight"].numpy().T + self.head["bias"].numpy()
                continue
            mixed = sum(
                weight * one.probabilities(one.logits(_resized(chunk, one.recipe)))
                for one, weight in zip(self.members, self.weights, strict=True)
            )
            yield np.log(np.maximum(mixed, LEAST)).astype(np.float32)

    @property
    def format(self) -> int:
        return max(3 if self.reads else 2, *(one.format for one in self.members))

    def tensors(self) -> dict[str, Tensor]:
        head = {f"head.{name}": value for name, value in self.head.items()}
        return head | {
            f"members.{number}.{name}": value.clone()  # one net may be a member twice
            for number, one in enumerate(self.members)
            for name, value in one.tensors().items()
        }

    def header(self) -> dict[str, Any]:
        members = [one.header() for one in self.members]
        plain = {**super().header(), "members": members, "weights": list(self.weights)}
        return {**plain, "reads": self.reads} if self.reads else plain


def log_probabilities(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    """What a stacking classifier reads: the logarithms of (n, k), bounded below."""
    return np.log(np.maximum(probabilities, LEAST)).astype(np.float32)


def _said(model: Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return log_probabilities(model.probabilities(model.logits(images)))


READS: dict[str, Callable[[Model, NDArray[np.uint8]], NDArray[np.float32]]] = {
    "log_probabilities": _said,
    "features": Model.features,
}


def by_size(members: Sequence[Model]) -> list[int]:
    """The order in which an ensemble has its members: the largest images first, else as they come."""
    return sorted(
        range(len(members)), key=lambda i: -members[i].recipe.data.height * members[i].recipe.data.width
    )


def joined(
    members: Sequence[Model], weights: Sequence[float], facts: dict[str, Any] | None = None
) -> Ensemble:
    """An ensemble of one or more models, in the order of `by_size`. Weights are divided by their sum.

    Raises ConvclinicError where their classes or channels differ.
    """
    order = by_size(members)
    ranked, total = [members[i] for i in order], sum(weights)
    first = ranked[0]
    for one in ranked:
        if one.classes != first.classes or one.recipe.data.channels != first.recipe.data.channels:
            raise ConvclinicError(
                "the models are of different classes or channels", fix="join models of the same data"
            )
    nets = nn.ModuleList([one.net for one in ranked])
    shares = tuple(weights[i] / total for i in order)
    return Ensemble(
        first.recipe, first.classes, nets, first.fitted, first.deep_max, facts or {}, tuple(ranked), shares
    )


def _resized(images: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    size = (recipe.data.height, recipe.data.width)
    if images.shape[1:3] == size:
        return images
    return np.ascontiguousarray(resize(to_tensor(images), size).permute(0, 2, 3, 1).numpy())


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


def load(path: Path, device: torch.device | None = None) -> Model:
    """Read a model file, or the one in a run folder.

    Raises ConvclinicError for a file that is missing, truncated, not safetensors, of another program, of
    a newer version, or whose tensors do not fit the net its recipe names: one blank image must pass.
    """
    if path.is_dir():
        if not (path / "recipe.json").exists():
            raise ConvclinicError(f"{path} is not a run folder of convclinic", fix="it has no recipe.json")
        if not (path / "model.safetensors").exists():
            raise ConvclinicError(
                f"{path} has no model yet", fix=f"finish it with `convclinic resume {path}`"
            )
        path = path / "model.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("convclinic")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise ConvclinicError(f"no model file {path}") from error
    except (SafetensorError, OSError, struct.error) as error:
        raise ConvclinicError(
            f"{path} is not a readable model file: {error}", fix="copy or train it again"
        ) from error
    if header is None:
        raise ConvclinicError(f"{path} is a safetensors file of another program", fix="give a convclinic run")
    model = _assemble(path, _header(path, header), tensors)
    model.net.to(device or torch.device("cpu"))
    return model


def _header(path: Path, text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
        version = int(header["format"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConvclinicError(f"the header of {path} is damaged: {error}") from error
    if version > FORMAT:
        raise ConvclinicError(
            f"{path} has format {version}; this convclinic reads up to {FORMAT}", fix="upgrade convclinic"
        )
    return header


def _assemble(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> Model:
    try:
        model = _members(path, header, tensors) if "members" in header else _single(header, tensors)
        shape = model.recipe.data
        blank = np.zeros((1, shape.height, shape.width, shape.channels), np.uint8)
        probabilities, threshold = model.probabilities(model.logits(blank)), model.threshold
    except Exception as error:  # what a constructor makes of a hostile value can be anything
        words = " ".join(str(error).split())[:300]
        raise ConvclinicError(
            f"the parts of {path} do not fit together: {type(error).__name__}: {words}",
            fix="copy or train it again",
        ) from error
    if not np.isfinite([*probabilities[0], threshold]).all():
        raise ConvclinicError(f"the net in {path} gives no numbers", fix="train it again, with a smaller LR")
    return model


def _members(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> Ensemble:
    parts = [
        _assemble(path, one, _named(tensors, f"members.{number}."))
        for number, one in enumerate(list(header["members"]))
    ]
    ensemble = joined(parts, [float(weight) for weight in header["weights"]], dict(header["facts"]))
    if "reads" not in header:
        return ensemble
    weight, bias = tensors["head.weight"], tensors["head.bias"]
    if bias.shape != (len(ensemble.classes),) or weight.ndim != 2 or len(weight) != len(bias):
        raise ValueError("the head is of other classes")
    head = {"weight": weight, "bias": bias}
    return dataclasses.replace(ensemble, reads=str(header["reads"]), head=head)


def _single(header: dict[str, Any], tensors: dict[str, Tensor]) -> Model:
    recipe, classes = Recipe.from_dict(dict(header["recipe"])), tuple(map(str, header["classes"]))
    deep_max, facts = int(header["deep_max"]), dict(header["facts"])
    _check_values(recipe, classes, deep_max, facts)
    fitted = tuple(_named(tensors, f"prepare.{i}.") for i in range(len(recipe.prepare)))
    with torch.device("meta"):  # a hostile header can ask for any width: nothing is allocated for it
        net = bare_net(recipe, len(classes))
    net.load_state_dict(_named(tensors, "net."), assign=True)
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return Model(recipe, classes, net, fitted, deep_max, facts)


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _check_values(recipe: Recipe, classes: tuple[str, ...], deep_max: int, facts: dict[str, Any]) -> None:
    """Refuse what would ask for absurd amounts of memory, or could not be answered with."""
    height, width, channels = recipe.data.height, recipe.data.width, recipe.data.channels
    if height < 1 or width < 1 or height * width > MOST_PIXELS or channels not in (1, 3):
        raise ValueError(f"images of {height} x {width} pixels and {channels} channels")
    if len(set(classes)) < max(2, len(classes)):
        raise ValueError("classes must be two or more different names")
    if deep_max < 1 or not float(facts.get("temperature", 1.0)) > 0:
        raise ValueError("deep_max and temperature must be above zero")
