"""Each rule with recipes that it must tell and near misses that it must not; then nets and optimisers."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convclinic.checks import RULES, Facts, check, check_net, check_optimizer
from convclinic.checks.facts import is_on
from convclinic.checks.optimizers import RATES
from convclinic.data.profile import Profile
from convclinic.ground.discovery import adapters
from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Finding, Layers
from convclinic.model import bare_net
from convclinic.models.backbone import Backbone
from convclinic.planning.hardware import Hardware
from convclinic.planning.orientation import MirrorTest
from convclinic.planning.planner import draft
from convclinic.recipe import Recipe
from convclinic.slots import SLOTS, Input, name_of
from convclinic.tricks.regularise.dropout import Dropout
from convclinic.tricks.regularise.spatial_dropout import SpatialDropout
from convclinic.tricks.regularise.stochastic_depth import StochasticDepth

DIGITS = tuple("0123456789")
ANIMALS = ("cat", "dog", "frog", "horse")
NORMED = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 4))
BARE = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.Flatten(), nn.Linear(4, 4))
LINEAR = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
LAYERS = Layers(lambda _: nn.ReLU())
STAGED = Backbone(model="resnet20").build(3, 4, LAYERS)
UNNORMED = Backbone(model="squeezenet1_1").build(3, 4, LAYERS)
LOADED = "transfer.pretrained.file=weights.npz"


class Example(NamedTuple):
    """Settings on top of the default recipe, and what is known beside it."""

    settings: tuple[str, ...]
    facts: Facts

    @property
    def recipe(self) -> Recipe:
        return Recipe().override(self.settings)


def ex(*settings: str, **facts: Any) -> Example:
    return Example(settings, Facts(**facts))


class Case(NamedTuple):
    """What a rule says of the recipes it must tell, and those it must be silent about."""

    rule: str
    cause: str
    severity: str
    told: list[Example]
    silent: list[Example]


def imbalanced(*settings: str) -> Example:
    return ex(*settings, counts=(900, 90, 10))


CASES = [
    Case(
        "flips",
        "tricks_clash",
        "warning",
        [ex("augment=flip,alternating_flip"), ex("augment=alternating_flip,shift,flip")],
        [ex("augment=alternating_flip,shift"), ex("augment=flip,alternating_flip", "augment.flip.p=0")],
    ),
    Case(
        "overlaps",
        "tricks_overlap",
        "info",
        [
            ex("augment=resized_crop,shift"),
            ex("augment=scale,resized_crop"),
            ex("augment=hsv_jitter,colour_jitter"),
            ex("augment=rand_augment,rotate"),
            ex("mix=cutmix", "augment=cutout"),
            ex("mix=mixup", "regularise=label_smoothing"),
            ex("mix=cutmix", "regularise=label_smoothing"),
            ex("schedule=warm_up,one_cycle"),
            ex("prepare=zca", "initialise=dirac,patch_whitening"),
        ],
        [
            ex("augment=resized_crop,shift", "augment.shift.pixels=0"),
            ex("augment=shift,scale,rotate"),
            ex("mix=mixup", "augment=cutout"),
            ex("mix=mixup", "regularise=label_smoothing", "regularise.label_smoothing.smoothing=0"),
            ex("mix=mixup", "mix.mixup.alpha=0", "regularise=label_smoothing"),
            ex("mix=mixup,cutmix"),
            ex("schedule=warm_up,cosine"),
            ex("prepare=standardise", "initialise=dirac,patch_whitening"),
        ],
    ),
    Case(
        "same_preparation",
        "tricks_overlap",
        "info",
        [
            ex("prepare=standardise,zero_centre"),
            ex("prepare=standardise,min_max"),
            ex("prepare=standardise,standardise"),
            ex("prepare=pca_whitening,zca"),
            ex("prepare=mean_image,divide_by_std", "prepare.mean_image.divide=true"),
        ],
        [
            ex("prepare=zero_centre,divide_by_std"),
            ex("prepare=mean_image,divide_by_std"),
            ex("prepare=zero_centre,zca"),
            ex("prepare=none"),
        ],
    ),
    Case(
        "decayed_twice",
        "tricks_overlap",
        "info",
        [ex("regularise=l2"), ex("regularise=elastic_net", "optimise=adamw")],
        [
            ex("regularise=l2", "optimise.weight_decay=0"),
            ex("regularise=l1"),
            ex("regularise=l2", "regularise.l2.strength=0"),
            ex("regularise=elastic_net", "regularise.elastic_net.l2=0"),
        ],
    ),
    Case(
        "divided_penalty",
        "tricks_clash",
        "info",
        [ex("regularise=l2", "optimise=adam"), ex("regularise=l2", "optimise=rmsprop")],
        [ex("regularise=l2"), ex("regularise=l1", "optimise=adam"), ex("optimise=adamw")],
    ),
    Case(
        "lengths_set_anew",
        "tricks_clash",
        "warning",
        [ex("optimise=muon", f"regularise={name}") for name in ("l1", "l2", "elastic_net", "max_norm")],
        [ex("optimise=muon", "regularise=label_smoothing,dropout"), ex("regularise=max_norm")],
    ),
    Case(
        "two_samplings",
        "balance_twice",
        "critical",
        [ex("balance=up_sampling,down_sampling"), ex("balance=rare_crops,class_weights,two_part")],
        [ex("balance=up_sampling"), ex("balance=up_sampling,class_weights")],
    ),
    Case(
        "overdone",
        "balance_twice",
        "warning",
        [
            imbalanced("balance=up_sampling,class_weights"),
            imbalanced("balance=down_sampling,logit_adjustment"),
            imbalanced("balance=class_weights,logit_adjustment"),
            imbalanced("balance=two_part,class_weights"),
        ],
        [
            imbalanced("balance=class_weights"),
            imbalanced(
                "balance=up_sampling,class_weights",
                "balance.up_sampling.strength=0.5",
                "balance.class_weights.power=0.5",
            ),
            imbalanced("balance=up_sampling,class_weights", "balance.class_weights.power=0"),
        ],
    ),
    Case(
        "nothing_to_balance",
        "balance_without_need",
        "info",
        [ex("balance=class_weights", counts=(100, 110, 90)), ex("balance=up_sampling", counts=(5, 5))],
        [
            imbalanced("balance=class_weights"),
            ex("balance=class_weights"),
            ex(counts=(100, 100)),
            ex("balance=class_weights", "balance.class_weights.power=0", counts=(9, 9)),
        ],
    ),
    Case(
        "rare_crops_without_crops",
        "crops_missing",
        "warning",
        [ex("balance=rare_crops"), ex("balance=rare_crops", "augment=shift", "augment.shift.pixels=0")],
        [
            ex("balance=rare_crops", "augment=shift"),
            ex("balance=rare_crops", "augment=flip,resized_crop"),
            ex("balance=rare_crops", "balance.rare_crops.extra=0"),
            ex("balance=up_sampling"),
        ],
    ),
    Case(
        "no_file",
        "no_weights_file",
        "critical",
        [ex("transfer=pretrained"), ex("transfer=pretrained,freeze")],
        [ex(LOADED), ex("transfer=freeze"), ex()],
    ),
    Case(
        "no_stages",
        "no_stages",
        "critical",
        [
            ex("transfer=layer_decay", net=NORMED),
            ex("transfer=pretrained,head_first,gradual", net=BARE),
            ex("transfer.freeze.until_stage=layer9", net=STAGED),
        ],
        [
            ex("transfer=layer_decay"),
            ex("transfer=layer_decay,gradual,head_first,freeze", net=STAGED),
            ex("transfer.freeze.until_stage=layer2", net=STAGED),
            ex("transfer.layer_decay.decay=1", net=NORMED),
            ex("transfer=frozen_norm,towards_start", net=NORMED),
        ],
    ),
    Case(
        "nothing_loaded",
        "random_weights_kept",
        "warning",
        [ex("transfer=freeze"), ex("transfer=frozen_norm,towards_start"), ex("transfer=head_first,gradual")],
        [
            ex(LOADED, "transfer.freeze.until_stage=head"),
            ex("transfer=layer_decay"),
            ex("transfer.gradual.until=0"),
            ex(LOADED),
        ],
    ),
    Case(
        "two_timetables",
        "tricks_clash",
        "warning",
        [ex("transfer=head_first,gradual"), ex("transfer=pretrained,gradual,layer_decay,head_first")],
        [
            ex("transfer=head_first,layer_decay"),
            ex("transfer=head_first,freeze"),
            ex("transfer=head_first,gradual", "transfer.gradual.until=0"),
        ],
    ),
    Case(
        "nothing_below_the_head",
        "tricks_overlap",
        "info",
        [ex("transfer=freeze,layer_decay"), ex("transfer=head_first,freeze,gradual")],
        [
            ex("transfer=freeze,layer_decay", "transfer.freeze.until_stage=layer3"),
            ex("transfer=freeze,frozen_norm,towards_start"),
            ex("transfer=layer_decay,head_first"),
        ],
    ),
    Case(
        "no_norm_to_freeze",
        "nothing_to_freeze",
        "warning",
        [ex("transfer=frozen_norm", net=UNNORMED), ex("transfer=pretrained,frozen_norm", net=BARE)],
        [ex("transfer=frozen_norm"), ex("transfer=frozen_norm", net=STAGED), ex(net=UNNORMED)],
    ),
    Case(
        "statistics_go_on",
        "statistics_adapt",
        "info",
        [ex("transfer=freeze", net=STAGED)],
        [
            ex("transfer=freeze,frozen_norm", net=STAGED),
            ex("transfer=freeze", net=UNNORMED),
            ex("transfer.freeze.until_stage=''", net=STAGED),
            ex("transfer=freeze"),
        ],
    ),
    Case(
        "pulled_two_ways",
        "tricks_clash",
        "info",
        [
            ex("transfer=towards_start"),
            ex("transfer=towards_start", "optimise.weight_decay=0", "regularise=l2,l1"),
            ex("transfer=towards_start", "regularise=elastic_net"),
        ],
        [
            ex("transfer=towards_start", "optimise.weight_decay=0", "regularise=max_norm"),
            ex("transfer.towards_start.strength=0", "transfer.towards_start.head=0"),
            ex("transfer=layer_decay"),
        ],
    ),
    Case(
        "divided_pull",
        "tricks_clash",
        "info",
        [ex("transfer=towards_start", "optimise=adamw"), ex("transfer=towards_start", "optimise=rmsprop")],
        [ex("transfer=towards_start"), ex("transfer=layer_decay", "optimise=adamw")],
    ),
    Case(
        "lengths_lost",
        "tricks_clash",
        "warning",
        [ex(LOADED, "optimise=muon")],
        [ex(LOADED), ex("transfer=layer_decay", "optimise=muon"), ex("optimise=muon")],
    ),
    Case(
        "prepared_otherwise",
        "prepared_otherwise",
        "info",
        [ex(LOADED), ex(LOADED, "prepare=given,zca"), ex(LOADED, "prepare=none")],
        [ex(LOADED, "prepare=given"), ex("transfer=layer_decay")],
    ),
    Case(
        "smoothing_made_large",
        "balance_of_smoothed_labels",
        "warning",
        [
            imbalanced("balance=logit_adjustment", "regularise=label_smoothing"),
            imbalanced("balance=class_weights", "regularise=label_smoothing"),
        ],
        [
            imbalanced("balance=up_sampling", "regularise=label_smoothing"),
            imbalanced("balance=logit_adjustment"),
            ex("balance=logit_adjustment", "regularise=label_smoothing", counts=(900, 800, 700)),
            ex("balance=logit_adjustment", "regularise=label_smoothing"),
        ],
    ),
    Case(
        "colour_on_gray",
        "colour_trick_on_gray",
        "info",
        [
            ex("augment=colour_jitter", gray=True),
            ex("augment=colour_jitter", "data.channels=1"),
            ex("augment=hsv_jitter", "data.channels=1"),
            ex("augment=hsv_jitter", "augment.hsv_jitter.offset=[-0.1, 0.0]", gray=True),
            ex("augment=fancy_pca", gray=True),
            ex("augment=grayscale", gray=True),
        ],
        [
            ex("augment=colour_jitter,fancy_pca,hsv_jitter"),
            ex(
                "augment=colour_jitter",
                "augment.colour_jitter.saturation=0",
                "augment.colour_jitter.hue=0",
                gray=True,
            ),
            ex("augment=flip,shift,cutout", "data.channels=1"),
        ],
    ),
    Case(
        "colour_on_gray",
        "colour_trick_on_gray",
        "warning",
        [ex("augment=hsv_jitter", gray=True)],
        [],
    ),
    Case(
        "mirrored_signs",
        "destructive_augmentation",
        "info",
        [
            ex(classes=DIGITS),
            ex("augment=alternating_flip", classes=("A", "B", "C")),
            ex(classes=("zero", "one", "two")),
            ex(classes=("digit_1", "digit_7", "other")),
            ex(classes=("hand left", "hand right")),
            ex(classes=("LeftTurn", "RightTurn", "Straight")),
            ex("augment=vertical_flip", classes=("thumbs_up", "thumbs_down")),
            ex("augment=quarter_turn", classes=DIGITS),
            ex("augment=rotate", "augment.rotate.degrees=180", classes=DIGITS),
        ],
        [
            ex(classes=ANIMALS),
            ex("augment=shift,rotate", classes=DIGITS),
            ex("augment.flip.p=0", classes=DIGITS),
            ex(classes=tuple(map(str, range(100)))),  # numbers of classes, not signs
            ex(classes=("leftover", "bright")),
            ex(classes=("left lung", "heart")),
            ex(classes=("thumbs_up", "thumbs_down")),
            ex("augment=vertical_flip", classes=("left", "right")),
            ex(),
        ],
    ),
    Case(
        "odd_sides",
        "input_side",
        "info",
        [
            ex("data.height=30"),
            ex("data.width=225"),
            ex("data.height=227", "data.width=224"),
            ex("data.height=100"),
        ],
        [
            ex(f"data.height={side}", f"data.width={side}")
            for side in (28, 32, 48, 64, 96, 128, 160, 224, 384, 512)
        ],
    ),
    Case(
        "two_classes_smoothed",
        "smoothing_two_classes",
        "info",
        [ex("regularise=label_smoothing", classes=("a cat", "a dog"))],
        [ex("regularise=label_smoothing", classes=ANIMALS), ex(classes=("a cat", "a dog"))],
    ),
    Case(
        "one_size_only",
        "prepared_for_one_size",
        "critical",
        [
            ex("prepare=mean_image", "run.sizes=[[0.0, 16, 16], [0.5, 32, 32]]"),
            ex("prepare=min_max", "run.sizes=[[0.0, 16, 16]]"),
            ex("prepare=zca", "combine=scale_views"),
            ex("prepare=pca_whitening", "run.sizes=[[0.5, 32, 16]]"),
        ],
        [
            ex("prepare=mean_image", "run.sizes=[[0.0, 32, 32]]"),
            ex("prepare=mean_image", "combine=five_crop"),
            ex("prepare=min_max", "prepare.min_max.per=channel", "run.sizes=[[0.0, 16, 16]]"),
            ex("prepare=standardise", "run.sizes=[[0.0, 16, 16]]", "combine=scale_views"),
            ex("prepare=zca", "combine=scale_views", "combine.scales=[1.0]", "combine.flip=true"),
        ],
    ),
    Case(
        "moved_under_the_mean",
        "prepared_for_one_place",
        "info",
        [ex("prepare=mean_image", "augment=resized_crop"), ex("prepare=zca", "augment=resized_crop")],
        [
            ex("prepare=mean_image", "augment=flip,shift"),
            ex("prepare=standardise", "augment=resized_crop"),
            ex("prepare=min_max", "prepare.min_max.per=channel", "augment=resized_crop"),
        ],
    ),
    Case(
        "pictures_lost",
        "pictures_lost",
        "warning",
        [ex("prepare=pca"), ex("prepare=zero_centre,pca_whitening", net=NORMED)],
        [ex("prepare=zca"), ex("prepare=pca", net=LINEAR)],
    ),
    Case(
        "lr_out_of_range",
        "lr_too_high",
        "warning",
        [
            ex("optimise.lr=2"),
            ex("optimise=adamw", "optimise.lr=0.1"),
            ex("optimise=muon", "optimise.lr=20"),
            ex("schedule=batch_scaling", "schedule.batch_scaling.reference=8"),
        ],
        [
            ex(),
            ex("optimise.lr=1"),
            ex("optimise.lr=3.2", "run.batch_size=8192"),
            ex("optimise=adamw", "optimise.lr=0.02"),
            ex("optimise=adadelta"),
        ],
    ),
    Case(
        "lr_out_of_range",
        "lr_too_low",
        "warning",
        [ex("optimise.lr=1e-6"), ex("optimise=adam", "optimise.lr=1e-8")],
        [
            ex("optimise.lr=1e-3"),
            ex("optimise=adam", "optimise.lr=1e-5"),
            ex("optimise.lr=0"),
            ex("schedule=warm_up,linear", "schedule.warm_up.start=0"),  # the peak counts
        ],
    ),
    Case(
        "two_hands_on_the_lr",
        "tricks_clash",
        "warning",
        [ex("schedule=plateau,cosine"), ex("schedule=warm_up,step,plateau"), ex("schedule=plateau,inverse")],
        [
            ex("schedule=plateau"),
            ex("schedule=warm_up,plateau"),
            ex("schedule=plateau,batch_scaling,constant"),
            ex("schedule=plateau,cosine", "schedule.cosine.end=1"),
            ex("schedule=plateau,cosine", "schedule.plateau.divide_by=1"),
        ],
    ),
    Case(
        "stops_too_early",
        "early_stopping_before_the_lr_falls",
        "warning",
        [
            ex("run.patience=3"),
            ex("run.patience=3", "schedule=step"),
            ex("run.patience=3", "schedule=plateau"),
        ],
        [
            ex(),
            ex("run.patience=3", "schedule=constant"),
            ex("run.patience=10", "schedule=plateau"),
            ex("run.patience=3", "schedule=linear", "schedule.linear.end=0.5"),
        ],
    ),
    Case(
        "small_batches",
        "batch_too_small",
        "warning",
        [
            ex("run.batch_size=4", "normalise=batch_norm"),
            ex("run.batch_size=7", net=NORMED),
            ex("normalise=batch_norm", n_train=5),
        ],
        [
            ex("run.batch_size=8", "normalise=batch_norm"),
            ex("run.batch_size=4", "normalise=group_norm", net=BARE),
            ex("run.batch_size=4"),
            ex("run.batch_size=4", "transfer=frozen_norm", net=NORMED),
            ex(n_train=60_000, net=NORMED),
        ],
    ),
    Case(
        "average_never_begins",
        "average_never_begins",
        "warning",
        [ex("average=swa", "run.steps=500"), ex("average=swa", "average.after=1000")],
        [ex("average=swa", "run.steps=2000"), ex("average=ema", "run.steps=500"), ex()],
    ),
    Case(
        "snapshots_off_the_cycles",
        "snapshots_off_the_cycles",
        "warning",
        [
            ex("schedule=cyclic_cosine", "run.snapshots=4"),
            ex("schedule=cyclic_cosine", "schedule.cycles=4", "run.snapshots=8"),
        ],
        [
            ex("schedule=cyclic_cosine", "run.snapshots=5"),
            ex("schedule=cyclic_cosine", "schedule.cycles=6", "run.snapshots=3"),
            ex("schedule=cyclic_cosine"),
            ex("schedule=cyclic_cosine", "schedule.end=1.0", "run.snapshots=4"),
            ex("run.snapshots=4"),
        ],
    ),
    Case(
        "symmetric_start",
        "symmetric_init",
        "critical",
        [
            ex("initialise=zero"),
            ex("initialise=constant"),
            ex("initialise=he,zero"),
            ex("initialise=constant,patch_whitening"),
        ],
        [
            ex("initialise=zero,he"),
            ex("initialise=none"),
            ex("initialise=dirac,patch_whitening"),
            ex("initialise=zero", LOADED),
        ],
    ),
    Case(
        "slopes_penalised",
        "slopes_decayed",
        "warning",
        [
            ex("activate=prelu", "regularise=l2", "regularise.l2.everything=true"),
            ex("regularise=l1", "regularise.l1.everything=true", net=BARE),
        ],
        [
            ex("activate=prelu", "regularise=l2"),
            ex("regularise=l2", "regularise.l2.everything=true", net=NORMED),
            ex("activate=prelu", "regularise=max_norm", "regularise.max_norm.everything=true"),
        ],
    ),
    Case(
        "shrunk_by_the_heads_rate",
        "tricks_clash",
        "warning",
        [
            ex("net=backbone", "transfer=layer_decay", "regularise=l1"),
            ex("net=backbone", "transfer=layer_decay", "regularise=elastic_net"),
        ],
        [
            ex("net=backbone", "transfer=layer_decay", "regularise=l2"),
            ex("net=backbone", "transfer=layer_decay", "transfer.layer_decay.decay=1.0", "regularise=l1"),
            ex("regularise=l1"),
        ],
    ),
    Case(
        "head_solved_and_first",
        "tricks_overlap",
        "info",
        [ex("net=backbone", "transfer=probed_head,head_first")],
        [ex("net=backbone", "transfer=probed_head"), ex("net=backbone", "transfer=head_first")],
    ),
    Case(
        "unusual",
        "over_regularised",
        "warning",
        [ex("regularise.l1.strength=0.3"), ex("mix.mixup.alpha=50"), ex("optimise.weight_decay=0.3")],
        [ex("regularise.l1.strength=1e-4"), ex("mix.mixup.alpha=1"), ex("regularise.max_norm.c=3")],
    ),
    Case(
        "far_shifts",
        "destructive_augmentation",
        "warning",
        [ex("augment.shift.pixels=16")],
        [ex("augment.shift.pixels=4"), ex("data.height=96", "data.width=96", "augment.shift.pixels=16")],
    ),
    Case(
        "narrow_stages",
        "underfitting",
        "warning",
        [ex("net.widths=[2,2]"), ex("net=compact", "net.widths=[16,3]")],
        [ex("net.widths=[8,8,8]"), ex("net=mobilenet_v2")],
    ),
    Case(
        "sigmoid_stack",
        "vanishing_gradient",
        "warning",
        [ex("activate=sigmoid", "normalise=none")],
        [ex("activate=sigmoid"), ex("activate=tanh", "normalise=none")],
    ),
    Case(
        "wiring",
        "wrong_loss_pairing",
        "warning",
        [ex(net=nn.Sequential(*LINEAR, nn.Softmax(1)))],
        [ex(net=LINEAR), ex()],
    ),
]
TOLD = [(case, example) for case in CASES for example in case.told]
CURABLE = [(case, example) for case, example in TOLD if case.rule != "wiring"]  # a net is no recipe's part
SILENT = [(case, example) for case in CASES for example in case.silent]


def rule(case: Case) -> Any:
    return next(rule for rule in RULES if rule.__name__ == case.rule)


def labels(pairs: list[tuple[Case, Example]]) -> list[str]:
    return [f"{case.rule}: {' '.join(example.settings)}" for case, example in pairs]


def test_every_rule_has_recipes_it_tells_and_recipes_it_does_not():
    assert {case.rule for case in CASES} == {rule.__name__ for rule in RULES}
    assert {case.rule for case, _ in SILENT} == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize(("case", "example"), TOLD, ids=labels(TOLD))
def test_told(case: Case, example: Example):
    findings = list(rule(case)(example.recipe, example.facts))
    assert [(found.cause, found.severity) for found in findings] == [(case.cause, case.severity)] * len(
        findings
    )
    assert findings
    for found in findings:
        assert found.summary and found.remedies and found.reference
        assert 0 < found.confidence <= 1
        if case.rule != "wiring":
            assert found.where.partition(".")[0] in ("data", "run", *SLOTS)
        assert found in example.recipe.check(example.facts)


@pytest.mark.parametrize(("case", "example"), SILENT, ids=labels(SILENT))
def test_not_told(case: Case, example: Example):
    findings = list(rule(case)(example.recipe, example.facts))
    assert not [found for found in findings if (found.cause, found.severity) == (case.cause, case.severity)]


def edited(recipe: Recipe, remedy: str) -> Recipe | None:
    """The recipe after a remedy that is an edit of it; None for one in words."""
    if re.fullmatch(r"[a-z_0-9.]+=\S.*", remedy):
        return recipe.override([remedy])
    edit = re.fullmatch(r"([a-z]+) (without|with) (\w+(?:(?:, | and )\w+)*)", remedy)
    if edit is None or edit[1] not in SLOTS:
        return None
    slot, names = edit[1], re.split(r", | and ", edit[3])
    if edit[2] == "with":
        more = tuple(adapters(SLOTS[slot].package)[name]() for name in names)
        return dataclasses.replace(recipe, **{slot: (*getattr(recipe, slot), *more)})
    kept = tuple(trick for trick in getattr(recipe, slot) if name_of(trick) not in names)
    return dataclasses.replace(recipe, **{slot: kept})


@pytest.mark.parametrize(("case", "example"), CURABLE, ids=labels(CURABLE))
def test_a_remedy_helps(case: Case, example: Example):
    """One of the edits, or all of them together, silences the rule."""
    findings: list[Finding] = list(rule(case)(example.recipe, example.facts))
    together, cures = example.recipe, []
    for remedy in (remedy for found in findings for remedy in found.remedies):
        alone = edited(example.recipe, remedy)
        if alone is not None:
            together = edited(together, remedy) or together
            cures.append(alone)
    assert cures
    assert any(not list(rule(case)(cure, example.facts)) for cure in (*cures, together))


def test_the_gravest_comes_first():
    recipe = ex("prepare=standardise,zero_centre", "initialise=zero", "optimise.lr=9").recipe
    assert [found.severity for found in check(recipe)] == ["critical", "warning", "info"]


def test_the_default_recipe_has_no_findings():
    assert check(Recipe()) == []
    assert check(Recipe(), Facts(ANIMALS, False, 4000, (1000,) * 4, NORMED)) == []


MACHINE = Hardware("cpu", "made up", 2, 8 * 10**9, 1e11, 1e10)


@pytest.mark.parametrize(
    "shape", [Input(28, 28, 1), Input(32, 32, 3), Input(46, 58, 3), Input(128, 160, 3), Input(224, 224, 1)]
)
@pytest.mark.parametrize("mirrored", [0.79, 0.1])
@pytest.mark.parametrize("n_train", [10, 800, 60_000])
@pytest.mark.parametrize("classes", [DIGITS, ANIMALS, ("left", "right")])
def test_the_planners_recipes_have_no_warnings(shape, mirrored, n_train, classes):
    counts = tuple(n_train // (1 + place) for place in range(len(classes)))
    profile = Profile(
        n_train, 100, 100, dict(zip(classes, counts, strict=True)), (32.0,) * 5, (32.0,) * 5,
        shape.channels == 1, 0, 0, 1.0, False, False, (0.5,) * 3, (0.2,) * 3,
    )  # fmt: skip
    recipe, _ = draft(profile, shape, MACHINE, MirrorTest(100, 0.8, mirrored, 0.1), seed=0)
    facts = Facts(classes, shape.channels == 1, n_train, counts, NORMED)
    assert [found.summary for found in check(recipe, facts) if found.severity != "info"] == []


def test_off_is_off():
    tricks = [adapters(kind.package)[name] for kind in SLOTS.values() for name in adapters(kind.package)]
    with_off = [trick for trick in tricks if hasattr(trick, "OFF")]
    assert with_off
    for trick in with_off:
        assert not is_on(trick(**trick.OFF))
        assert is_on(trick())


# nets


class Net(nn.Module):
    """Layers called in an order that nobody can see from outside."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(4, 4, 1)
        self.sigmoid = nn.Sigmoid()


