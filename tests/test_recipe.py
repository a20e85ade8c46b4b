import dataclasses
import hashlib
import itertools
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from convclinic.ground.discovery import adapters
from convclinic.ground.errors import ConvclinicError
from convclinic.ground.files import write_json
from convclinic.recipe import FORMAT, Recipe, load
from convclinic.slots import SLOTS, Input, Run
from convclinic.tricks.augment.alternating_flip import AlternatingFlip
from convclinic.tricks.augment.flip import Flip
from convclinic.tricks.augment.shift import Shift
from convclinic.tricks.mix.mixup import Mixup
from convclinic.tricks.optimise.adamw import AdamW
from convclinic.tricks.optimise.muon import Muon
from convclinic.tricks.schedule.constant import Constant
from convclinic.tricks.transfer.gradual import Gradual

FOUND = [(slot, name) for slot, kind in SLOTS.items() for name in adapters(kind.package)]


def with_choice(slot: str, name: str) -> Recipe:
    adapter = adapters(SLOTS[slot].package)[name]
    choice = adapter()
    # nudged away from its defaults, and to where a number is written with an exponent
    for field in dataclasses.fields(choice):
        value = getattr(choice, field.name)
        for other in (2e-05, value / 3) if type(value) is float else ():
            try:
                choice = dataclasses.replace(choice, **{field.name: other})
                break
            except ConvclinicError:
                continue
    return dataclasses.replace(Recipe(), **{slot: (choice,) if SLOTS[slot].many else choice})


@pytest.mark.parametrize(("slot", "name"), FOUND)
def test_every_choice_survives_json_and_yaml(tmp_path, slot, name):
    recipe = with_choice(slot, name)
    plain = recipe.to_dict()
    assert Recipe.from_dict(json.loads(json.dumps(plain))) == recipe
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(plain, sort_keys=False))) == recipe
    write_json(tmp_path / "recipe.json", {"recipe": plain, "convclinic": "0"})
    assert load(tmp_path / "recipe.json") == recipe
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain))
    assert load(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(("slot", "name"), FOUND)
def test_every_choice_can_be_named_on_the_command_line(slot, name):
    chosen = getattr(Recipe().override([f"{slot}={name}"]), slot)
    default = adapters(SLOTS[slot].package)[name]()
    assert chosen == ((default,) if SLOTS[slot].many else default)
    assert default.slot == slot


def test_every_part_of_a_recipe_survives():
    recipe = Recipe(
        seed=7,
        data=Input(96, 64, 1),
        augment=(Shift(pixels=3), Flip(p=0.25)),
        mix=(Mixup(alpha=0.3),),
        optimise=AdamW(lr=1e-05),
        run=Run(steps=5, sizes=((0.0, 32, 32), (0.5, 96, 64)), rescheduled=((2, 0.4, 8),)),
    )
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert type(again.run.sizes[0]) is tuple
    assert again.hash() == recipe.hash()
    assert recipe.to_dict()["format"] == FORMAT


def test_what_is_left_out_keeps_its_default():
    assert Recipe.from_dict({}) == Recipe()
    assert Recipe.from_dict({"optimise": {"name": "sgd", "lr": 1}}).optimise.lr == 1.0
    assert Recipe.from_dict({"net": "compact"}).net.slot == "net"
    assert Recipe.from_dict({"augment": ["shift", {"name": "flip", "p": 0.1}]}).augment == (
        Shift(),
        Flip(p=0.1),
    )
    assert Recipe.from_dict({"average": None}).average is None
    assert Recipe.from_dict({"augment": "shift", "schedule": {"name": "constant"}}) == Recipe(
        augment=(Shift(),), schedule=(Constant(),)
    )


def test_a_recipe_without_transfer_and_snapshots_has_the_name_it_had_before_there_were_any():
    plain = {name: value for name, value in Recipe().to_dict().items() if name != "transfer"}
    del plain["run"]["snapshots"]
    canonical = json.dumps(plain, sort_keys=True).encode()
    assert Recipe().hash() == hashlib.blake2b(canonical, digest_size=6).hexdigest()
    assert Recipe().hash() != Recipe(transfer=(Gradual(),)).hash() != Recipe(transfer=(Gradual(0.1),)).hash()


def test_the_hash_names_the_content():
    a, b = Recipe(seed=1), Recipe(seed=2)
    assert a.hash() == Recipe(seed=1).hash() != b.hash()
    assert len(a.hash()) == 12
    assert int(a.hash(), 16) >= 0
    assert Recipe(augment=(Flip(), Shift())).hash() != Recipe(augment=(Shift(), Flip())).hash()


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"optimize": {}}, r"^no slot 'optimize' in a recipe \(did you mean 'optimise'\?\)$"),
        ({"net": "fst"}, r"^no net called 'fst' \(did you mean 'fast'\?\)$"),
        ({"augment": [{"name": "flop"}]}, r"^no augment called 'flop' \(did you mean 'flip'\?\)$"),
        ({"optimise": {"name": "sgd", "momentun": 1}}, r"no option 'momentun' \(did you mean 'momentum'\?\)"),
        ({"run": {"stepz": 3}}, r"^run has no option 'stepz' \(did you mean 'steps'\?\)$"),
        ({"run": {"steps": "many"}}, r"^run\.steps must be int, not 'many'$"),
        ({"run": 3}, r"^run must be a mapping of options, not 3$"),
        ({"seed": "one"}, r"^seed must be int, not 'one'$"),
        ({"seed": True}, r"^seed must be int, not True$"),
        ({"augment": 3}, r"^augment must be a list of tricks, not 3$"),
        ({"net": 3}, r"^net must be a mapping of options, not 3$"),
        ({"augment": [{"name": "flip", "p": 2.0}]}, r"flip\.p"),
        ({"data": {"height": 32.5}}, r"^data\.height must be int, not 32\.5$"),
        ({"net": None}, r"^net must be"),
        ({1: 2}, r"no slot '1'"),
        ({"run": {1: 2}}, r"^run has no option '1'"),
        ({"net": {"widths": [8]}}, r"name"),
    ],
)
def test_mistakes_in_a_recipe_are_told(plain, words):
    with pytest.raises(ConvclinicError, match=words):
        Recipe.from_dict(plain)


