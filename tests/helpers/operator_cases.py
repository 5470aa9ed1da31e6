"""Operator test cases: the operator's name, its tensors by argument name, its reference, and how to call it."""

from collections.abc import Callable

import torch
from torch import Tensor

from transxnet.ops.attention import biased_attention_reference
from transxnet.ops.dynamic_conv import dynamic_depthwise_conv2d_reference
from transxnet.ops.multiscale_conv import multiscale_depthwise_conv2d_reference

Case = tuple[str, dict[str, Tensor]]

REFERENCES: dict[str, Callable[..., Tensor]] = {
    "dynamic_depthwise_conv2d": dynamic_depthwise_conv2d_reference,
    "multiscale_depthwise_conv2d": multiscale_depthwise_conv2d_reference,
    "biased_attention": biased_attention_reference,
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape)


def dynamic(B: int, C: int, H: int, W: int, K: int, bias: bool = True) -> Case:
    tensors = {"x": rand(B, C, H, W), "weight": rand(B, C, K, K)}
    return "dynamic_depthwise_conv2d", tensors | ({"bias": rand(B, C)} if bias else {})


def multiscale(B: int, H: int, W: int, *groups: tuple[int, int]) -> Case:
    tensors = {"x": rand(B, sum(C for C, _ in groups), H, W)}
    for i, (C, K) in enumerate(groups):
        tensors |= {f"weight{i}": rand(C, 1, K, K), f"bias{i}": rand(C)}
    return "multiscale_depthwise_conv2d", tensors


def attention(B: int, h: int, N: int, M: int, d: int, bias: bool = True) -> Case:
    tensors = {"q": rand(B, h, N, d), "k": rand(B, h, M, d), "v": rand(B, h, M, d)}
    return "biased_attention", tensors | ({"bias": rand(1, h, N, M)} if bias else {})


def call(function: Callable[..., Tensor], tensors: dict[str, Tensor]) -> Tensor:
    """Apply the function of any implementation to the tensors of a case."""
    if "weight0" in tensors:
        groups = range(len(tensors) // 2)
        weights, biases = [tensors[f"weight{i}"] for i in groups], [tensors[f"bias{i}"] for i in groups]
        return function(tensors["x"], weights, biases)
    return function(*tensors.values())


def on_device(
    case: Case,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    parameters: tuple[str, ...] = ("weight", "bias"),
) -> Case:
    """Move a case to the GPU, if available, with activations in the given dtype and memory layout."""
    operator, tensors = case
    moved = {}
    for name, t in tensors.items():
        t = t.to(DEVICE, torch.float32 if name.startswith(parameters) else dtype)
        moved[name] = t.contiguous(memory_format=torch.channels_last) if channels_last and name == "x" else t
    return operator, moved


def correlate(image: Tensor, kernel: Tensor) -> Tensor:
    """One channel and kernel: ``out[i, j] = sum_uv kernel[u, v] image[i + u - K//2, j + v - K//2]``, zero-padded."""
    (H, W), K = image.shape, kernel.shape[-1]
    out = torch.zeros(H, W, dtype=image.dtype)
    for i in range(H):
        for j in range(W):
            for u in range(K):
                for v in range(K):
                    y, x = i + u - K // 2, j + v - K // 2
                    if 0 <= y < H and 0 <= x < W:
                        out[i, j] += kernel[u, v] * image[y, x]
    return out
