"""convclinic plan: what fit would do, and why."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import typer

from convclinic.cli.options import (
    BackboneName,
    Budget,
    Data,
    Device,
    Force,
    Json,
    Out,
    Quiet,
    RecipeFile,
    SeedOrNone,
    Settings,
    Split,
    Strategy,
    WeightsFile,
    print_json,
)


def run(
    data: Data,
    budget: Budget = None,
    out: Out = None,
    seed: SeedOrNone = None,
    recipe: RecipeFile = None,
    settings: Settings = None,
    weights: WeightsFile = None,
    backbone: BackboneName = None,
    strategy: Strategy = None,
    split: Split = None,
    device: Device = None,
    quiet: Quiet = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Say what `fit` would do and why, and write the recipe (to --out, or NAME-recipe.json here)."""
    from convclinic.job.fitting import plan

    target = out or Path(f"{data.resolve().name.split('.')[0]}-recipe.json")
    made, path = plan(
        data,
        budget=budget,
        out=target,
        seed=seed,
        recipe=recipe,
        settings=settings or (),
        device=device,
        quiet=quiet or as_json,
        force=force,
        weights=weights,
        backbone=backbone,
        strategy=strategy,
        split=split,
    )
    if as_json:
        reasons = [dataclasses.asdict(reason) for reason in made.reasons]
        print_json(
            {"file": str(path), "recipe": made.recipe.to_dict(), "reasons": reasons, "epochs": made.epochs}
        )
        return
    for reason in made.reasons:
        typer.echo(f"{reason.choice}: {reason.value}\n    {reason.reason}")
    typer.echo(f"\nwritten to {path}; train it with: convclinic fit {data} --recipe {path}")
