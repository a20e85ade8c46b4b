"""Rules about starting from what another net has learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from convclinic.checks.clashes import ADAPTIVE
from convclinic.checks.facts import Facts, listed, on
from convclinic.checks.nets import BATCH_NORM
from convclinic.kinds import Evidence, Finding
from convclinic.slots import name_of

BY_STAGE = ("freeze", "gradual", "head_first", "layer_decay")
KEEPING = ("freeze", "frozen_norm", "gradual", "head_first", "towards_start")  # of what is there at the start
HEAD = "head"


def no_file(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Pretrained weights that come from nowhere."""
    if any(not trick.file for trick in on(recipe.transfer, "pretrained")):
        yield Finding(
            "no_weights_file",
            "critical",
            where="transfer.pretrained.file",
            summary="pretrained names no file",
            remedies=("transfer.pretrained.file=FILE", "transfer without pretrained"),
            reference="Donahue et al., 2014, arXiv:1310.1531",
        )


def no_stages(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """LRs by stage, for a net that has no stages, or not the one that is named."""
    tricks = on(recipe.transfer, *BY_STAGE)
    if facts.net is None or not tricks:
        return
    known = (*getattr(facts.net, "stage_names", ()), HEAD)
    wanted = [trick.until_stage for trick in tricks if name_of(trick) == "freeze"]
    if not hasattr(facts.net, "depth_of"):
        names = [name_of(trick) for trick in tricks]
        summary = f"{listed(names)} cannot know the stages of this net"
        remedies = (f"transfer without {listed(names)}", "net=backbone")
    elif unknown := [name for name in wanted if name not in known]:
        summary = f"the net has no stage '{unknown[0]}'"
        remedies = (f"transfer.freeze.until_stage={known[-2]}",)
    else:
        return
    yield Finding(
        "no_stages",
        "critical",
        where="transfer",
        summary=summary,
        evidence=(Evidence("stages of the net", listed(known), "those that the recipe names"),),
        remedies=remedies,
        reference="Yosinski et al., 2014, arXiv:1411.1792",
    )


def nothing_loaded(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """What is kept at random values teaches nobody."""
    if on(recipe.transfer, "pretrained"):
        return
    for name in map(name_of, on(recipe.transfer, *KEEPING)):
        yield Finding(
            "random_weights_kept",
            "warning",
            where="transfer",
            summary=f"{name} holds on to weights that nothing was loaded into",
            evidence=(Evidence("transfer.pretrained", "absent", "a file of weights"),),
            remedies=("transfer.pretrained.file=FILE", f"transfer without {name}"),
            reference="Yosinski et al., 2014, arXiv:1411.1792",
        )


def two_timetables(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Two tricks that both say when the stages below the head begin to learn."""
    if on(recipe.transfer, "head_first") and on(recipe.transfer, "gradual"):
        yield Finding(
            "tricks_clash",
            "warning",
            where="transfer",
            summary="head_first and gradual both say when stages begin to learn, and the later one counts",
            remedies=("transfer without head_first", "transfer without gradual"),
            reference="Howard and Ruder, 2018, arXiv:1801.06146",
        )


def nothing_below_the_head(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """LRs of stages that are frozen for good."""
    alone = any(trick.until_stage == HEAD for trick in on(recipe.transfer, "freeze"))
    for name in map(name_of, on(recipe.transfer, *BY_STAGE) if alone else ()):
        if name != "freeze":
            yield Finding(
                "tricks_overlap",
                "info",
                where="transfer",
                summary=f"freeze leaves the head alone to learn, so {name} has no stage to work on",
                remedies=(f"transfer without {name}", "transfer without freeze"),
                reference="Yosinski et al., 2014, arXiv:1411.1792",
            )


def shrunk_by_the_heads_rate(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """L1 steps, which are the head's in every stage, beside smaller LRs below."""
    for decay in on(recipe.transfer, "layer_decay"):
        for name in map(name_of, on(recipe.regularise, "l1", "elastic_net")):
            yield Finding(
                "tricks_clash",
                "warning",
                where="regularise",
                summary=f"{name} shrinks all stages by the head's LR, and layer_decay lets the lower ones "
                "learn slower than that: they can only shrink",
                evidence=(Evidence("transfer.layer_decay.decay", decay.decay, "1, or another penalty"),),
                remedies=(f"regularise without {name}", "transfer.layer_decay.decay=1.0"),
                reference="Howard and Ruder, 2018, arXiv:1801.06146, section 3.2",
            )


def head_solved_and_first(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """A head that begins at its solution need not be trained alone before the rest."""
    if on(recipe.transfer, "probed_head") and on(recipe.transfer, "head_first"):
        yield Finding(
            "tricks_overlap",
            "info",
            where="transfer",
            summary="probed_head solves for the head at the start, so head_first has little left to do",
            remedies=("transfer without head_first", "transfer without probed_head"),
            reference="Kumar et al., 2022, arXiv:2202.10054",
        )


def no_norm_to_freeze(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Frozen statistics in a net that keeps none."""
    if facts.net is not None and on(recipe.transfer, "frozen_norm") and not _normed(facts):
        yield Finding(
            "nothing_to_freeze",
            "warning",
            where="transfer",
            summary="frozen_norm finds no batch norm in this net",
            evidence=(Evidence("batch norms", 0, "1 or more"),),
            remedies=("transfer without frozen_norm",),
            reference="Ioffe and Szegedy, 2015, arXiv:1502.03167",
        )


def statistics_go_on(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Frozen weights, and a batch norm between them that is not."""
    frozen = on(recipe.transfer, "freeze") and not on(recipe.transfer, "frozen_norm")
    if frozen and _normed(facts):
        yield Finding(
            "statistics_adapt",
            "info",
            where="transfer",
            summary="freeze keeps weights; the statistics of batch norm go on following the new images, "
            "which suits images of another kind",
            remedies=("transfer with frozen_norm",),
            reference="Li et al., 2017, arXiv:1603.04779",
        )


def _normed(facts: Facts) -> bool:
    return facts.net is not None and any(isinstance(module, BATCH_NORM) for module in facts.net.modules())


def pulled_two_ways(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Decay towards the pretrained weights, and towards zero."""
    if not on(recipe.transfer, "towards_start"):
        return
    decay = float(getattr(recipe.optimise, "weight_decay", 0.0))
    shrinking = [name_of(trick) for trick in on(recipe.regularise, "l1", "l2", "elastic_net")]
    if decay or shrinking:
        remedies = ("optimise.weight_decay=0",) if decay else ()
        yield Finding(
            "tricks_clash",
            "info",
            where="transfer",
            summary="towards_start pulls to the pretrained weights, and "
            + listed([*(["the optimiser's weight decay"] if decay else []), *shrinking])
            + " to zero",
            evidence=(Evidence("optimise.weight_decay", decay, "0 beside it"),),
            remedies=remedies + ((f"regularise without {listed(shrinking)}",) if shrinking else ()),
            reference="Li et al., 2018, arXiv:1802.01483",
        )


def divided_pull(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """The gradient of a penalty is divided by the size of the loss's, as with l2."""
    optimiser = name_of(recipe.optimise)
    if optimiser in ADAPTIVE and on(recipe.transfer, "towards_start"):
        yield Finding(
            "tricks_clash",
            "info",
            where="transfer",
            summary=f"{optimiser} divides towards_start's gradient by the size of the loss's: where that is "
            "large, weights are hardly held",
            remedies=("optimise=sgd", "transfer without towards_start"),
            reference="Loshchilov and Hutter, 2019, arXiv:1711.05101",
        )


def lengths_lost(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """An optimiser that gives filters a length of its own, which is not the one they came with."""
    if name_of(recipe.optimise) == "muon" and on(recipe.transfer, "pretrained"):
        yield Finding(
            "tricks_clash",
            "warning",
            where="optimise",
            summary="muon sets the length of every filter at the first step, which pretrained weights lose",
            remedies=("optimise=sgd",),
            reference="Jordan et al., 2024, cifar10-airbench",
        )


def prepared_otherwise(recipe: Any, facts: Facts) -> Iterator[Finding]:
    """Images on another scale than the weights know."""
    names = [name_of(trick) for trick in on(recipe.prepare)]
    if on(recipe.transfer, "pretrained") and names != ["given"]:
        yield Finding(
            "prepared_otherwise",
            "info",
            where="prepare",
            summary="pretrained weights know images as they were prepared for them, with fixed numbers",
            evidence=(Evidence("prepare", listed(names) if names else "none", "given"),),
            remedies=("prepare=given",),
            reference="Sharif Razavian et al., 2014, arXiv:1403.6382",
        )


RULES = (
    no_file,
    no_stages,
    nothing_loaded,
    two_timetables,
    nothing_below_the_head,
    shrunk_by_the_heads_rate,
    head_solved_and_first,
    no_norm_to_freeze,
    statistics_go_on,
    pulled_two_ways,
    divided_pull,
    lengths_lost,
    prepared_otherwise,
)
