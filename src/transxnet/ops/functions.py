"""The public operators: each takes the implementation that :mod:`transxnet.ops.dispatch` chooses."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.ops import cpu, products, reference, resampling
from transxnet.ops.dispatch import choose

_AUTOCASTING = frozenset(filter(torch.amp.is_autocast_available, ("cpu", "cuda", "mps", "xpu")))
"""Asked once, since the compiler of torch 2.11 can't trace the question."""


def dynamic_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Depthwise convolution in which every sample brings its own kernels (Sec. III-B1), stride 1, same size.

    Args:
        x: (B, C, H, W), any strides.
        weight: (B, C, K, K), K odd.
        bias: (B, C) or None.

    Returns:
        (B, C, H, W), ``out[b, c] = conv2d(x[b, c], weight[b, c]) + bias[b, c]`` with zero padding, in the type of x, or
        of autocast where that is on. Sums are float32 or wider.

    Raises:
        UserError: TRANSXNET_OPS asks for what cannot be.
    """
    x = _autocast(x)
    implementation = choose("dynamic_depthwise_conv2d", x).implementation
    if implementation == "triton":
        from transxnet.ops import library

        return library.dynamic_depthwise_conv2d(x, weight, bias)
    plain = cpu if implementation == "cpu" else reference
    if torch.compiler.is_exporting() and not isinstance(x.shape[0], int):
        plain = products
    return plain.dynamic_depthwise_conv2d(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def multiscale_depthwise_conv2d(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, identity: bool = True, gelu: bool = False
) -> Tensor:
    """Depthwise convolutions of several kernel sizes, each on its own group of channels, plus the input (Fig. 5c).

    One scale makes it a plain depthwise convolution with a residual: DPE, the local refinement, STE.

    Args:
        x: (B, C, H, W), any strides.
        weights: a (C_i, 1, K_i, K_i) for each group in channel order, K_i odd, the C_i adding up to C.
        biases: a (C_i,) for each group.
        identity: add x.
        gelu: end in a GELU, in the same pass over memory; for inference.

    Returns:
        (B, C, H, W): ``x + concat_i(conv2d(x_i, weights[i], biases[i]))`` with zero padding, in the type of x, or of
        autocast where that is on. Sums are float32 or wider.

    Raises:
        UserError: TRANSXNET_OPS asks for what cannot be.
    """
    x = _autocast(x)
    weights, biases = list(weights), list(biases)
    implementation = choose("multiscale_depthwise_conv2d", x).implementation
    if implementation == "triton":
        from transxnet.ops import library

        if gelu and torch.is_grad_enabled():  # its gradient needs what comes before it
            return F.gelu(library.multiscale_depthwise_conv2d(x, weights, biases, identity, False))
        return library.multiscale_depthwise_conv2d(x, weights, biases, identity, gelu)
    weights, biases = [w.to(x.dtype) for w in weights], [b.to(x.dtype) for b in biases]
    plain = cpu if implementation == "cpu" else reference
    return plain.multiscale_depthwise_conv2d(x, weights, biases, identity=identity, gelu=gelu)


def adaptive_avg_pool2d(x: Tensor, size: int) -> Tensor:
    """``F.adaptive_avg_pool2d``, in an exported program with operators that every format has.

    Args:
        x: (B, C, H, W).
        size: of the output.

    Returns:
        (B, C, size, size).
    """
    if not torch.compiler.is_exporting():
        return resampling.adaptive_average(x, size)
    height, width = x.shape[2:]
    if not (isinstance(height, int) and isinstance(width, int)) or height % size or width % size:
        return products.adaptive_avg_pool2d(x, size)
    return x if height == width == size else F.avg_pool2d(x, (height // size, width // size))


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of all positions to a reduced set of keys, with a position bias shared by the batch (Eq. 4).

    Args:
        q: (B, h, N, d), any strides.
        k: (B, h, M, d).
        v: (B, h, M, d).
        bias: (1, h, N, M) or None.

    Returns:
        (B, h, N, d): ``softmax(q k^T / sqrt(d) + bias) v`` in the type of q, or of autocast where that is on. The
        softmax is float32 or wider.

    Raises:
        UserError: TRANSXNET_OPS asks for what cannot be.
    """
    q, k, v = _autocast(q), _autocast(k), _autocast(v)
    implementation = choose("biased_attention", q, keys=k.shape[2]).implementation
    if implementation == "triton":
        from transxnet.ops import library

        return library.biased_attention(q, k, v, bias)[0]
    plain = cpu if implementation == "cpu" else reference
    return plain.biased_attention(q, k, v, bias)


def _autocast(x: Tensor) -> Tensor:
    """The tensor in the type that autocast, if it is on, gives to convolutions and matrix products."""
    device = x.device.type
    if (
        device in _AUTOCASTING
        and torch.is_autocast_enabled(device)
        and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
    ):
        return x.to(torch.get_autocast_dtype(device))
    return x
