"""TransXNet's performance-critical operators. Layers hold parameters, operators compute.

Each file has one operator: the public function, its reference in plain PyTorch (``_reference``), faster variants for
the CPU (``_cpu``) and CUDA (``_triton``, a custom operator with kernels in :mod:`transxnet.ops.kernels`), and a variant
for exported programs (``_export``). :mod:`transxnet.ops.backend` chooses between them, on CUDA by measurement, and
gives the reasons.
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
