"""Depthwise convolution with input-dependent kernels: every sample has its own (Sec. III-B1).

Shapes: B batch, C channels, H x W positions, K kernel size. The Triton kernels are in
:mod:`transxnet.ops.kernels.depthwise_kernels`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.ops.autocast import cast_to_autocast
from transxnet.ops.backend import choose
from transxnet.ops.depthwise_cpu import depthwise_c
from transxnet.ops.depthwise_gradient import MIN_KERNEL_SIZE, depthwise_conv
from transxnet.ops.fx_leaf import fx_leaf
from transxnet.ops.kernels.launch import empty_output


def dynamic_depthwise_conv2d_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The definition in plain PyTorch, the reference for all other implementations."""
    B, C, H, W = x.shape
    K = weight.shape[-1]
    if not torch.jit.is_tracing() and B == 0:  # a convolution needs at least one group
        return x.clone()
    out = F.conv2d(
        x.reshape(1, B * C, H, W),
        weight.reshape(B * C, 1, K, K),
        None if bias is None else bias.reshape(B * C),
        padding=K // 2,
        groups=B * C,
    )
    return out.reshape(B, C, H, W)


@fx_leaf(scripted=dynamic_depthwise_conv2d_reference)
def dynamic_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Depthwise convolution with input-dependent kernels, one set for each sample (Sec. III-B1), stride 1, same size.

    Args:
        x: (B, C, H, W), any strides.
        weight: (B, C, K, K), K odd.
        bias: (B, C) or None.

    Returns:
        (B, C, H, W), ``out[b, c] = conv2d(x[b, c], weight[b, c]) + bias[b, c]`` with zero padding, in the dtype of x or
        of autocast if enabled. Sums are float32 or wider.

    Raises:
        UserError: TRANSXNET_OPS asks for an implementation that does not support this input.
    """
    x = cast_to_autocast(x)
    choice = choose("dynamic_depthwise_conv2d", x, weight, bias, run=_run)
    return _run(choice.implementation, x, weight, bias)


def _run(implementation: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if implementation == "triton":
        return dynamic_depthwise_conv2d_triton(x, weight, bias)
    if implementation == "c":
        return depthwise_c(x, [weight], [] if bias is None else [bias])
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    if torch.compiler.is_exporting() and not isinstance(x.shape[0], int):
        return dynamic_depthwise_conv2d_export(x, weight, bias)
    if implementation == "cpu":
        return dynamic_depthwise_conv2d_cpu(x, weight, bias)
    return dynamic_depthwise_conv2d_reference(x, weight, bias)


def dynamic_depthwise_conv2d_cpu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The reference with the backward pass of :mod:`transxnet.ops.depthwise_gradient`."""
    if weight.shape[-1] < MIN_KERNEL_SIZE or x.numel() == 0:
        return dynamic_depthwise_conv2d_reference(x, weight, bias)
    return depthwise_conv(x, weight, bias)


def dynamic_depthwise_conv2d_export(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Variant for exported programs with a dynamic batch size: one matrix product for each sample and channel.

    A convolution in an exported program has a fixed number of groups, so it cannot have separate kernels for each
    sample of a dynamic batch. Here the K rows of the padded input that an output row needs are concatenated,
    (H, K (W + K - 1)), and multiplied by a band matrix of the kernel, (K (W + K - 1), W). This takes (W + K - 1) / K
    times the multiplications of the convolution and K times the memory of the input.
    """
    B, C, H, W = x.shape
    K = weight.shape[-1]
    width = W + K - 1
    taps = K * width
    kernel = F.pad(weight, (0, width - K)).flatten(2)
    # Each copy is one element longer than the matrix is wide, so it shifts by one position from row to row.
    band = F.pad(kernel, (0, 1))[:, :, None].expand(B, C, W, taps + 1).reshape(B, C, W * (taps + 1))
    band = band[..., : W * taps].reshape(B, C, W, taps)
    padded = F.pad(x, (K // 2,) * 4)
    rows = torch.cat([padded[:, :, i : i + H] for i in range(K)], dim=3)
    out = rows @ band.transpose(2, 3)
    return out if bias is None else out + bias[:, :, None, None]


@torch.library.custom_op("transxnet::dynamic_depthwise_conv2d", mutates_args=())
def dynamic_depthwise_conv2d_triton(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The Triton kernel as a PyTorch custom operator, for autograd, torch.compile and torch.export."""
    from transxnet.ops.kernels.depthwise_kernels import depthwise

    return depthwise(x, weight, bias)


@dynamic_depthwise_conv2d_triton.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return empty_output(x)


@torch.library.custom_op("transxnet::dynamic_depthwise_conv2d_backward", mutates_args=())
def dynamic_depthwise_conv2d_triton_backward(g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, weight and bias, the last two in float32."""
    from transxnet.ops.kernels.depthwise_kernels import depthwise, depthwise_weight_gradient

    dw, db = depthwise_weight_gradient(x, g, weight.shape[-1], per_sample=True)
    return depthwise(g, weight, flip=True), dw, db


@dynamic_depthwise_conv2d_triton_backward.register_fake
def _(g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    B, C = x.shape[:2]
    dw = x.new_empty((B, *weight.shape[2:], C), dtype=torch.float32).movedim(-1, 1)
    return empty_output(g), dw, x.new_empty((B, C), dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, weight, bias = inputs
    ctx.save_for_backward(x, weight)
    ctx.bias_dtype = None if bias is None else bias.dtype


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    x, weight = ctx.saved_tensors
    dx, dw, db = dynamic_depthwise_conv2d_triton_backward(g, x, weight)
    return dx, dw.to(weight.dtype), None if ctx.bias_dtype is None else db.to(ctx.bias_dtype)


dynamic_depthwise_conv2d_triton.register_autograd(_backward, setup_context=_setup_context)
