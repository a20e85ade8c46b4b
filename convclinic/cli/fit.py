"""convclinic fit: a folder of photos in, an excellent classifier out."""

from __future__ import annotations

from convclinic.cli import STARTED
from convclinic.cli.options import (
    BackboneName,
    Budget,
    ClinicMode,
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
    clinic: ClinicMode = "watch",
    as_json: Json = False,
) -> None:
    """Train the best classifier the budget allows; every decision is stated with its reason."""
    from convclinic.job.fitting import fit

    done = fit(
        data,
        budget=budget,
        out=out,
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
        clinic=clinic,
        started=STARTED,
    )
    if as_json:
        print_json({"run": str(done.path), **done.metrics})
    elif quiet:
        print(done.path)