@pytest.mark.parametrize("version", [FORMAT + 1, 99, "2", None, 1.5])
def test_a_newer_format_is_told(version):
    with pytest.raises(ConvclinicError, match=rf"format {version!r}; .*\(upgrade convclinic\)"):
        Recipe.from_dict({"format": version, "colour": "blue"})


@pytest.mark.parametrize(
    ("settings", "slot", "expected"),
    [
        (["seed=5"], "seed", 5),
        (["data.height=64"], "data", Input(height=64)),
        (["run.sizes=[[0.0, 16, 16], [0.5, 32, 32]]"], "run", Run(sizes=((0, 16, 16), (0.5, 32, 32)))),
        (["augment=none"], "augment", ()),
        (["augment="], "augment", ()),
        (["augment=shift, flip"], "augment", (Shift(), Flip())),
        (["augment.p=0.1"], "augment", (Flip(p=0.1),)),
        (["augment.flip.p=0.1"], "augment", (Flip(p=0.1),)),
        (["augment.shift.pixels=3"], "augment", (Flip(), Shift(pixels=3))),
        (["augment=shift,flip", "augment.flip.p=0.1"], "augment", (Shift(), Flip(p=0.1))),
        (["mix.mixup.alpha=0.4"], "mix", (Mixup(alpha=0.4),)),
        (["optimise=adamw", "optimise.lr=0.01"], "optimise", AdamW(lr=0.01)),
        (["optimise = adamw", " optimise.lr = 1 "], "optimise", AdamW(lr=1.0)),
        (["optimise=adamw", "optimise.adamw.lr=0.01"], "optimise", AdamW(lr=0.01)),
        (["average=ema", "average=none"], "average", None),
        (["average=ema", "average="], "average", None),
        (["schedule=constant"], "schedule", (Constant(),)),
        (["optimise=adamw", "optimise.lr=1e-3"], "optimise", AdamW(lr=1e-3)),
        (["optimise=adamw", "optimise.lr=2E+0"], "optimise", AdamW(lr=2.0)),
    ],
)
def test_settings_are_applied_in_turn(settings, slot, expected):
    recipe = Recipe().override(settings)
    assert getattr(recipe, slot) == expected
    others = [field.name for field in dataclasses.fields(Recipe) if field.name != slot]
    assert all(getattr(recipe, name) == getattr(Recipe(), name) for name in others)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optimise.lr", r"--set optimise\.lr: no '=' .*optimise\.lr=0\.1"),
        ("optimize.lr=1", r"^no slot 'optimize' \(did you mean 'optimise'\?\)"),
        ("=1", "^no slot ''"),
        ("net=fsat", r"^no net called 'fsat' \(did you mean 'fast'\?\)"),
        ("net=none", "^no net called 'none'"),
        ("augment=flip,flop", r"^no augment called 'flop' \(did you mean 'flip'\?\)"),
        ("augment.flop.p=1", r"^no augment called 'flop' \(did you mean 'flip'\?\)"),
        ("augment.flip.q=1", r"^augment\.flip has no option 'q'"),
        ("augment.pp=1", r"^--set augment\.pp: which trick\? \(write augment\.TRICK\.pp=value\)"),
        ("optimise.momentun=1", r"^optimise\.sgd has no option 'momentun' \(did you mean 'momentum'\?\)"),
        ("optimise.lr=fast", r"^optimise\.sgd\.lr must be float, not 'fast'"),
        ("optimise.lr=-1", "lr"),
        ("run=3", r"^--set run: name one option"),
        ("run.steps.more=3", r"^--set run: name one option"),
        ("run.stepz=3", r"^run has no option 'stepz' \(did you mean 'steps'\?\)"),
        ("run.steps=3.5", r"^run\.steps must be int, not 3\.5"),
        ("seed=x", r"^seed must be int, not 'x'"),
        ("average.decay=0.9", r"^average is empty \(choose one first with --set average=NAME\)"),
        ("seed.x=1", "seed"),
        ("optimise.muon.lr=0.3", "muon"),
        ("optimise.sgd.lr.x=0.3", "optimise"),
        ("augment.flip.p.x=0.2", "augment"),
        ("optimise.lr=[1", r"optimise\.lr"),
        ("net.widths={", r"net\.widths"),
    ],
)
def test_mistakes_in_settings_are_told(setting, words):
    with pytest.raises(ConvclinicError, match=words):
        Recipe().override([setting])


