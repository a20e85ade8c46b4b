"""Look at the data and the machine, then plan. Everything is measured here; the choices are the planner's."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from convclinic.data.dataset import LEFT_OUT, Dataset, assemble
from convclinic.data.intake import Survey, survey
from convclinic.data.sources import Source
from convclinic.data.words import count
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.units import duration
from convclinic.job import folder as place
from convclinic.job.backbones import Loaded, load_backbone, wrong_pixels
from convclinic.job.checking import checked
from convclinic.job.display import Display
from convclinic.kinds import Finding
from convclinic.models._weights import HubUnreachable
from convclinic.models.compact import Compact
from convclinic.planning import hardware as machine
from convclinic.planning import planner, probing, transfer, tuning
from convclinic.planning.hardware import Hardware
from convclinic.planning.orientation import mirror_test
from convclinic.planning.other_net import around_net
from convclinic.planning.planner import Plan, Reason
from convclinic.planning.range_test import range_test
from convclinic.planning.speed import Speed, forward_operations, training_sizes
from convclinic.planning.speed import measure as measure_speed
from convclinic.planning.transfer import Advice
from convclinic.planning.tuning import Start
from convclinic.recipe import Recipe
from convclinic.slots import Input, name_of

PROBE_SHARE = 0.08  # of the budget goes to the place in the two-by-two table, where there are weights
TIMED_IMAGES = 8
SPEED_SHARE = 0.01  # of the budget goes to timing real steps
RANGE_SHARE = 0.015  # and to the LR range test
RANGE_STEPS = (20, 60)  # fewer say nothing, more are not needed
DEFAULT_EPOCHS = 40  # without a budget
DEFAULT_SECONDS = (60.0, 1800.0)  # and never less or more than this
NO_BUDGET_SECONDS = 600.0  # what measuring and the choice of sizes take for the budget when there is none
REPORT_SECONDS = 3.0  # writing the page, thumbnails and the model file


@dataclass(frozen=True)
class Wish:
    """What the user asked for. Seconds count from `started`, a time.monotonic() value."""

    data: Path
    budget: float | None
    seed: int
    recipe: Recipe | None
    settings: tuple[str, ...]
    device: torch.device
    started: float
    force: bool = False
    weights: Path | None = None
    backbone: str | None = None
    strategy: str | None = None
    split: Path | None = None

    @property
    def fixed_steps(self) -> bool:
        """Whether the user said how many steps: then no budget changes them."""
        return any(setting.startswith("run.steps") for setting in self.settings)

    def left(self) -> float | None:
        """Seconds of the budget that remain, its margin taken off."""
        if self.budget is None:
            return None
        return self.budget * (1 - planner.MARGIN) - (time.monotonic() - self.started)


@dataclass(frozen=True)
class Planned:
    plan: Plan
    data: Dataset
    hardware: Hardware
    findings: tuple[Finding, ...]
    speed: Speed | None
    closing: float  # seconds that evaluation, baselines and the report should take


def make_plan(wish: Wish, source: Source, folder: Path, display: Display) -> Planned:
    """Everything up to the frozen recipe; the store and the split are written into `folder`."""
    display.stage("look")
    seen = survey(source, seed=wish.seed)
    hardware = machine.measure(wish.device)
    loaded, missed = _pretrained(wish, 1 if seen.gray_share == 1.0 else 3, display)
    shape = _shape(wish, seen, hardware, loaded)
    display.update(1, 1, f"{len(source.names)} images, {len(source.classes)} classes, {hardware.name}")
    display.stage("check-up")

    def progress(done: int, total: int) -> None:
        display.update(done, total, f"{done} images")

    size = (shape.height, shape.width, shape.channels)
    data = assemble(source, seen, size, folder, seed=wish.seed, like=wish.split, progress=progress)
    display.update(1, 1, _checked(data))
    _say(data.findings, display)
    display.stage("plan")
    if wish.recipe is not None and wish.budget is None:
        recipe = wish.recipe.override(wish.settings)
        _refuse_unfit(recipe, len(data.classes))
        reasons = (Reason("recipe", wish.recipe.hash(), "given by the user; nothing was planned"),)
        plan = Plan(recipe, (*reasons, *_settings(wish)), 0.0, epochs(recipe, data))
        findings = (*data.findings, *_checked_recipe(wish, recipe, data, display))
        planned = Planned(plan, data, hardware, findings, None, 0.0)
    else:
        planned = _plan(wish, data, shape, hardware, display, loaded, folder)
    if missed:
        planned = dataclasses.replace(planned, findings=(*planned.findings, *missed))
    if wish.split is not None:
        reasons = (_same_split(wish.split, data), *planned.plan.reasons)
        planned = dataclasses.replace(planned, plan=dataclasses.replace(planned.plan, reasons=reasons))
    recipe = planned.plan.recipe
    display.update(
        1, 1, f"{planner_words(recipe)}, {recipe.run.steps} steps, {planned.plan.epochs:.1f} epochs"
    )
    return planned


def _same_split(run: Path, data: Dataset) -> Reason:
    left_out = int((data.splits == LEFT_OUT).sum())
    more = f"; {count(left_out, 'image')} that it does not have left out" if left_out else ""
    return Reason("split", f"that of {run}", f"asked for: both are judged on the same images{more}")


def planner_words(recipe: Recipe) -> str:
    options = ", ".join(str(value) for value in vars(recipe.net).values() if value)
    return f"{name_of(recipe.net)} net ({options}) at {recipe.data.height} x {recipe.data.width}"


def epochs(recipe: Recipe, data: Dataset) -> float:
    n = len(data.indices("train"))
    return recipe.run.steps * min(recipe.run.batch_size, n) / n


def _pretrained(wish: Wish, channels: int, display: Display) -> tuple[Loaded | None, tuple[Finding, ...]]:
    """The net that was asked for. A file that is bad stops everything; a hub that cannot be reached does not:
    then training goes from scratch, and a finding says so."""
    if wish.weights is None and wish.backbone is None:
        return None, ()
    if wish.recipe is not None:
        raise ConvclinicError(
            "--recipe and --weights or --backbone say two different things",
            fix="name the weights in the recipe: transfer.pretrained.file, net.backbone.model",
        )
    try:
        loaded = load_backbone(wish.weights, wish.backbone, channels=channels)
    except HubUnreachable as error:
        summary = f"no pretrained weights: {error.message}; the net is trained from scratch"
        display.say(f"  warning: {summary}\n  try: {error.fix}")
        return None, (Finding("no_pretrained_weights", "warning", summary=summary, remedies=(error.fix,)),)
    for words in loaded.words():
        display.say(f"  {words}")
    return loaded, ()


def _shape(wish: Wish, seen: Survey, hardware: Hardware, loaded: Loaded | None) -> Input:
    if wish.recipe is not None:
        return wish.recipe.override(wish.settings).data
    about_data = [setting for setting in wish.settings if setting.startswith("data.")]
    if loaded is not None:
        image = _forward_seconds(loaded, wish.device)

        def forward(height: int, width: int) -> float:
            return image * height * width

        shape = tuning.choose_sides(seen, loaded.source, forward, wish.left() or NO_BUDGET_SECONDS)
        return dataclasses.replace(Recipe(), data=shape).override(about_data).data

    def cost(height: int, width: int) -> float:
        recipe = Recipe(net=Compact(), data=Input(height, width, 3))
        return forward_operations(recipe, 10, height, width)

    shape = planner.choose_input(seen, wish.left() or NO_BUDGET_SECONDS, cost, hardware.rate)
    return dataclasses.replace(Recipe(), data=shape).override(about_data).data


def _forward_seconds(loaded: Loaded, device: torch.device) -> float:
    """Seconds that a forward pass takes, by the pixel of an image."""
    height, width = loaded.size()
    images = torch.zeros(TIMED_IMAGES, next(loaded.net.parameters()).shape[1], height, width, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    net = loaded.net.to(device)
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(3):
            begin = time.perf_counter()
            net(images).sum().item()  # waits for the device
            times.append(time.perf_counter() - begin)
    return min(times) / (TIMED_IMAGES * height * width)


def operations(recipe: Recipe, n_classes: int) -> float:
    """Operations of one training image, averaged over the recipe's image sizes: three forward passes."""
    return 3 * sum(
        share * forward_operations(recipe, n_classes, *size) for size, share in planner.shares(recipe)
    )


