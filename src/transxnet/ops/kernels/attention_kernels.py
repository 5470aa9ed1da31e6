"""Attention with few keys and a bias shared by the batch: forward and gradients.

    S = q k^T / sqrt(d) + bias,  P = softmax(S),  out = P v
    dP = g v^T,  dS = P (dP - sum(g out)),  dq = dS k / sqrt(d),  dk = dS^T q / sqrt(d),  dv = P^T g,  dbias = sum_B dS

Scores and sums are float32. The (N, M) scores are never stored: the forward pass keeps each row's log-sum-exp L, from
which the backward pass recomputes P = exp(S - L). If one block holds all keys, a program keeps its tile of the bias in
registers for several samples, since loading the bias for each would cost more than everything else.

Notation: B batch, h heads, N queries, M keys, d channels per head, padded to D.
"""

from math import sqrt

import torch
import triton
import triton.language as tl
from torch import Tensor

from transxnet.ops.kernels.launch import TARGET_PROGRAMS, on_device


@triton.jit
def _tile(ptr, rows, row_stride, columns, column_stride, num_rows, num_columns):
    """A (rows, columns) tile of a matrix, zero outside."""
    inside = (rows < num_rows)[:, None] & (columns < num_columns)[None, :]
    return tl.load(ptr + rows[:, None] * row_stride + columns[None, :] * column_stride, mask=inside, other=0.0)


@triton.jit
def _scores(q, k, bias, m, M, SCALE: tl.constexpr):
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * SCALE + bias
    return tl.where((m < M)[None, :], scores, float("-inf"))


@triton.jit
def _forward(
    q_ptr, k_ptr, v_ptr, bias_ptr, out_ptr, lse_ptr,
    B, heads, N, M,
    q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, v_b, v_h, v_m, v_d,
    bias_h, bias_n, bias_m, out_b, out_h, out_n, out_d,
    SAMPLES,
    d: tl.constexpr, D: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr, ONE_BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    head = tl.program_id(1).to(tl.int64)
    dims = tl.arange(0, D)
    first = tl.program_id(2).to(tl.int64) * SAMPLES  # int64, also for the samples below: offsets may exceed 2^31
    m = tl.arange(0, BLOCK_M)
    bias = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    if BIAS:
        bias_ptr += head * bias_h
    if BIAS and ONE_BLOCK:
        bias = _tile(bias_ptr, n, bias_n, m, bias_m, N, M).to(tl.float32)
    for b in range(first, min(first + SAMPLES, B)):
        q = _tile(q_ptr + b * q_b + head * q_h, n, q_n, dims, q_d, N, d)
        high = tl.full([BLOCK_N], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_N], tl.float32)
        out = tl.zeros([BLOCK_N, D], tl.float32)
        for start in range(0, M, BLOCK_M):
            here = start + m
            k = _tile(k_ptr + b * k_b + head * k_h, here, k_m, dims, k_d, M, d)
            v = _tile(v_ptr + b * v_b + head * v_h, here, v_m, dims, v_d, M, d)
            if BIAS and not ONE_BLOCK:
                bias = _tile(bias_ptr, n.to(tl.int64), bias_n, here, bias_m, N, M).to(tl.float32)
            scores = _scores(q, k, bias, here, M, SCALE)
            higher = tl.maximum(high, tl.max(scores, axis=1))
            shares = tl.exp(scores - higher[:, None])
            rescale = tl.exp(high - higher)
            total = total * rescale + tl.sum(shares, axis=1)
            out = out * rescale[:, None] + tl.dot(shares.to(v.dtype), v, input_precision="ieee")
            high = higher
        out = (out / total[:, None]).to(out_ptr.dtype.element_ty)
        inside = (n < N)[:, None] & (dims < d)[None, :]
        at = out_ptr + b * out_b + head * out_h + n[:, None] * out_n + dims[None, :] * out_d
        tl.store(at, out, mask=inside)
        tl.store(lse_ptr + (b * heads + head) * N + n, high + tl.log(total), mask=n < N)