def linear() -> nn.Linear:
    return nn.Linear(4, 3)


@pytest.mark.parametrize(
    ("net", "where", "severity", "confidence"),
    [
        (nn.Sequential(linear(), nn.Softmax(1)), "1", "warning", 1.0),
        (nn.Sequential(linear(), nn.Sequential(nn.ReLU(), nn.Sigmoid())), "1.1", "warning", 1.0),
        (nn.Sequential(linear(), nn.LogSoftmax(1)), "1", "info", 1.0),
        (Net(fc=linear(), softmax=nn.Softmax(1)), "softmax", "warning", 0.7),
        (Net(body=linear(), head=nn.Sequential(linear(), nn.Softmax(1))), "head.1", "warning", 0.7),
        (Net(fc=linear(), out=nn.LogSoftmax(1)), "out", "info", 0.7),
    ],
)
def test_a_softmax_before_cross_entropy_is_told(net, where, severity, confidence):
    (found,) = check_net(net)
    assert (found.cause, found.where) == ("wrong_loss_pairing", where)
    assert (found.severity, found.confidence) == (severity, confidence)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(linear()),
        linear(),
        nn.Sequential(nn.Softmax(1), linear()),
        nn.Sequential(linear(), nn.Sigmoid(), linear()),
        Net(softmax=nn.Softmax(1), fc=linear()),
        Net(fc=linear(), gate=Gate()),  # a gate's sigmoid is not the net's output
        nn.Sequential(linear(), Gate()),
        Net(),
    ],
)
def test_a_net_that_leaves_logits_is_not_told(net):
    assert check_net(net) == []