def _plan(
    wish: Wish,
    data: Dataset,
    shape: Input,
    hardware: Hardware,
    display: Display,
    loaded: Loaded | None,
    folder: Path,
) -> Planned:
    begin = time.monotonic()
    mirror = mirror_test(data, wish.seed)
    probe_seconds = time.monotonic() - begin
    balanced = not any(setting.startswith("balance") for setting in wish.settings)
    advice = None if loaded is None else _advice(wish, loaded, data, shape, folder)
    if loaded is not None and advice is not None and advice.strategy != "scratch":
        start = Start(
            loaded.backbone.model,
            loaded.weights.path,
            loaded.weights.sha256,
            loaded.source,
            loaded.net.stage_names,
        )
        recipe, reasons = tuning.draft(
            data.profile, shape, hardware, mirror, advice, start, wish.seed, balanced
        )
    elif wish.recipe is None:
        recipe, reasons = planner.draft(data.profile, shape, hardware, mirror, wish.seed, balanced)
    else:
        recipe, reasons = (
            wish.recipe,
            (Reason("recipe", wish.recipe.hash(), "given; its steps fit the budget"),),
        )
    drafted, recipe = recipe, recipe.override(wish.settings)
    if wish.recipe is None:
        recipe, reasons = around_net(recipe, reasons, wish.settings, drafted)
    reasons += _settings(wish)
    _refuse_unfit(recipe, len(data.classes))
    findings = _checked_recipe(wish, recipe, data, display)
    if loaded is not None:
        doubts = wrong_pixels(loaded, data, wish.device)
        _say(doubts, display)
        findings = [*doubts, *findings]
    budget = wish.budget or NO_BUDGET_SECONDS
    share = SPEED_SHARE * budget
    widths = isinstance(recipe.net, planner.Fast | Compact)
    if wish.recipe is None and widths and not any(s.startswith("net") for s in wish.settings):
        recipe, reason = planner.choose_width(
            recipe, data.profile, hardware, wish.left() or budget, operations
        )
        reasons += (reason,)
    speed = measure_speed(recipe, data, wish.device, share)
    recipe, solving = planner.affordable_head(recipe, data.profile, speed, budget)
    closing = _closing_seconds(data, speed, probe_seconds) + solving
    recipe, lr_reason = _choose_lr(wish, recipe, data, speed, budget)
    seconds = wish.left()
    if seconds is None:
        step = planner.mean_step(recipe, speed)
        wanted = DEFAULT_EPOCHS * len(data.indices("train")) / recipe.run.batch_size * step
        seconds = min(max(wanted, DEFAULT_SECONDS[0]), DEFAULT_SECONDS[1]) + closing
        display.say(f"  no --budget given: about {duration(seconds)} from here on")
    try:
        plan = planner.finish(
            recipe, (*reasons, lr_reason), data.profile, speed, seconds - closing, wish.fixed_steps
        )
    except ConvclinicError as error:
        raise ConvclinicError(
            f"the budget of {duration(budget)} is too small: {error.message}", fix=error.fix
        ) from error
    return Planned(plan, data, hardware, (*data.findings, *findings), speed, closing)


