import torch
from torch import nn

from convclinic.models._layers import conv_norm, needs_bias
from convclinic.tricks.normalise.batch_norm import BatchNorm
from convclinic.tricks.normalise.none import NoNorm


def test_is_the_identity_without_parameters():
    layer, x = NoNorm().build(3), torch.randn(2, 3, 4, 4)
    assert torch.equal(layer(x), x)
    assert not layer.state_dict()


def test_gives_the_convolution_before_it_a_bias():
    assert conv_norm(3, 4, 3, NoNorm().build)[0].bias is not None
    assert conv_norm(3, 4, 3, BatchNorm().build)[0].bias is None
    assert needs_bias(nn.BatchNorm2d(4, affine=False))
