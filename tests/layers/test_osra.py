"""OSRA against its formula."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.formulas import batch_norm, close, depthwise, pointwise, rand
from transxnet.layers import OSRA


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("sr_ratio", [1, 2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 5), (1, 1)])
def test_osra_attends_to_reduced_and_refined_keys(randomize, height, width, sr_ratio, with_bias):
    h, d = 2, 4
    osra, x = randomize(OSRA(h * d, h, sr_ratio)).double().eval(), rand(2, h * d, height, width)
    M = math.ceil(height / sr_ratio) * math.ceil(width / sr_ratio)
    bias = rand(1, h, height * width, M) if with_bias else None

    y = x
    if sr_ratio > 1:
        reduce, scale = osra.reduction.reduce, osra.reduction.scale
        assert reduce.conv.kernel_size == (sr_ratio + 3, sr_ratio + 3)
        y = F.gelu(batch_norm(depthwise(y, reduce.conv.weight, stride=sr_ratio), reduce.bn))
        y = batch_norm(y * scale.conv.weight[:, 0], scale.bn)
    y = y + depthwise(y, osra.refinement.dwconv.weight, osra.refinement.dwconv.bias)
    # (B, C, positions) with the channels of the heads concatenated; keys come before values
    q, kv = pointwise(x, osra.q).flatten(2), pointwise(y, osra.kv).flatten(2)
    k, v = kv[:, : h * d], kv[:, h * d :]
    truth = torch.empty_like(q)
    for head in range(h):
        c = slice(head * d, (head + 1) * d)
        logits = torch.einsum("bcn,bcm->bnm", q[:, c], k[:, c]) / math.sqrt(d)
        shares = (logits if bias is None else logits + bias[:, head]).softmax(-1)
        truth[:, c] = torch.einsum("bnm,bcm->bcn", shares, v[:, c])
    close(osra(x, bias), truth.reshape(x.shape))