@triton.jit
def _score_gradient(q, k, v, g, bias, lse, delta, m, M, SCALE: tl.constexpr):
    """P and dS of one block, float32."""
    shares = tl.exp(_scores(q, k, bias, m, M, SCALE) - lse[:, None])
    return shares, shares * (tl.dot(g, tl.trans(v), input_precision="ieee") - delta[:, None])


@triton.jit
def _query_gradient(
    q_ptr, k_ptr, v_ptr, bias_ptr, out_ptr, lse_ptr, g_ptr, dq_ptr, delta_ptr,
    B, heads, N, M,
    q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, v_b, v_h, v_m, v_d,
    bias_h, bias_n, bias_m, out_b, out_h, out_n, out_d, g_b, g_h, g_n, g_d,
    SAMPLES,
    d: tl.constexpr, D: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr, ONE_BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """dq, laid out as out, and delta = sum_d(g out), (B, h, N)."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    head = tl.program_id(1).to(tl.int64)
    dims = tl.arange(0, D)
    first = tl.program_id(2).to(tl.int64) * SAMPLES  # int64, also for the samples below: offsets may exceed 2^31
    m = tl.arange(0, BLOCK_M)
    bias = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    if BIAS:
        bias_ptr += head * bias_h
    if BIAS and ONE_BLOCK:
        bias = _tile(bias_ptr, n, bias_n, m, bias_m, N, M).to(tl.float32)
    for b in range(first, min(first + SAMPLES, B)):
        q = _tile(q_ptr + b * q_b + head * q_h, n, q_n, dims, q_d, N, d)
        g = _tile(g_ptr + b * g_b + head * g_h, n, g_n, dims, g_d, N, d)
        out = _tile(out_ptr + b * out_b + head * out_h, n, out_n, dims, out_d, N, d)
        row = (b * heads + head) * N + n
        lse = tl.load(lse_ptr + row, mask=n < N, other=0.0)
        delta = tl.sum(g.to(tl.float32) * out.to(tl.float32), axis=1)
        tl.store(delta_ptr + row, delta, mask=n < N)
        dq = tl.zeros([BLOCK_N, D], tl.float32)
        for start in range(0, M, BLOCK_M):
            here = start + m
            k = _tile(k_ptr + b * k_b + head * k_h, here, k_m, dims, k_d, M, d)
            v = _tile(v_ptr + b * v_b + head * v_h, here, v_m, dims, v_d, M, d)
            if BIAS and not ONE_BLOCK:
                bias = _tile(bias_ptr, n.to(tl.int64), bias_n, here, bias_m, N, M).to(tl.float32)
            _, ds = _score_gradient(q, k, v, g, bias, lse, delta, here, M, SCALE)
            dq += tl.dot(ds.to(k.dtype), k, input_precision="ieee")
        inside = (n < N)[:, None] & (dims < d)[None, :]
        at = dq_ptr + b * out_b + head * out_h + n[:, None] * out_n + dims[None, :] * out_d
        tl.store(at, (dq * SCALE).to(dq_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _key_gradient(
    q_ptr, k_ptr, v_ptr, bias_ptr, lse_ptr, g_ptr, delta_ptr, dk_ptr, dv_ptr,
    B, heads, N, M, part_n,
    q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, v_b, v_h, v_m, v_d,
    bias_h, bias_n, bias_m, g_b, g_h, g_n, g_d,
    d: tl.constexpr, D: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Part p of dk and dv, (parts, B, h, M, d) float32 contiguous, from the queries p part_n to (p + 1) part_n."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    wide = tl.program_id(1).to(tl.int64)
    b = wide // heads
    head = wide % heads
    part = tl.program_id(2)
    dims = tl.arange(0, D)
    bias = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    k = _tile(k_ptr + b * k_b + head * k_h, m, k_m, dims, k_d, M, d)
    v = _tile(v_ptr + b * v_b + head * v_h, m, v_m, dims, v_d, M, d)
    dk = tl.zeros([BLOCK_M, D], tl.float32)
    dv = tl.zeros([BLOCK_M, D], tl.float32)
    for start in range(part * part_n, min((part + 1) * part_n, N), BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        q = _tile(q_ptr + b * q_b + head * q_h, n, q_n, dims, q_d, N, d)
        g = _tile(g_ptr + b * g_b + head * g_h, n, g_n, dims, g_d, N, d)
        lse = tl.load(lse_ptr + wide * N + n, mask=n < N, other=0.0)
        delta = tl.load(delta_ptr + wide * N + n, mask=n < N, other=0.0)
        if BIAS:
            bias = _tile(bias_ptr + head * bias_h, n.to(tl.int64), bias_n, m, bias_m, N, M).to(tl.float32)
        shares, ds = _score_gradient(q, k, v, g, bias, lse, delta, m, M, SCALE)
        # Rows beyond N have zero q and g, so their dS is zero, and their P is multiplied by a zero g.
        dv += tl.dot(tl.trans(shares.to(g.dtype)), g, input_precision="ieee")
        dk += tl.dot(tl.trans(ds.to(q.dtype)), q, input_precision="ieee")
    inside = (m < M)[:, None] & (dims < d)[None, :]
    at = ((part * B * heads + wide) * M + m[:, None]) * d + dims[None, :]
    tl.store(dk_ptr + at, dk * SCALE, mask=inside)
    tl.store(dv_ptr + at, dv, mask=inside)


@triton.jit
def _bias_gradient(
    q_ptr, k_ptr, v_ptr, bias_ptr, lse_ptr, g_ptr, delta_ptr, dbias_ptr,
    B, heads, N, M, part_b, key_blocks,
    q_b, q_h, q_n, q_d, k_b, k_h, k_m, k_d, v_b, v_h, v_m, v_d,
    bias_h, bias_n, bias_m, g_b, g_h, g_n, g_d,
    d: tl.constexpr, D: tl.constexpr, SCALE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Part p of dbias, (parts, h, N, M) float32 contiguous, from the samples p part_b to (p + 1) part_b."""
    n = (tl.program_id(0) // key_blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = (tl.program_id(0) % key_blocks) * BLOCK_M + tl.arange(0, BLOCK_M)
    head = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2).to(tl.int64)
    dims = tl.arange(0, D)
    bias = _tile(bias_ptr + head * bias_h, n.to(tl.int64), bias_n, m, bias_m, N, M).to(tl.float32)
    dbias = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    for b in range(part * part_b, min((part + 1) * part_b, B)):
        q = _tile(q_ptr + b * q_b + head * q_h, n, q_n, dims, q_d, N, d)
        g = _tile(g_ptr + b * g_b + head * g_h, n, g_n, dims, g_d, N, d)
        k = _tile(k_ptr + b * k_b + head * k_h, m, k_m, dims, k_d, M, d)
        v = _tile(v_ptr + b * v_b + head * v_h, m, v_m, dims, v_d, M, d)
        row = (b * heads + head) * N + n
        lse = tl.load(lse_ptr + row, mask=n < N, other=0.0)
        delta = tl.load(delta_ptr + row, mask=n < N, other=0.0)
        _, ds = _score_gradient(q, k, v, g, bias, lse, delta, m, M, SCALE)
        dbias += ds
    inside = (n < N)[:, None] & (m < M)[None, :]
    at = ((part * heads + head) * N + n[:, None]) * M + m[None, :]
    tl.store(dbias_ptr + at, dbias, mask=inside)


def _blocks(M: int) -> tuple[int, int, int]:
    """BLOCK_N, BLOCK_M and warps."""
    return 64, 64 if M > 32 else max(16, triton.next_power_of_2(M)), 4


def _samples_a_program(B: int, programs: int) -> int:
    """Number of samples per program: as many as keep the GPU filled."""
    return max(1, min(B, B * programs // TARGET_PROGRAMS))


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Forward pass. Shapes: q (B, h, N, d), k and v (B, h, M, d), bias (1, h, N, M) or None, any strides.

    Returns:
        The output (B, h, N, d), in memory as (B, N, h, d), which is channels_last of a feature map; and the log-sum-exp
        of each row's scores (B, h, N), float32.
    """
    B, h, N, d = q.shape
    M = k.shape[2]
    out = torch.empty((B, N, h, d), dtype=q.dtype, device=q.device).transpose(1, 2)
    lse = torch.empty((B, h, N), dtype=torch.float32, device=q.device)
    if q.numel() == 0:
        return out, lse
    block_n, block_m, warps = _blocks(M)
    one_block = block_m >= M
    programs = triton.cdiv(N, block_n) * h
    samples = _samples_a_program(B, programs) if one_block and bias is not None else 1
    with on_device(q):
        _forward[(triton.cdiv(N, block_n), h, triton.cdiv(B, samples))](
            q, k, v, bias, out, lse,
            B, h, N, M,
            *q.stride(), *k.stride(), *v.stride(), *_bias_strides(bias), *out.stride(),
            samples,
            d=d, D=_padded(d), SCALE=1 / sqrt(d), BIAS=bias is not None, ONE_BLOCK=one_block,
            BLOCK_N=block_n, BLOCK_M=block_m, num_warps=warps,
        )  # fmt: skip
    return out, lse


def attention_gradients(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, want_bias: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The gradients of q, k, v and, if needed, of bias, from the output's gradient g; shapes as in :func:`attention`.

    The order of summation depends on the shapes alone, so results are reproducible to the last bit.
    """
    B, h, N, d = q.shape
    M = k.shape[2]
    if q.numel() == 0:
        none = torch.zeros_like
        return none(q), none(k), none(v), none(bias) if bias is not None and want_bias else None
    block_n, block_m, warps = _blocks(M)
    sizes = dict(d=d, D=_padded(d), SCALE=1 / sqrt(d), BLOCK_N=block_n, BLOCK_M=block_m, num_warps=warps)
    has_bias = bias is not None
    one_block = block_m >= M
    query_blocks, key_blocks = triton.cdiv(N, block_n), triton.cdiv(M, block_m)
    dq = torch.empty_strided(out.shape, out.stride(), dtype=q.dtype, device=q.device)
    delta = torch.empty_like(lse)
    strides = *q.stride(), *k.stride(), *v.stride(), *_bias_strides(bias)
    with on_device(q):
        samples = _samples_a_program(B, query_blocks * h) if one_block and has_bias else 1
        _query_gradient[(query_blocks, h, triton.cdiv(B, samples))](
            q, k, v, bias, out, lse, g, dq, delta, B, h, N, M, *strides, *out.stride(), *g.stride(), samples,
            BIAS=has_bias, ONE_BLOCK=one_block, **sizes,
        )  # fmt: skip

        parts = min(query_blocks, triton.cdiv(TARGET_PROGRAMS, key_blocks * B * h))
        part_n = triton.cdiv(query_blocks, parts) * block_n
        parts = triton.cdiv(N, part_n)
        dk, dv = (torch.empty((parts, B, h, M, d), dtype=torch.float32, device=q.device) for _ in range(2))
        _key_gradient[(key_blocks, B * h, parts)](
            q, k, v, bias, lse, g, delta, dk, dv, B, h, N, M, part_n, *strides, *g.stride(), BIAS=has_bias, **sizes
        )

        dbias = None
        if bias is not None and want_bias:
            parts = min(B, triton.cdiv(TARGET_PROGRAMS, query_blocks * key_blocks * h))
            part_b = triton.cdiv(B, parts)
            parts = triton.cdiv(B, part_b)
            dbias = torch.empty((parts, h, N, M), dtype=torch.float32, device=q.device)
            _bias_gradient[(query_blocks * key_blocks, h, parts)](
                q, k, v, bias, lse, g, delta, dbias, B, h, N, M, part_b, key_blocks, *strides, *g.stride(), **sizes
            )
            dbias = dbias.sum(0, keepdim=True).to(bias.dtype)
    return dq, dk.sum(0).to(k.dtype), dv.sum(0).to(v.dtype), dbias


def _padded(d: int) -> int:
    return max(16, triton.next_power_of_2(d))


def _bias_strides(bias: Tensor | None) -> tuple[int, ...]:
    return (0, 0, 0) if bias is None else bias.stride()[1:]
