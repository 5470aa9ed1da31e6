"""Triton kernels for CUDA and their launch functions, used only by the custom operators of ``transxnet.ops``."""
