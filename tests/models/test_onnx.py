"""Weights out of ONNX graphs as exporters of other programs write them, and by order in general."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convclinic.ground.errors import ConvclinicError
from convclinic.kinds import Layers
from convclinic.models._order import by_order, unfolded
from convclinic.models._weights import IMAGENET, Weights, fit_into, read_weights
from convclinic.models.backbone import Backbone

onnx = pytest.importorskip("onnx")


def net(classes: int = 10, seed: int = 0) -> Any:
    """With statistics that differ from those of a fresh net, so that a norm left out would show."""
    torch.manual_seed(seed)
    made: Any = Backbone("resnet20").build(3, classes, Layers(lambda _: nn.ReLU()))
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in (
                (module.weight, 0.5),
                (module.bias, -0.5),
                (module.running_mean, -0.5),
                (module.running_var, 0.5),
            ):
                torch.nn.init.uniform_(tensor, low, low + 1)  # pyright: ignore[reportArgumentType]
    return made.eval()


def pairs_of(made: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution with the norm behind it: the order of ResNet's modules is that of a graph."""
    kinds = [module for module in made.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    return list(zip(kinds[::2], kinds[1::2], strict=True))  # pyright: ignore[reportReturnType]


def written(path: Path, nodes: list[tuple[str, dict[str, Tensor], dict[str, int]]]) -> Path:
    """An ONNX file of nodes (operator, initialisers, attributes), chained one behind the other."""
    made, values, last = [], [], "images"
    for k, (operator, inputs, attributes) in enumerate(nodes):
        made.append(onnx.helper.make_node(operator, [last, *inputs], [f"out{k}"], **attributes))
        values += [onnx.numpy_helper.from_array(v.detach().numpy(), name) for name, v in inputs.items()]
        last = f"out{k}"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(made, "net", [], [], values)), path)
    return path


def caffe_like(made: Any) -> list[tuple[str, dict[str, Tensor], dict[str, int]]]:
    """Convolutions and norms apart, named by number; the classifier as Gemm that is (in, out)."""
    nodes: list[tuple[str, dict[str, Tensor], dict[str, int]]] = []
    for k, (conv, norm) in enumerate(pairs_of(made)):
        nodes.append(("Conv", {f"blob{k}_w": conv.weight}, {}))
        scaled: dict[str, Any] = {
            f"blob{k}_{role}": getattr(norm, role)
            for role in ("weight", "bias", "running_mean", "running_var")
        }
        nodes.append(("BatchNormalization", scaled, {}))
    head = made.head
    return [*nodes, ("Gemm", {"fc_w": head.weight.T.contiguous(), "fc_b": head.bias}, {"transB": 0})]


def folded(made: Any) -> list[tuple[str, dict[str, Tensor], dict[str, int]]]:
    """Norms folded into convolutions, as most exporters do; the classifier as a product and a sum."""
    nodes: list[tuple[str, dict[str, Tensor], dict[str, int]]] = []
    for k, (conv, norm) in enumerate(pairs_of(made)):
        both = torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
        nodes.append(("Conv", {f"{k}W": both.weight, f"{k}B": both.bias}, {}))  # pyright: ignore[reportArgumentType]
    return [
        *nodes,
        ("MatMul", {"W": made.head.weight.T.contiguous()}, {}),
        ("Add", {"B": made.head.bias}, {}),
    ]


@torch.no_grad()
@pytest.mark.parametrize("export", [caffe_like, folded])
def test_a_graph_with_names_of_its_own_gives_the_same_net(export, tmp_path):
    made, other = net(), net(seed=1)
    matched = fit_into(other, read_weights(written(tmp_path / "zoo.onnx", export(made))))
    assert (matched.fresh, matched.unused) == ((), ())
    assert matched.folded == (export is folded)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(other(x), made(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_names_that_pytorch_gave_are_kept(tmp_path):
    made = net()
    nodes = [
        (operator, {made.origin(names[id(value)]): value for value in inputs.values()}, {**at, "transB": 1})
        if operator == "Gemm"
        else (operator, {made.origin(names[id(value)]): value for value in inputs.values()}, at)
        for names in [{id(v): n for n, v in [*made.named_parameters(), *made.named_buffers()]}]
        for operator, inputs, at in [
            *caffe_like(made)[:-1],
            ("Gemm", {"w": made.head.weight, "b": made.head.bias}, {}),
        ]
    ]
    matched = fit_into(net(seed=1), read_weights(written(tmp_path / "torch.onnx", nodes)))
    assert (matched.how, matched.fresh) == ("by name", ())


def test_another_head_does_not_hinder(tmp_path):
    matched = fit_into(net(4), read_weights(written(tmp_path / "zoo.onnx", caffe_like(net()))))
    assert matched.fresh == ("head.weight", "head.bias")


def test_one_layer_out_of_place_is_refused_and_not_guessed_at(tmp_path):
    nodes = caffe_like(net())
    nodes.insert(2, ("Conv", {"more": torch.zeros(16, 16, 3, 3)}, {}))
    with pytest.raises(ConvclinicError, match="another net"):
        fit_into(net(), read_weights(written(tmp_path / "zoo.onnx", nodes)))


def test_weights_pair_in_order_only():
    own = {"a.weight": torch.zeros(4, 3, 3, 3), "b.weight": torch.zeros(4, 4, 1, 1), "h.bias": torch.zeros(2)}
    assert by_order(own, {f"x{k}.{n[2:]}": v for k, (n, v) in enumerate(own.items())}) == {
        "a.weight": "x0.weight", "b.weight": "x1.weight", "h.bias": "x2.bias"
    }  # fmt: skip
    assert by_order(own, {n: own[n] for n in ("b.weight", "a.weight", "h.bias")}) == {}


@torch.no_grad()
def test_an_unfolded_convolution_computes_the_same():
    conv, x = nn.Conv2d(3, 5, 3), torch.rand(2, 3, 6, 6)
    norm = nn.BatchNorm2d(5, eps=1e-3).eval()
    apart = unfolded({f"c.{name}": value for name, value in conv.state_dict().items()}, norm.eps)
    norm.load_state_dict(
        {k.removeprefix("c.norm."): v for k, v in apart.items() if "norm" in k}, strict=False
    )
    plain = torch.nn.functional.conv2d(x, apart["c.weight"])
    torch.testing.assert_close(norm(plain), conv(x))


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"\x0anonsense")
    with pytest.raises(ConvclinicError, match=r"no ONNX file|no tensors"):
        read_weights(tmp_path / "a.onnx")


def test_weights_from_elsewhere_need_no_file():
    made = net()
    tensors = {f"layer{k}.{name.rpartition('.')[2]}": v for k, (name, v) in enumerate(
        (n, v) for n, v in made.state_dict().items() if not n.endswith("num_batches_tracked")
    )}  # fmt: skip
    # each tensor a layer of its own: nothing says that they belong together
    with pytest.raises(ConvclinicError, match="another net"):
        fit_into(net(), Weights(tensors, IMAGENET, "made", "", "made.npz"))
