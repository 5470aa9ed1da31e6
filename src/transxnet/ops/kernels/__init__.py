"""Triton kernels for CUDA and the functions that launch them. Nothing but :mod:`transxnet.ops.library` calls these."""
