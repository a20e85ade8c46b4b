import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Layers
from convclinic.models.backbone import Backbone
from convclinic.tricks.transfer.pretrained import Pretrained


def net(n_classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return Backbone(model="resnet20").build(3, n_classes, Layers(lambda _: nn.ReLU()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in filled(net(10, 0)).items()}, path)
    return path


def filled(source: nn.Module) -> dict[str, torch.Tensor]:
    """The net's tensors under the names that they have in files of weights."""
    named = {source.origin(name): value for name, value in source.state_dict().items()}
    return {name: value for name, value in named.items() if name is not None}


def test_what_fits_is_loaded_and_the_head_keeps_its_values(file: Path):
    source, target = net(10, 0), net(3, 1)
    head = target.head.weight.detach().clone()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    matched = Pretrained(file=str(file), sha256=digest).load(target)
    assert set(matched.fresh) == {"head.weight", "head.bias"}
    assert torch.equal(target.head.weight, head)
    for name in matched.loaded:
        assert torch.equal(target.state_dict()[name], source.state_dict()[name])
    assert len(matched.loaded) > 50


def test_another_file_a_missing_one_and_none_are_refused(file: Path, tmp_path: Path):
    with pytest.raises(ConvclinicError, match="not the file"):
        Pretrained(file=str(file), sha256="0" * 64).load(net(3, 1))
    with pytest.raises(ConvclinicError, match="no file of weights"):
        Pretrained(file=str(tmp_path / "gone.pth")).load(net(3, 1))
    with pytest.raises(ConvclinicError, match="names no file"):
        Pretrained().load(net(3, 1))


def test_a_digest_that_is_none_is_refused_at_once():
    with pytest.raises(ConvclinicError, match="64 hexadecimal"):
        Pretrained(sha256="abc")
