"""Cases: an operator's name, what to call it with by argument name, and how to call it with those."""

import torch
from torch import Tensor


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape)


def dynamic(B: int, C: int, H: int, W: int, K: int, bias: bool = True) -> tuple[str, dict[str, Tensor]]:
    tensors = {"x": rand(B, C, H, W), "weight": rand(B, C, K, K)}
    return "dynamic_depthwise_conv2d", tensors | ({"bias": rand(B, C)} if bias else {})


def multiscale(B: int, H: int, W: int, *groups: tuple[int, int]) -> tuple[str, dict[str, Tensor]]:
    tensors = {"x": rand(B, sum(C for C, _ in groups), H, W)}
    for i, (C, K) in enumerate(groups):
        tensors |= {f"weight{i}": rand(C, 1, K, K), f"bias{i}": rand(C)}
    return "multiscale_depthwise_conv2d", tensors


def attention(B: int, h: int, N: int, M: int, d: int, bias: bool = True) -> tuple[str, dict[str, Tensor]]:
    tensors = {"q": rand(B, h, N, d), "k": rand(B, h, M, d), "v": rand(B, h, M, d)}
    return "biased_attention", tensors | ({"bias": rand(1, h, N, M)} if bias else {})


def call(module, operator: str, tensors: dict[str, Tensor]) -> Tensor:
    if operator == "multiscale_depthwise_conv2d":
        groups = range(len(tensors) // 2)
        weights, biases = [tensors[f"weight{i}"] for i in groups], [tensors[f"bias{i}"] for i in groups]
        return module.multiscale_depthwise_conv2d(tensors["x"], weights, biases)
    return getattr(module, operator)(*tensors.values())
