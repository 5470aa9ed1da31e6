"""Depthwise convolution, stride 1, with kernels shared by the batch or one per sample: forward and gradients.

A program computes ROWS x BLOCK_W positions of BLOCK_C channels of one sample and keeps their sums in registers. It
loads each row of the input once for each horizontal tap and uses it for all vertical taps, so an output costs
K (ROWS + K - 1) / ROWS loads instead of K^2. Sums are float32 regardless of the input and output dtypes.

Weights are (G, C, K, K): G = 1 for kernels shared by the batch, G = B for one per sample.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from transxnet.ops.kernels.launch import TARGET_PROGRAMS, empty_output, is_channels_last, on_device


@dataclass(frozen=True)
class DepthwiseTile:
    """The tile of a program: rows, columns and channels, and the number of warps."""

    rows: int
    width: int
    channels: int
    warps: int


@triton.jit
def _gelu(x):
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def _forward(
    x_ptr, w_ptr, b_ptr, out_ptr,
    C, H, W,
    x_b, x_c, x_h, x_w,
    out_b, out_c, out_h, out_w,
    w_g, w_c, w_h, w_w,
    b_g, b_c,
    K: tl.constexpr, FLIP: tl.constexpr, BIAS: tl.constexpr, IDENTITY: tl.constexpr, GELU: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    HALF: tl.constexpr = K // 2
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    strips = tl.cdiv(W, BLOCK_W)
    blocks = strips * tl.cdiv(H, ROWS)
    b = (tl.program_id(0) // blocks).to(tl.int64)
    block = tl.program_id(0) % blocks
    w = (block % strips) * BLOCK_W + tl.arange(0, BLOCK_W)
    top = (block // strips) * ROWS + tl.zeros([1, 1], tl.int32)  # a tensor, as the interpreter requires
    has_c = c < C

    x_ptrs = x_ptr + b * x_b + c[None, :] * x_c
    w_ptrs = w_ptr + b * w_g + c * w_c
    sums = (tl.zeros([BLOCK_W, BLOCK_C], tl.float32),) * ROWS
    for kw in tl.static_range(K):
        column = w + (kw - HALF)
        inside = ((column >= 0) & (column < W))[:, None] & has_c[None, :]
        taps = ()
        for kh in tl.static_range(K):
            at = (K - 1 - kh) * w_h + (K - 1 - kw) * w_w if FLIP else kh * w_h + kw * w_w
            taps = taps + (tl.load(w_ptrs + at, mask=has_c, other=0.0).to(tl.float32)[None, :],)
        for i in tl.static_range(ROWS + K - 1):
            row = top + (i - HALF)
            here = inside & (row >= 0) & (row < H)
            value = tl.load(x_ptrs + row * x_h + column[:, None] * x_w, mask=here, other=0.0).to(tl.float32)
            for r in tl.static_range(ROWS):
                if i - r >= 0 and i - r < K:
                    sums = sums[:r] + (sums[r] + value * taps[i - r],) + sums[r + 1 :]
                if IDENTITY and kw == HALF and i - r == HALF:
                    sums = sums[:r] + (sums[r] + value,) + sums[r + 1 :]

    out_ptrs = out_ptr + b * out_b + c[None, :] * out_c + w[:, None] * out_w
    inside = (w < W)[:, None] & has_c[None, :]
    if BIAS:
        bias = tl.load(b_ptr + b * b_g + c * b_c, mask=has_c, other=0.0).to(tl.float32)[None, :]
    for r in tl.static_range(ROWS):
        out = sums[r]
        if BIAS:
            out += bias
        if GELU:
            out = _gelu(out)
        tl.store(out_ptrs + (top + r) * out_h, out.to(out_ptr.dtype.element_ty), mask=inside & (top + r < H))


@triton.jit
def _weight_gradient(
    x_ptr, g_ptr, dw_ptr, db_ptr,
    C, H, W, last_b, step_b, part_steps,
    x_b, x_c, x_h, x_w,
    g_b, g_c, g_h, g_w,
    K: tl.constexpr, ROWS: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Partial sum p over the samples n, n + step_b, ... of x (shifted by each tap) times g.

    dw_ptr (parts, N, K * K, C) and db_ptr (parts, N, C), float32, contiguous; N programs along n.
    """
    HALF: tl.constexpr = K // 2
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    n = tl.program_id(1).to(tl.int64)  # int64, also for the samples below: offsets may exceed 2^31
    part = tl.program_id(2)
    strips = tl.cdiv(W, BLOCK_W)
    blocks = strips * tl.cdiv(H, ROWS)
    has_c = c < C
    zero = tl.zeros([BLOCK_W, BLOCK_C], tl.float32)
    dw = (zero,) * (K * K)
    db = zero
    for b in range(n, last_b, step_b):
        x_ptrs = x_ptr + b * x_b + c[None, :] * x_c
        g_ptrs = g_ptr + b * g_b + c[None, :] * g_c
        for block in range(part * part_steps, min((part + 1) * part_steps, blocks)):
            w = (block % strips) * BLOCK_W + tl.arange(0, BLOCK_W)
            top = (block // strips) * ROWS + tl.zeros([1, 1], tl.int32)
            inside = (w < W)[:, None] & has_c[None, :]
            grads = ()
            for r in tl.static_range(ROWS):
                here = inside & (top + r < H)
                value = tl.load(g_ptrs + (top + r) * g_h + w[:, None] * g_w, mask=here, other=0.0).to(tl.float32)
                grads = grads + (value,)
                db += value
            for kw in tl.static_range(K):
                column = w + (kw - HALF)
                inside = ((column >= 0) & (column < W))[:, None] & has_c[None, :]
                for i in tl.static_range(ROWS + K - 1):
                    row = top + (i - HALF)
                    here = inside & (row >= 0) & (row < H)
                    value = tl.load(x_ptrs + row * x_h + column[:, None] * x_w, mask=here, other=0.0).to(tl.float32)
                    for kh in tl.static_range(K):
                        if i - kh >= 0 and i - kh < ROWS:
                            more = value * grads[i - kh]
                            dw = dw[: kh * K + kw] + (dw[kh * K + kw] + more,) + dw[kh * K + kw + 1 :]
    row_of = (part.to(tl.int64) * tl.num_programs(1) + n) * C
    for tap in tl.static_range(K * K):
        tl.store(dw_ptr + row_of * (K * K) + tap * C + c, tl.sum(dw[tap], axis=0), mask=has_c)
    tl.store(db_ptr + row_of + c, tl.sum(db, axis=0), mask=has_c)


def default_tile(x: Tensor, K: int) -> DepthwiseTile:
    """A tile with few instructions per output and no register spills for compute capability 9.0; not yet timed."""
    if not is_channels_last(x):
        return DepthwiseTile(rows=4, width=min(64, triton.next_power_of_2(x.shape[3])), channels=4, warps=4)
    return DepthwiseTile(rows=7, width=8, channels=32, warps=4 if K > 3 else 2)


def depthwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    identity: bool = False,
    gelu: bool = False,
    flip: bool = False,
    out: Tensor | None = None,
    tile: DepthwiseTile | None = None,
) -> Tensor:
    """``act(conv2d(x, weight) + bias + x)``, depthwise, stride 1, zero padding K // 2.

    Args:
        x: (B, C, H, W), any strides.
        weight: (G, C, K, K), G = 1 or B, K odd.
        bias: (G, C) or None.
        identity: add x.
        gelu: apply GELU last.
        flip: rotate the kernels by 180 degrees, which computes the gradient of x from that of the output.
        out: output tensor, (B, C, H, W), any strides; by default new memory in the layout of x.
        tile: tile of a program; by default :func:`default_tile`.

    Returns:
        (B, C, H, W) in the dtype of x.
    """
    B, C, H, W = x.shape
    K = weight.shape[-1]
    if out is None:
        out = empty_output(x)
    if x.numel() == 0:
        return out
    if is_channels_last(x) and weight.stride(1) != 1:  # taps of adjacent channels must be adjacent in memory
        weight = weight.movedim(1, -1).contiguous().movedim(-1, 1)
    tile = tile or default_tile(x, K)
    shared = weight.shape[0] == 1
    grid = (B * triton.cdiv(W, tile.width) * triton.cdiv(H, tile.rows), triton.cdiv(C, tile.channels))
    with on_device(x):
        _forward[grid](
            x, weight, bias, out,
            C, H, W,
            *x.stride(), *out.stride(),
            0 if shared else weight.stride(0), *weight.stride()[1:],
            *((0, 0) if bias is None else (0 if shared else bias.stride(0), bias.stride(1))),
            K=K, FLIP=flip, BIAS=bias is not None, IDENTITY=identity, GELU=gelu,
            ROWS=tile.rows, BLOCK_W=tile.width, BLOCK_C=tile.channels,
            num_warps=tile.warps,
        )  # fmt: skip
    return out