def test_an_option_that_two_tricks_have_needs_the_tricks_name():
    both = Recipe(augment=(Flip(), dataclasses.replace(Flip(), p=0.1)))
    with pytest.raises(ConvclinicError, match="which trick"):
        both.override(["augment.p=0.3"])


@pytest.mark.parametrize(
    "setting",
    [
        "run.steps=0",
        "run.steps=-5",
        "run.batch_size=0",
        "run.evaluate_every=0",
        "run.patience=-1",
        "run.precision=float99",
        "data.channels=2",
        "data.height=0",
        "run.sizes=[[0.0, 0, 16]]",
        "run.sizes=[[1.5, 16, 16]]",
    ],
)
def test_impossible_lengths_and_sizes_are_refused_early(setting):
    with pytest.raises(ConvclinicError, match=setting.partition("=")[0].partition(".")[2]):
        Recipe().override([setting])


def test_a_changed_recipe_is_another_object():
    before = Recipe()
    before.override(["seed=9", "augment=none"])
    assert before == Recipe()
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.seed = 3


def test_files_that_are_no_recipe_are_told(tmp_path):
    with pytest.raises(ConvclinicError, match=r"^no recipe file .*none\.yaml$"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConvclinicError, match=r"^cannot read "):
        load(tmp_path)
    for name, content, words in (
        ("a.yaml", b"net: [fast", "neither JSON nor YAML"),
        ("b.yaml", b"\xff\xfe\x00", "neither JSON nor YAML"),
        ("c.yaml", b"", "holds no recipe .*convclinic plan FOLDER"),
        ("d.yaml", b"- fast\n", "holds no recipe"),
        ("e.yaml", b"just words", "holds no recipe"),
        ("f.yaml", b"!!python/object:os.system {}", "neither JSON nor YAML"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConvclinicError, match=words):
            load(tmp_path / name)


def test_a_small_number_written_by_hand_in_yaml_is_a_number(tmp_path):
    (tmp_path / "a.yaml").write_text("optimise: {name: adamw, lr: 1e-3}\n")
    assert load(tmp_path / "a.yaml").optimise.lr == 1e-3


def test_check_finds_clashes_and_nothing_else():
    assert Recipe().check() == []
    clash = Recipe(augment=(Flip(), AlternatingFlip())).check()
    assert [(finding.cause, finding.where) for finding in clash] == [("tricks_clash", "augment")]
    assert clash[0].remedies
    early = dataclasses.replace(Recipe(), run=Run(patience=3))
    assert [finding.where for finding in early.check()] == ["run.patience"]
    assert dataclasses.replace(early, schedule=(Constant(),)).check() == []


segments = st.lists(st.tuples(st.integers(1, 200), st.integers(0, 300)), max_size=4)


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 300), segments)
def test_progress_grows_without_jumps_and_ends_at_one(steps, changes):
    recipe, at = Recipe(run=Run(steps=steps)), 0
    for after, left in changes:  # as the loop bends a schedule: later and later, never into the past
        at += after
        if at >= recipe.total_steps:
            break
        segment = (at, recipe.progress(at), at + 1 + left)
        run = dataclasses.replace(recipe.run, rescheduled=(*recipe.run.rescheduled, segment))
        bent = dataclasses.replace(recipe, run=run)
        assert bent.progress(at) == pytest.approx(recipe.progress(at))
        assert [bent.progress(s) for s in range(at)] == [recipe.progress(s) for s in range(at)]
        recipe = bent
    values = [recipe.progress(step) for step in range(recipe.total_steps + 1)]
    assert values[0] == 0
    assert values[-1] == pytest.approx(1.0)
    assert all(0 <= a < b <= 1 for a, b in itertools.pairwise(values))
    assert recipe.progress(recipe.total_steps + 10) == 1.0


def test_progress_by_hand():
    recipe = Recipe(run=Run(steps=100, rescheduled=((50, 0.5, 60), (55, 0.75, 105))))
    assert recipe.total_steps == 105
    assert [recipe.progress(step) for step in (0, 25, 50, 52, 55, 80, 105)] == pytest.approx(
        [0, 0.25, 0.5, 0.6, 0.75, 0.875, 1]
    )


def test_a_finished_run_can_be_extended():
    """The end of the old schedule is taken up at a progress before 1, from which the new steps lead to 1."""
    extended = Recipe(run=Run(steps=100, rescheduled=((100, 0.5, 200),)))
    assert [extended.progress(step) for step in (99, 100, 150, 200)] == pytest.approx([0.99, 0.5, 0.75, 1.0])


def test_muons_own_recipe_file_is_read(tmp_path):
    """Its weight decay is written 2e-06, which YAML 1.1 takes for a word."""
    write_json(tmp_path / "recipe.json", Recipe(optimise=Muon()).to_dict())
    assert load(tmp_path / "recipe.json").optimise == Muon()