def test_log_softmax_before_cross_entropy_does_nothing_and_softmax_flattens_the_gradient():
    """Why the first is no more than worth knowing."""
    logits = torch.randn(64, 10, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    targets = torch.arange(64) % 10

    def gradient(squash: Any) -> torch.Tensor:
        (found,) = torch.autograd.grad(F.cross_entropy(squash(logits), targets), logits)
        return found

    plain = gradient(lambda x: x)
    torch.testing.assert_close(gradient(lambda x: F.log_softmax(x, 1)), plain)
    assert gradient(lambda x: F.softmax(x, 1)).norm() < 0.5 * plain.norm()


@pytest.mark.parametrize(
    ("net", "where", "severity"),
    [
        (nn.Sequential(linear(), nn.Dropout(), nn.BatchNorm1d(3)), "1", "warning"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout2d(0.1), nn.BatchNorm2d(4)), "1", "warning"),
        (nn.Sequential(nn.Dropout(), nn.Identity(), nn.BatchNorm1d(3)), "0", "warning"),
        (nn.Sequential(nn.Sequential(linear(), nn.Dropout()), nn.BatchNorm1d(3)), "0.1", "warning"),
        (nn.Sequential(nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3))), "0.0", "warning"),
        (Net(a=nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3)), b=linear()), "a.0", "warning"),
        (Net(drop=nn.Dropout(), norm=nn.BatchNorm1d(3)), "drop", "info"),
    ],
)
def test_dropout_straight_before_batch_norm_is_told_once(net, where, severity):
    (found,) = check_net(net)
    assert (found.cause, found.where, found.severity) == ("dropout_before_batch_norm", where, severity)
    assert (found.confidence == 1) == (severity == "warning")


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()),
        nn.Sequential(nn.Dropout(0.0), nn.BatchNorm1d(3)),
        nn.Sequential(nn.Dropout(), linear(), nn.BatchNorm1d(3)),
        nn.Sequential(nn.Dropout(), nn.LayerNorm(3)),
        nn.Sequential(Gate(), nn.BatchNorm2d(3)),
        Net(norm=nn.BatchNorm1d(3), drop=nn.Dropout(), fc=linear()),
    ],
)
def test_other_places_of_dropout_are_not_told(net):
    assert check_net(net) == []


