"""Options that several verbs share, so that they read the same everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[Path, typer.Argument(help="Folder of class folders, CSV, idx or npz arrays, tar or zip.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder, such as runs/photos-1.")]
Budget = Annotated[str | None, typer.Option(help="Time from start to report, such as 90s, 10m or 1h30m.")]
Out = Annotated[Path | None, typer.Option(help="Where to write.")]
Seed = Annotated[int, typer.Option(help="Everything random follows from it.")]
SeedOrNone = Annotated[
    int | None, typer.Option("--seed", help="Everything random follows from it; default 0 or the recipe's.")
]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="Follow this recipe (JSON or YAML).")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SLOT.OPTION=VALUE", help="Change one choice; repeatable."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps or auto.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show nothing but errors and the result.")]
Force = Annotated[bool, typer.Option("--force", help="Train even a recipe that cannot succeed.")]
ClinicMode = Annotated[
    str,
    typer.Option(
        "--clinic",
        help="off, watch (say what is wrong with the training), or treat (try remedies, keep what helps).",
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option("--weights", help="Start from this file: .safetensors, .pth, .npz or .onnx."),
]
BackboneName = Annotated[
    str | None,
    typer.Option("--backbone", help="The net the weights are of; alone: get its weights (timm:NAME)."),
]
Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="How to use them, instead of what is measured to be best: linear, early_linear, early_svm, "
        "last_stages, all, freeze_then_tenth or scratch.",
    ),
]
Split = Annotated[
    Path | None,
    typer.Option("--split", metavar="RUN", help="Take over the split of this run, to compare or to join."),
]
Workers = Annotated[
    int,
    typer.Option(
        min=0,
        help="How many are trained at once, the cores divided among them; 0: as many as this machine bears.",
    ),
]
Cluster = Annotated[
    str | None, typer.Option(help="Train on a Ray cluster instead: its address, or auto. Extra [cluster].")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
