import pytest

from convclinic.ground.errors import ConvclinicError
from convclinic.tricks.transfer.freeze import Freeze

STAGES = ("stem", "layer1", "layer2")


@pytest.mark.parametrize(
    ("until", "rates"),
    [
        ("", [1, 1, 1, 1]),
        ("stem", [1, 1, 1, 1]),
        ("layer1", [0, 1, 1, 1]),
        ("layer2", [0, 0, 1, 1]),
        ("head", [0, 0, 0, 1]),
    ],
)
@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_the_named_stage_is_the_first_that_learns(until: str, rates: list[float], progress: float):
    assert [Freeze(until_stage=until).rate(depth, STAGES, progress) for depth in range(4)] == rates


def test_an_unknown_stage_is_refused_with_the_nearest():
    with pytest.raises(ConvclinicError, match=r"layer9.*layer"):
        Freeze(until_stage="layer9").rate(0, STAGES, 0.0)