def _advice(wish: Wish, loaded: Loaded, data: Dataset, shape: Input, folder: Path) -> Advice:
    """Where the data stand in the two-by-two table; measuring it is given less than a tenth of the budget."""
    left = wish.left()
    evidence = probing.measure(
        loaded.net,
        loaded.prepare,
        loaded.fitted,
        data,
        wish.device,
        (shape.height, shape.width),
        seconds=PROBE_SHARE * (wish.budget or NO_BUDGET_SECONDS),
        seed=wish.seed,
        groups=place.groups(folder),
        budget=left,
        cache=folder / "cache",
    )
    advice = transfer.decide(evidence)
    if loaded.matched.folded:
        words = "batch norm keeps its statistics: the file has none of its own"
        advice = dataclasses.replace(advice, batch_norm="frozen", reasons=(*advice.reasons[:-1], words))
    return advice if wish.strategy is None else transfer.overruled(advice, wish.strategy)


def _settings(wish: Wish) -> tuple[Reason, ...]:
    parted = [setting.partition("=") for setting in wish.settings]
    return tuple(Reason(key, value, "set by the user") for key, _, value in parted)


def _say(findings: Sequence[Finding], display: Display) -> None:
    for finding in findings:
        if finding.severity != "info":
            display.say(
                f"  {finding.severity}: {finding.summary}"
                + (f" ({finding.action})" if finding.action else "")
            )


