"""The operators in which TransXNet spends its time. Layers hold parameters, operators compute.

One file for each operator: the public function, its reference in plain PyTorch (``_reference``), the faster forms for
the CPU (``_cpu``) and for CUDA (``_triton``, a custom operator whose kernels are in :mod:`transxnet.ops.kernels`), and
the form for exported programs (``_export``). :mod:`transxnet.ops.backend` chooses between them and gives the reasons.
"""

from transxnet.ops.attention import biased_attention
from transxnet.ops.backend import Choice, choose
from transxnet.ops.dynamic_conv import dynamic_depthwise_conv2d
from transxnet.ops.multiscale_conv import multiscale_depthwise_conv2d
from transxnet.ops.resampling import adaptive_avg_pool2d

__all__ = [
    "Choice",
    "adaptive_avg_pool2d",
    "biased_attention",
    "choose",
    "dynamic_depthwise_conv2d",
    "multiscale_depthwise_conv2d",
]
