"""torchvision, also where its compiled operators do not load.

PyPI's torchvision is compiled for a CUDA build of torch; beside a CPU build its import stops at "operator
torchvision::nms does not exist". No image classifier calls those two operators: to be declared is enough.
"""

import torch

try:
    import torchvision
except RuntimeError:
    # Kept in a module variable: the declarations vanish together with this object.
    OPERATORS = torch.library.Library("torchvision", "DEF")
    OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    OPERATORS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

__all__ = ["torchvision"]
