"""Attention with a position bias against loops that spell out the formula, in float64, and the CPU form."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests.helpers.formulas import rand
from tests.helpers.operator_cases import attention
from transxnet.ops.attention import biased_attention, biased_attention_composed, biased_attention_cpu


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("B", "h", "N", "M", "d"), [(2, 3, 5, 4, 2), (1, 1, 1, 1, 1), (2, 2, 7, 1, 3)])
def test_attention_is_softmax_of_scaled_products_plus_bias(B, h, N, M, d, with_bias):
    q, k, v, bias = rand(B, h, N, d), rand(B, h, M, d), rand(B, h, M, d), rand(1, h, N, M)
    out = biased_attention(q, k, v, bias if with_bias else None)
    for b in range(B):
        for head in range(h):
            for n in range(N):
                logits = [
                    sum(q[b, head, n] * k[b, head, m]) / math.sqrt(d) + (bias[0, head, n, m] if with_bias else 0)
                    for m in range(M)
                ]
                shares = torch.stack(logits).exp()
                truth = (shares[:, None] * v[b, head]).sum(0) / shares.sum()
                torch.testing.assert_close(out[b, head, n], truth, rtol=0, atol=1e-12)


def test_attention_casts_bias_to_dtype_of_queries():
    q, k, v = (rand(1, 2, 3, 4).float() for _ in range(3))
    bias = rand(1, 2, 3, 3)
    torch.testing.assert_close(biased_attention(q, k, v, bias), biased_attention(q, k, v, bias.float()), rtol=0, atol=0)


def test_cpu_attention_matches_reference_in_any_layout(assert_matches_reference):
    operator, tensors = attention(2, 3, 6, 4, 5)
    tensors = {name: t.double() for name, t in tensors.items()}
    assert_matches_reference((operator, tensors), 1e-13, function=biased_attention_cpu)
    scattered = {name: t.transpose(2, 3).contiguous().transpose(2, 3) for name, t in tensors.items()}
    assert scattered["q"].stride(-1) != 1
    assert_matches_reference((operator, scattered), 1e-13, function=biased_attention_cpu)


@pytest.mark.parametrize("with_bias", [True, False])
def test_composed_attention_matches_reference(assert_matches_reference, with_bias):
    operator, tensors = attention(2, 3, 6, 4, 5)
    tensors = {name: t.double() for name, t in tensors.items() if with_bias or name != "bias"}
    assert_matches_reference((operator, tensors), 1e-13, function=biased_attention_composed)


def test_attention_has_forward_mode_and_second_derivatives():
    tensors = [t.requires_grad_() for t in (rand(1, 2, 4, 3), rand(1, 2, 2, 3), rand(1, 2, 2, 3))]
    bias = rand(1, 2, 4, 2)
    assert gradcheck(lambda *qkv: biased_attention(*qkv, bias), tensors, check_forward_ad=True, atol=1e-6, rtol=0)
    assert gradgradcheck(lambda *qkv: biased_attention(*qkv, bias), tensors, atol=1e-6, rtol=0)


def test_attention_can_be_transformed():
    q, k, v, bias = rand(3, 2, 4, 3), rand(3, 2, 2, 3), rand(3, 2, 2, 3), rand(1, 2, 4, 2)

    def loss(*qkv):
        return biased_attention(*(t[None] for t in qkv), bias).square().sum()

    gradients = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2)))(q, k, v)
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    truth = torch.autograd.grad(biased_attention(*leaves, bias).square().sum(), leaves)
    for got, want in zip(gradients, truth, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
