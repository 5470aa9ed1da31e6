"""The functions in which TransXNet spends its time. Layers hold parameters; these hold the arithmetic.

:mod:`transxnet.ops.reference` is the truth in plain PyTorch, :mod:`transxnet.ops.kernels` the fast way on CUDA,
:mod:`transxnet.ops.products` what exported programs need, and :mod:`transxnet.ops.dispatch` chooses between them and
can say why.
"""

from transxnet.ops.dispatch import Choice, choose
from transxnet.ops.functions import (
    adaptive_avg_pool2d,
    biased_attention,
    dynamic_depthwise_conv2d,
    multiscale_depthwise_conv2d,
)

__all__ = [
    "Choice",
    "adaptive_avg_pool2d",
    "biased_attention",
    "choose",
    "dynamic_depthwise_conv2d",
    "multiscale_depthwise_conv2d",
]
