"""Run a script that imports torchvision, or a library that does, wherever it is installed.

    python tests/peers.py examples/torchvision_v2.py

PyPI's torchvision is compiled for a CUDA build of torch; beside a CPU build its import stops at "operator
torchvision::nms does not exist". No image classifier calls those operators: to be declared is enough.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import torch

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
KEPT: list[torch.library.Library] = []  # declarations vanish together with the object they were made by


def mend_torchvision() -> None:
    """Make torchvision importable where it is installed and its compiled operators do not load."""
    if find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in OPERATORS:
            library.define(operator)
        KEPT.append(library)
        importlib.import_module("torchvision")


if __name__ == "__main__":
    mend_torchvision()
    script = Path(sys.argv[1])
    sys.path.insert(0, str(script.parent))  # as if the script had been started itself
    runpy.run_path(str(script), run_name="__main__")
