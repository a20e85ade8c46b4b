"""convclinic features: what a pretrained net sees in images, at every stage."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from convclinic.cli.options import Device, Json, Out, Quiet, Seed, print_json


def run(
    images: Annotated[
        Path, typer.Argument(help="Folder of images or of class folders, CSV, archive or arrays.")
    ],
    weights: Annotated[
        Path | None, typer.Option(help="Pretrained weights: safetensors, .pth, .npz or ONNX.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="The net, such as mobilenet_v2, or timm:NAME with weights from the hub."),
    ] = None,
    stages: Annotated[
        list[str] | None, typer.Option(help="Take this stage; repeatable. Default: every stage.")
    ] = None,
    head: Annotated[
        str, typer.Option(help="The classifier stages are judged by: logistic, svm or linear.")
    ] = "logistic",
    side: Annotated[
        int | None, typer.Option(min=32, help="Pixels that images are resized to. Default: the weights' own.")
    ] = None,
    out: Out = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps features between calls. Default: beside the result."),
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the features of images to an .npz file and, for labelled images, say which stage classifies them
    best.

    Accuracies are those of a linear classifier in cross-validation that keeps copies and groups together.
    """
    from convclinic.job.featuring import features

    done = features(
        images,
        weights=weights,
        backbone=backbone,
        stages=stages or (),
        head=head,
        side=side,
        out=out,
        cache=cache,
        device=device,
        seed=seed,
        quiet=quiet or as_json,
    )
    if as_json:
        print_json({**dataclasses.asdict(done), "file": str(done.file), "head": head})
        return
    if quiet:
        typer.echo(done.file)
        return
    for words in done.words:
        typer.echo(words)
    width = max(len(score.stage) for score in done.stages)
    judged = done.best is not None
    typer.echo(
        f"\n{'stage':<{width}}  features" + ("  accuracy  balanced (standard error)" if judged else "")
    )
    for score in done.stages:
        line = f"{score.stage:<{width}}  {score.features:>8}"
        if score.accuracy is not None:
            line += f"  {score.accuracy:>8.1%}  {score.balanced_accuracy:>8.1%} ({score.standard_error:.1%})"
        typer.echo(line + ("  best" if score.stage == done.best else ""))
    unread = f", {len(done.unread)} could not be read" if done.unread else ""
    typer.echo(f"\n{done.n} images at {done.size[0]} x {done.size[1]} pixels written to {done.file}{unread}")
