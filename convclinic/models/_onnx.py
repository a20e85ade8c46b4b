"""Weights out of ONNX files, layer by layer, whoever has exported them.

The zoos of Caffe, MatConvNet and TensorFlow are read through it. onnx is an optional extra, imported when
such a file is read.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convclinic.ground.errors import ConvclinicError

ROLES = {
    "Conv": ("weight", "bias"),
    "BatchNormalization": ("weight", "bias", "running_mean", "running_var"),
    "Gemm": ("weight", "bias"),
    "MatMul": ("weight",),
}
"""What the inputs behind the first are, in PyTorch's words."""


def read_onnx(path: Path) -> dict[str, Tensor]:
    """Weights (out, in, ...) by LAYER.weight, LAYER.bias and so on, in the order of the graph; what no layer
    uses under its own name. A layer has PyTorch's name where the file has kept it, else conv0, gemm5, ...
    Raises ConvclinicError where the package is missing or the file is broken."""
    try:
        onnx: Any = importlib.import_module("onnx")
        helper: Any = importlib.import_module("onnx.numpy_helper")
    except ImportError as error:
        raise ConvclinicError(
            "ONNX files need the package onnx", fix="pip install 'convclinic[onnx]'"
        ) from error
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's own kinds of error, which are not ours to name
        raise ConvclinicError(
            f"{path} is no ONNX file: {error}", fix="export or download it again"
        ) from error
    values = {each.name: torch.from_numpy(np.array(helper.to_array(each))) for each in graph.initializer}
    return _by_layer(graph.node, values, helper)


def _by_layer(nodes: Any, values: dict[str, Tensor], helper: Any) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    used: set[str] = set()
    summed: dict[str, str] = {}  # what a matrix product is called, and its layer: a bias may be added to it
    for node in nodes:
        inputs = list(node.input)
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            values[node.output[0]] = torch.from_numpy(np.array(helper.to_array(node.attribute[0].t)))
            used.add(node.output[0])  # a shape or an axis, unless a layer takes it
        elif node.op_type == "Identity" and inputs[0] in values:
            values[node.output[0]] = values[inputs[0]]
            used |= {inputs[0], node.output[0]}
        elif node.op_type == "Add" and (found := [name for name in inputs if name in summed]):
            bias = next((name for name in inputs if name in values), None)
            if bias is not None and values[bias].ndim == 1:
                out[f"{summed[found[0]]}.bias"] = values[bias]
                used.add(bias)
        elif node.op_type in ROLES and len(inputs) > 1 and inputs[1] in values:
            named = {role: name for role, name in zip(ROLES[node.op_type], inputs[1:], strict=False) if name}
            layer = _layer(node.op_type, named["weight"], out)
            for role, name in named.items():
                turn = role == "weight" and _inputs_first(node)
                out[f"{layer}.{role}"] = values[name].mT.contiguous() if turn else values[name]
                used.add(name)
            if node.op_type == "MatMul":
                summed[node.output[0]] = layer
    return out | {name: value for name, value in values.items() if name not in used}


def _layer(kind: str, weight: str, taken: dict[str, Tensor]) -> str:
    name = weight.removesuffix(".weight")
    return f"{kind.lower()}{len(taken)}" if name == weight or weight in taken else name


def _inputs_first(node: Any) -> bool:
    """Whether a matrix is (in, out) and not, as PyTorch has it, (out, in)."""
    if node.op_type == "Gemm":
        return not any(each.name == "transB" and each.i for each in node.attribute)
    return node.op_type == "MatMul"