def _checked_recipe(wish: Wish, recipe: Recipe, data: Dataset, display: Display) -> list[Finding]:
    """What is wrong with the recipe for these data. Raises ConvclinicError where it cannot succeed, unless
    the user insists."""
    findings = checked(recipe, data)
    hopeless = [finding for finding in findings if finding.severity == "critical"]
    if hopeless and not wish.force:
        first = hopeless[0]
        raise ConvclinicError(
            f"this recipe cannot succeed: {first.summary}",
            fix="; ".join(first.remedies) + "; or insist with --force",
        )
    _say(findings, display)
    return findings


def _refuse_unfit(recipe: Recipe, n_classes: int) -> None:
    """Raise ConvclinicError when the net cannot take the images at one of the sizes they will have."""
    for height, width in {*training_sizes(recipe), (recipe.data.height, recipe.data.width)}:
        try:
            forward_operations(recipe, n_classes, height, width)
        except (RuntimeError, ValueError) as error:
            raise ConvclinicError(
                f"the net {name_of(recipe.net)} cannot take images of {height} x {width} pixels",
                fix="give larger ones with --set data.height=... --set data.width=..., or another net",
            ) from error


def _choose_lr(
    wish: Wish, recipe: Recipe, data: Dataset, speed: Speed, budget: float
) -> tuple[Recipe, Reason]:
    if any(s.startswith("optimise") for s in wish.settings) or wish.recipe is not None:
        return recipe, Reason("lr", f"{recipe.optimise.lr:.3g}", "given by the user")
    if any(trick.kind == "load" for trick in recipe.transfer):
        words = "usual for pretrained weights; from a solution a range test would only see the loss rise"
        return recipe, Reason("lr", f"{recipe.optimise.lr:.3g}", words)
    batch = min(recipe.run.batch_size, 128, data.profile.n_train)
    first = next(iter(speed.step.values())) * batch / min(recipe.run.batch_size, data.profile.n_train)
    steps = min(RANGE_STEPS[1], int(RANGE_SHARE * budget / first))
    if steps < RANGE_STEPS[0]:
        return planner.with_lr(recipe, None)
    return planner.with_lr(recipe, range_test(recipe, data, wish.device, steps, batch))


def _closing_seconds(data: Dataset, speed: Speed, probe_seconds: float) -> float:
    """Start of training, both splits in all views, baselines, report."""
    images = data.profile.n_validation + data.profile.n_test
    return speed.start + images * speed.views_image + 2 * probe_seconds + REPORT_SECONDS


def _checked(data: Dataset) -> str:
    profile = data.profile
    aside = f", {len(data.quarantine)} set aside" if data.quarantine else ""
    return f"{profile.n_train} train, {profile.n_validation} validation, {profile.n_test} test{aside}"
