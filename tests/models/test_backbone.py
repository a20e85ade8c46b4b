"""Backbones and the weights that are read into them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Layers
from convclinic.models._weights import IMAGENET, Source, Weights, fit_into, hub_weights, read_weights
from convclinic.models.backbone import OURS, Backbone
from convclinic.models.mobilenet_v2 import MobileNetV2
from tests.peers import mend_torchvision

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights"
MOBILENET = "mobilenet_v2_1.0_224_tf2ptq_fp16.npz"
SQUEEZENET = "squeezenet1_1_features_rgb255mean.npz"
RESNET20 = "resnet20-12fca82f.th"
TIMM = ("timm:mobilenetv2_050", "timm:resnet10t", "timm:mobilenetv4_conv_small_035", "timm:convnext_atto")
QUICK = ("mobilenet_v2", "squeezenet1_1", "resnet18", "resnet50", "resnet20")
LAYERS = Layers(lambda _: nn.ReLU())


def built(model: str, classes: int = 5, channels: int = 3, **options: Any) -> Any:
    if model.startswith("timm:"):
        mend_torchvision()
        pytest.importorskip("timm")
    torch.manual_seed(0)
    return Backbone(model, **options).build(channels, classes, LAYERS).eval()


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"no {name} beside this checkout")
    return SHARED / name


def images(n: int = 2, side: int = 65, channels: int = 3) -> Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(1))


def of(tensors: dict[str, Tensor], source: Source = IMAGENET) -> Weights:
    return Weights(tensors, source, "made", "", "made.npz")


@torch.no_grad()
@pytest.mark.parametrize("model", [*QUICK, *TIMM])
def test_stages_are_what_the_net_is_made_of(model):
    net = built(model)
    x = images()
    maps = net.stages(x, net.stage_names)
    assert list(maps) == list(net.stage_names)
    assert {name: each.shape[1] for name, each in maps.items()} == net.maps
    last = net.stage_names[-1]
    torch.testing.assert_close(net.head(net.pooled(maps[last])), net(x), rtol=1e-4, atol=1e-5)
    alone = net.stages(x, net.stage_names[:1])
    assert list(alone) == [net.stage_names[0]]
    torch.testing.assert_close(alone[net.stage_names[0]], maps[net.stage_names[0]])


@torch.no_grad()
@pytest.mark.parametrize("model", [*QUICK, *TIMM[:2]])
def test_a_cut_net_ends_behind_its_stage(model):
    whole = built(model)
    stage = whole.stage_names[1]
    cut = built(model, cut=stage)
    assert cut.stage_names == whole.stage_names[:2]
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in whole.parameters())
    names = {cut.origin(name) for name in cut.state_dict() if not name.startswith("head.")}
    cut.load_state_dict({k: v for k, v in whole.state_dict().items() if k in cut.state_dict()} | {
        k: v for k, v in cut.state_dict().items() if k.startswith("head.")
    })  # fmt: skip
    torch.testing.assert_close(cut.stages(images(), (stage,)), whole.stages(images(), (stage,)))
    assert names <= {whole.origin(name) for name in whole.state_dict()}


@pytest.mark.parametrize("model", [*QUICK, *TIMM])
def test_depth_grows_with_the_order_of_parameters(model):
    net = built(model)
    depths = [net.depth_of(name) for name, _ in net.named_parameters()]
    assert depths == sorted(depths)
    assert depths[0] == 0
    assert depths[-1] == net.depth_of("head.weight") == len(net.stage_names)


@pytest.mark.parametrize("model", sorted(OURS))
def test_they_are_built_without_numbers_too(model):
    with torch.device("meta"):
        net = Backbone(model).build(3, 7, LAYERS)
    assert {tensor.device.type for tensor in net.state_dict().values()} == {"meta"}


def test_mistakes_in_names_are_told():
    with pytest.raises(ConvclinicError, match="no backbone 'mobilnet'"):
        Backbone("mobilnet")
    with pytest.raises(ConvclinicError, match=r"no stage 'layer9'.*layer"):
        built("resnet18", cut="layer9")
    mend_torchvision()
    pytest.importorskip("timm")
    with pytest.raises(ConvclinicError, match="timm has no net"):
        Backbone("timm:resnet_eighteen").build(3, 5, LAYERS)


# weights


@torch.no_grad()
def test_mobilenets_file_gives_torchvisions_features_and_predictions():
    mend_torchvision()
    torchvision = pytest.importorskip("torchvision")
    weights = read_weights(shared(MOBILENET))
    net = built("mobilenet_v2", 1000)
    matched = fit_into(net, weights)
    assert (matched.fresh, matched.unused, matched.how) == ((), (), "by name")
    reference = torchvision.models.mobilenet_v2()
    reference.load_state_dict(weights.tensors, strict=False)
    reference.eval()
    x = images(2, 161) * 2 - 1
    torch.testing.assert_close(net(x), reference(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        net.stages(x, ("features18",))["features18"], reference.features(x), rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_squeezenets_file_gives_torchvisions_features():
    mend_torchvision()
    torchvision = pytest.importorskip("torchvision")
    weights = read_weights(shared(SQUEEZENET))
    net = built("squeezenet1_1", 6)
    assert fit_into(net, weights).fresh == ("head.weight", "head.bias")
    reference = torchvision.models.squeezenet1_1()
    reference.load_state_dict(weights.tensors, strict=False)
    x = (images(2, 129) - torch.tensor(weights.source.mean).view(3, 1, 1)) * 255
    torch.testing.assert_close(
        net.stages(x, ("features12",))["features12"], reference.eval().features(x), rtol=1e-4, atol=1e-3
    )


def test_the_prefix_of_data_parallel_is_taken_off():
    weights = read_weights(shared(RESNET20))
    assert "conv1.weight" in weights.tensors
    matched = fit_into(built("resnet20", 10), weights)
    assert matched.fresh == ()
    assert weights.source.side == 32


def test_each_files_own_scaling_is_known():
    assert read_weights(shared(MOBILENET)).source.mean == (0.5, 0.5, 0.5)
    assert read_weights(shared(MOBILENET)).source.fitting(200) == 193
    assert read_weights(shared(SQUEEZENET)).source.std == pytest.approx((1 / 255,) * 3)


@torch.no_grad()
@pytest.mark.parametrize("model", ["timm:mobilenetv2_100", "mobilenet_v2"])
def test_weights_go_from_torchvisions_names_to_timms_and_back(model):
    mend_torchvision()
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    ours, theirs = built("mobilenet_v2", 1000), timm.create_model("mobilenetv2_100").eval()
    if model == "mobilenet_v2":
        matched = fit_into(ours, of(theirs.state_dict()))
        assert matched.fresh == ()
        torch.testing.assert_close(ours(images()), theirs(images()), rtol=1e-4, atol=1e-4)
        return
    net = built(model, 6)
    tensors = {ours.origin(name): value for name, value in ours.state_dict().items()}
    matched = fit_into(net, of(tensors))
    assert matched.how == "by order and shape"
    assert matched.fresh == ("head.weight", "head.bias")
    torch.testing.assert_close(
        net.stages(images(), ("final",))["final"].flatten(1),
        ours.pooled(ours.stages(images(), ("features18",))["features18"]),
        rtol=1e-4,
        atol=1e-5,
    )


@torch.no_grad()
def test_the_first_layer_takes_gray_images_many_bands_and_bgr():
    colour = built("resnet20")
    tensors = {colour.origin(name): value for name, value in colour.state_dict().items()}
    gray, six, turned = built("resnet20", channels=1), built("resnet20", channels=6), built("resnet20")
    for net in (gray, six):
        fit_into(net, of(tensors))
    fit_into(turned, of(tensors, Source(order="bgr")))
    plane = images(channels=1, side=32)
    same = plane.expand(-1, 3, -1, -1)
    for net, seen in ((gray, plane), (six, plane.expand(-1, 6, -1, -1))):
        torch.testing.assert_close(net.stages(seen, ("stem",)), colour.stages(same, ("stem",)))
    x = images(side=32)
    torch.testing.assert_close(turned.stages(x.flip(1), ("stem",)), colour.stages(x, ("stem",)))


def test_what_did_not_fit_is_told():
    net = built("resnet20", 3)
    tensors = {net.origin(name): value for name, value in net.state_dict().items()}
    tensors["linear.weight"] = torch.zeros(10, 64)
    tensors["extra.weight"] = torch.zeros(3)
    del tensors["layer3.0.bn1.bias"]
    before = net.head.weight.clone()
    matched = fit_into(net, of(tensors))
    assert matched.reinitialised == ("head.weight",)
    assert matched.missing == ("blocks.layer3.0.0.bn1.bias",)
    assert matched.unused == ("extra.weight",)
    assert torch.equal(net.head.weight, before)
    assert "re-initialised: head.weight" in matched.words()
    assert "not in the net" in matched.words()


def test_a_backbones_own_names_are_known_too():
    net, other = built("resnet20"), built("resnet20")
    with torch.no_grad():
        net.head.weight.add_(1)
    assert fit_into(other, of(net.state_dict())).fresh == ()
    torch.testing.assert_close(other.state_dict(), net.state_dict())


def test_a_file_of_another_net_is_refused():
    other = built("squeezenet1_1").state_dict()
    with pytest.raises(ConvclinicError, match="another net"):
        fit_into(built("resnet18"), of(other))


@pytest.mark.parametrize("kind", ["safetensors", "pth", "npz", "onnx"])
def test_every_kind_of_file_gives_the_same_net(kind, tmp_path):
    torch.manual_seed(0)
    net = MobileNetV2(width=0.25).build(3, 4, LAYERS)
    state = {name: value for name, value in net.state_dict().items() if value.is_floating_point()}
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "pth":
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    elif kind == "npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    else:
        onnx = pytest.importorskip("onnx")
        initialisers = [onnx.numpy_helper.from_array(value.numpy(), name) for name, value in state.items()]
        graph = onnx.helper.make_graph([], "net", [], [], initialisers)
        onnx.save(onnx.helper.make_model(graph), path)
    torch.manual_seed(1)
    again = MobileNetV2(width=0.25).build(3, 4, LAYERS)
    assert fit_into(again, read_weights(path)).fresh == ()
    torch.testing.assert_close(again.state_dict(), net.state_dict())


def test_a_file_beside_says_how_images_were_fed(tmp_path):
    path = tmp_path / "mine.npz"
    shutil.copy(shared(RESNET20), tmp_path / "resnet20-mine.th")
    np.savez(path, **{"conv1.weight": np.zeros((1, 3, 3, 3), np.float32)})
    assert read_weights(path).source.known.startswith("assumed")
    beside = tmp_path / "mine.npz.json"
    beside.write_text(json.dumps({"mean": [0, 0, 0], "std": [1, 1, 1], "order": "bgr", "side": 64}))
    source = read_weights(path).source
    assert (source.mean, source.order, source.side) == ((0.0, 0.0, 0.0), "bgr", 64)
    assert "mine.npz.json" in source.known
    beside.write_text(json.dumps({"order": "grb"}))
    with pytest.raises(ConvclinicError, match="rgb or bgr"):
        read_weights(path)


def test_bad_files_are_refused_with_words(tmp_path):
    def refused(name: str, data: bytes, words: str) -> None:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConvclinicError, match=words):
            read_weights(tmp_path / name)

    with pytest.raises(ConvclinicError, match="no file of weights"):
        read_weights(tmp_path / "none.npz")
    refused("a.h5", b"x", "no kind of weights")
    refused("a.safetensors", b"x", "cannot be read")
    refused("a.npz", b"x", "cannot be read")
    refused("a.pth", b"x", "cannot be read|not be safe")
    torch.save(nn.Linear(1, 1), tmp_path / "whole.pth")
    with pytest.raises(ConvclinicError, match="not be safe"):
        read_weights(tmp_path / "whole.pth")
    torch.save({"a": 1}, tmp_path / "numbers.pth")
    with pytest.raises(ConvclinicError, match="no tensors"):
        read_weights(tmp_path / "numbers.pth")
    np.savez(tmp_path / "nan.npz", a=np.array([np.nan], np.float32))
    with pytest.raises(ConvclinicError, match="no numbers"):
        read_weights(tmp_path / "nan.npz")


def test_no_network_is_told_in_words(monkeypatch):
    mend_torchvision()
    timm = pytest.importorskip("timm")

    def fail(name: str, pretrained: bool) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ConvclinicError, match=r"no route to host.*--weights FILE"):
        hub_weights("resnet18")
    with pytest.raises(ConvclinicError, match="timm has no net"):
        hub_weights("resnet_eighteen")
