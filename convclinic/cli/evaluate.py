"""convclinic evaluate: metrics on other labelled data."""

from __future__ import annotations

from pathlib import Path

import typer

from convclinic.cli.options import Data, Device, Json, Out, Quiet, RunFolder, print_json


def run(
    folder: RunFolder,
    data: Data,
    out: Out = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Accuracy, balanced accuracy and per-class results of a run on labelled images it has not seen."""
    from convclinic.evaluate import on_folder
    from convclinic.ground.files import write_json
    from convclinic.model_file import load
    from convclinic.planning.hardware import choose_device

    metrics = on_folder(load(folder, choose_device(device)), data)
    if out is not None:
        write_json(Path(out), metrics)
    if as_json:
        print_json(metrics)
        return
    low, high = metrics["accuracy_interval"]
    typer.echo(
        f"{metrics['n']} images: accuracy {metrics['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}), "
        f"balanced {metrics['balanced_accuracy']:.1%}"
    )
    if quiet:
        return
    typer.echo(f"{'class':<24}{'precision':>10}{'recall':>10}{'images':>10}")
    for row in metrics["per_class"]:
        cells = ["-" if row[key] is None else f"{row[key]:.1%}" for key in ("precision", "recall")]
        typer.echo(f"{row['class']:<24}{cells[0]:>10}{cells[1]:>10}{row['support']:>10}")
    for item in metrics["unread"]:
        typer.echo(f"not read: {item['name']}: {item['reason']}", err=True)