def depthwise_weight_gradient(
    x: Tensor, g: Tensor, K: int, per_sample: bool, *, tile: DepthwiseTile | None = None
) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias, from the input x and the output's gradient g, both (B, C, H, W).

    The order of summation depends on the shapes alone, so results are reproducible to the last bit.

    Returns:
        (G, C, K, K) and (G, C), float32, with G = B if per_sample else 1.
    """
    B, C, H, W = x.shape
    if x.numel() == 0:
        groups = B if per_sample else 1
        return x.new_zeros((groups, C, K, K), dtype=torch.float32), x.new_zeros((groups, C), dtype=torch.float32)
    tile = tile or default_tile(x, K)
    blocks = triton.cdiv(W, tile.width) * triton.cdiv(H, tile.rows)
    columns = triton.cdiv(C, tile.channels)
    samples = B if per_sample else min(B, triton.cdiv(TARGET_PROGRAMS, columns))
    parts = min(blocks, triton.cdiv(TARGET_PROGRAMS, columns * samples))
    part_steps = triton.cdiv(blocks, parts)
    parts = triton.cdiv(blocks, part_steps)
    dw = torch.empty((parts, samples, K * K, C), dtype=torch.float32, device=x.device)
    db = torch.empty((parts, samples, C), dtype=torch.float32, device=x.device)
    with on_device(x):
        _weight_gradient[(columns, samples, parts)](
            x, g, dw, db,
            C, H, W, B, samples, part_steps,
            *x.stride(), *g.stride(),
            K=K, ROWS=tile.rows, BLOCK_W=tile.width, BLOCK_C=tile.channels,
            num_warps=tile.warps,
        )  # fmt: skip
    if per_sample:
        dw, db = dw.sum(0), db.sum(0)
    else:
        dw, db = dw.sum((0, 1)).unsqueeze(0), db.sum((0, 1)).unsqueeze(0)
    return dw.unflatten(1, (K, K)).movedim(-1, 1), db