# optimisers


def prelu_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8), nn.Flatten(), nn.Linear(8, 2))


def causes(net: nn.Module, optimizer: torch.optim.Optimizer, **more: int) -> list[str]:
    return [found.cause for found in check_optimizer(net, optimizer, **more)]


def test_slopes_norms_and_biases_under_weight_decay_are_told():
    net = prelu_net()
    slopes, flat = check_optimizer(net, torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=5e-4))
    assert (slopes.cause, slopes.severity) == ("slopes_decayed", "warning")
    assert "2.weight" in slopes.summary
    assert (flat.cause, flat.severity) == ("norms_decayed", "info")
    assert flat.evidence[0].value == 4  # two biases, and a norm's scale and shift


def test_without_decay_or_with_groups_there_is_nothing_to_tell():
    net = prelu_net()
    assert causes(net, torch.optim.SGD(net.parameters(), lr=0.1)) == []
    wide = [parameter for parameter in net.parameters() if parameter.ndim > 1]
    flat = [parameter for parameter in net.parameters() if parameter.ndim < 2]
    groups = [{"params": wide, "weight_decay": 0.05}, {"params": flat, "weight_decay": 0.0}]
    assert causes(net, torch.optim.AdamW(groups, lr=1e-3)) == []


@pytest.mark.parametrize("name", sorted(set(adapters("convclinic.tricks.optimise")) - {"muon"}))
def test_convclinics_own_optimisers_are_in_order(name):
    net = prelu_net()
    assert causes(net, adapters("convclinic.tricks.optimise")[name]().build(net)) == []


