"""The functions in which TransXNet spends its time. Layers hold parameters; these hold the arithmetic."""

from transxnet.ops.reference import biased_attention, dynamic_depthwise_conv2d, multiscale_depthwise_conv2d

__all__ = ["biased_attention", "dynamic_depthwise_conv2d", "multiscale_depthwise_conv2d"]
