"""Write docs/tricks.md and docs/pictures/: every trick by section, with its card and its picture.

    python docs/make_tricks.py            # page and pictures; pictures need matplotlib and scikit-learn
    python docs/make_tricks.py --text     # the page alone

Nothing is written by hand there: the page follows from the cards, and the pictures from the tricks. These
are drawn at the trick's defaults, but for those in SHOWN, which are hard to see in a small picture.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convclinic.cli.tricks import SECTIONS, Entry, catalogue, folder, idea
from convclinic.ground import rng
from convclinic.ground.discovery import adapters
from convclinic.kinds import Batch, Watch
from convclinic.tricks.augment._pipeline import augment

FOLDER = Path(__file__).parent
PAGE, PICTURES = FOLDER / "tricks.md", FOLDER / "pictures"
DRAWS = 6
STORED, TILE, GAP = (144, 216), (72, 108), 4  # (height, width) of a photo and of a tile, pixels between tiles
MOST_BYTES = 40_000  # of a picture
COLOURS = (256, 128, 64, 32)  # of a picture's palette: the most that its size allows
SEEN = ("augment", "mix", "activate", "schedule")  # slots whose tricks have pictures
SHOWN: dict[str, dict[str, Any]] = {
    "augment.shift": {"pixels": 24},
    "augment.colour_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "augment.fancy_pca": {"std": 1.0},
    "augment.gaussian_blur": {"p": 1.0},
    "mix.mixup": {"alpha": 1.0},
    "mix.cutmix": {"p": 1.0},
}
HEAD = """# Tricks

Every trick and net, by section of the handbook. This page is made of the tricks' own cards by
`python docs/make_tricks.py`; `convclinic tricks` prints the same list, and `convclinic tricks NAME` a card.
A name is chosen with `--set SLOT=NAME`, as told in [Using it](using.md).
"""


def page() -> str:
    """The text of docs/tricks.md."""
    entries = catalogue()
    lines = [HEAD]
    for number, title, slots in SECTIONS:
        lines.append(f"## {number} {title}\n")
        for slot in slots:
            here = [entry for entry in entries if entry.slot == slot]
            if here:
                package = importlib.import_module(folder(slot))
                lines.append(f"### {slot}\n\n{(package.__doc__ or '').strip()}\n")
                lines += [block(entry) for entry in here]
    return "\n".join(lines)


def block(entry: Entry) -> str:
    """One trick: heading, idea, picture, and the card folded up."""
    words = idea(entry)
    lines = [f"#### {entry.name}\n", words[0].upper() + words[1:]]
    if entry.options:
        lines.append(f"\nOptions: {told(entry.options)}.")
    if picture(entry) is not None:
        lines.append(f"\n![{caption(entry)}](pictures/{picture(entry)})\n\n*{caption(entry)}*")
    lines.append(f"\n<details><summary>Card</summary>\n\n```text\n{entry.card}\n```\n\n</details>\n")
    return "\n".join(lines)


def told(options: dict[str, Any]) -> str:
    return ", ".join(f"`{option} = {json.dumps(value)}`" for option, value in options.items())


def picture(entry: Entry) -> str | None:
    """The name of a trick's picture; None where there is nothing to see."""
    return f"{entry.slot}-{entry.name}.png" if entry.slot in SEEN else None


def caption(entry: Entry) -> str:
    if entry.slot in ("augment", "mix"):
        shown = SHOWN.get(f"{entry.slot}.{entry.name}")
        settings = f"with {told(shown)}".replace("`", "") if shown else "at the defaults"
        return f"The photo and six draws of {entry.name} {settings}"
    if entry.slot == "activate":
        return f"{entry.name} and its derivative"
    return f"The factor of {entry.name}"


def made(entry: Entry) -> Any:
    """The trick as it is shown."""
    return adapters(folder(entry.slot))[entry.name](**SHOWN.get(f"{entry.slot}.{entry.name}", {}))


