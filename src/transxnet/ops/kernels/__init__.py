"""Triton kernels for CUDA and the functions that launch them. Only custom operators of ``transxnet.ops`` use them."""