@pytest.mark.parametrize(
    ("kind", "lr", "found"),
    [
        (torch.optim.SGD, 5.0, ["lr_too_high"]),
        (torch.optim.SGD, 1e-6, ["lr_too_low"]),
        (torch.optim.SGD, 0.1, []),
        (torch.optim.SGD, 0.0, []),
        (torch.optim.Adam, 0.1, ["lr_too_high"]),
        (torch.optim.NAdam, 0.1, ["lr_too_high"]),
        (torch.optim.RMSprop, 1.0, ["lr_too_high"]),
        (torch.optim.Adadelta, 1e-3, ["lr_too_low"]),
        (torch.optim.Adagrad, 1e-6, ["lr_too_low"]),
        (torch.optim.Rprop, 50.0, []),  # no range is known
    ],
)
def test_an_lr_far_from_what_the_optimiser_is_used_with_is_told(kind, lr, found):
    net = nn.Linear(3, 2)
    assert causes(net, kind(net.parameters(), lr=lr)) == found


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop,
                                  torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.Adamax])  # fmt: skip
def test_torchs_own_defaults_are_not_told(kind):
    net = nn.Linear(3, 2, bias=False)
    assert causes(net, kind(net.parameters())) == []


def test_a_scheduled_lr_is_judged_by_its_peak():
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=100, div_factor=1e6)
    assert optimizer.param_groups[0]["lr"] < 1e-4
    assert causes(net, optimizer) == []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1e-6)
    assert causes(net, optimizer) == []