def photos(*names: str) -> Tensor:
    """scikit-learn's sample photos by turns, (6, 3, h, w) uint8."""
    from sklearn.datasets import load_sample_image

    height, width = STORED
    small = [
        Image.fromarray(load_sample_image(f"{name}.jpg")).resize((width, height), Image.Resampling.LANCZOS)
        for name in names
    ]
    images = np.stack([np.asarray(small[place % len(small)]) for place in range(DRAWS)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def sheet(entry: Entry) -> Image.Image:
    """The photo, and six draws beside it."""
    trick = made(entry)
    if entry.slot == "mix":
        stored = photos("flower", "china")
    else:  # the flower looks alike from both sides, so what moves is shown on the other photo
        stored = photos("china" if trick.kind == "geometry" else "flower")
    batch = Batch(stored, torch.eye(DRAWS), torch.arange(DRAWS))
    plain = augment(batch, (), lambda name: rng.generator(0, "docs", name), TILE)
    if entry.slot == "augment":
        if hasattr(trick, "fit"):
            trick = trick.fit([stored])
        drawn = augment(batch, (trick,), lambda name: rng.generator(0, "docs", name), TILE).images
    else:
        params = trick.sample(rng.generator(0, "docs", entry.name), plain)
        drawn, _ = trick.apply(plain.images, plain.targets, params)
    return side_by_side([plain.images[0], *drawn])


def side_by_side(images: list[Tensor]) -> Image.Image:
    """Float images (3, h, w) in [0, 1] in a row."""
    height, width = TILE
    row = Image.new("RGB", (len(images) * (width + GAP) - GAP, height), "white")
    for place, image in enumerate(images):
        levels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        row.paste(Image.fromarray(np.ascontiguousarray(levels)), (place * (width + GAP), 0))
    return row


def activation(entry: Entry) -> Image.Image:
    """f(x) and f'(x); what is drawn at random in training as dots."""
    trick = made(entry)
    x = torch.linspace(-5, 5, 401, requires_grad=True)
    # an activation of several maps is shown as it is meant: of linear maps of one x
    slopes = torch.linspace(1, -0.5, getattr(trick, "pieces", 1))
    module = trick.build(1)

    def values() -> Tensor:
        return module((slopes[:, None] * x)[None]).flatten()

    module.eval()
    tested = values()
    (derivative,) = torch.autograd.grad(tested.sum(), x)
    with rng.scoped(0, "docs", entry.name), torch.no_grad():
        module.train()
        trained = values()
    figure, axes = canvas("x")
    at = x.detach().numpy()
    if not torch.equal(trained, tested):
        axes.plot(at, trained.numpy(), ".", markersize=2, color="0.7", label="training")
    axes.plot(at, tested.detach().numpy(), color="C0", label="f(x)")
    axes.plot(at, derivative.numpy(), color="C1", linewidth=1, linestyle="--", label="f'(x)")
    axes.legend(frameon=False, fontsize=7)
    return rendered(figure)


def schedule(entry: Entry) -> Image.Image:
    """The factor over progress; over the batch size, or over evaluations, for one that depends on these."""
    trick = made(entry)
    if hasattr(trick, "scale"):
        figure, axes = canvas("batch size", "factor of the LR")
        sizes = [2**power for power in range(4, 13)]
        axes.loglog(sizes, [trick.scale(size) for size in sizes], marker="o", markersize=3, base=2)
    elif hasattr(trick, "observe"):
        figure, axes = canvas("evaluation, of a metric that rises and stalls by turns", "factor of the LR")
        axes.step(range(1, 41), _reactions(trick), where="post")
    else:
        figure, axes = canvas("share of training", "factor of the LR")
        progress = [place / 400 for place in range(401)]
        axes.plot(progress, [trick.factor(share) for share in progress])
        axes.set_ylim(-0.05, 1.05)
    return rendered(figure)


def _reactions(trick: Any) -> list[float]:
    """The factor after each of forty evaluations."""
    watch, scales = Watch(), []
    for place in range(40):
        watch = trick.observe(watch, 1 - 0.5 ** (place // 8) + 0.01 * min(place % 8, 3))
        scales.append(watch.scale)
    return scales


def canvas(x: str, y: str = "") -> tuple[Any, Any]:
    """A small figure and its axes, labelled."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2, 2.1), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.grid(color="0.9")
    axes.tick_params(labelsize=7)
    axes.set_xlabel(x, fontsize=7)
    axes.set_ylabel(y, fontsize=7)
    return figure, axes


def rendered(figure: Any) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def compressed(image: Image.Image) -> bytes:
    """A PNG with as many colours as its size allows, mixed from dots where it allows that too."""
    tries = [(COLOURS[0], Image.Dither.FLOYDSTEINBERG), *((n, Image.Dither.NONE) for n in COLOURS)]
    data = b""
    for colours, dither in tries:
        # the second pass takes the first one's palette: only then are colours mixed
        palette = image.quantize(colours)
        buffer = io.BytesIO()
        image.quantize(palette=palette, dither=dither).save(buffer, format="png", optimize=True)
        data = buffer.getvalue()
        if len(data) < MOST_BYTES:
            break
    return data


def draw(entry: Entry) -> bytes:
    makers = {"augment": sheet, "mix": sheet, "activate": activation, "schedule": schedule}
    return compressed(makers[entry.slot](entry))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--text", action="store_true", help="write the page alone")
    if not parser.parse_args().text:
        PICTURES.mkdir(exist_ok=True)
        pictured = {str(picture(entry)): entry for entry in catalogue() if picture(entry) is not None}
        for name, entry in pictured.items():
            (PICTURES / name).write_bytes(draw(entry))
        for stale in PICTURES.glob("*.png"):
            if stale.name not in pictured:
                stale.unlink()
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