def test_large_batches_allow_sgd_a_larger_lr():
    """Goyal et al., 2017: 3.2 at a batch of 8192."""
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=3.2)
    assert causes(net, optimizer, batch_size=8192) == []
    assert causes(net, optimizer) == ["lr_too_high"]


@pytest.mark.parametrize("name", sorted(adapters("convclinic.tricks.optimise")))
def test_every_optimiser_has_a_range_that_its_default_lies_in(name):
    rates = RATES[name]
    assert rates.low < rates.usual < rates.high
    assert rates.low <= adapters("convclinic.tricks.optimise")[name]().lr <= rates.high


ZOO = sorted(adapters("convclinic.models"))


def of_zoo(name: str, *settings: str) -> nn.Module:
    with torch.device("meta"):
        return bare_net(Recipe().override([f"net={name}", *settings]), 10)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize(
    "settings", [(), ("normalise=batch_norm",), ("activate=prelu", "normalise=group_norm")]
)
def test_the_zoos_nets_are_in_order_with_all_their_places_for_noise_filled(name, settings):
    net = of_zoo(name, *settings)
    for noise in (Dropout(0.5), SpatialDropout(0.1), StochasticDepth(0.1)):
        with contextlib.suppress(ConvclinicError):  # not every net has every place
            noise.install(net)
    assert check_net(net) == []


def test_sigmoid_as_nins_last_activation_is_told():
    """Its card says so: logits in (0, 1) cannot be sure of anything."""
    causes = [found.cause for found in check_net(of_zoo("nin", "activate=sigmoid"))]
    assert causes == ["wrong_loss_pairing"]
    assert check_net(of_zoo("nin", "activate=sigmoid", "net.activate_last=false")) == []
