"""Input-dependent depthwise convolution against loops that spell out the formula, in float64, and the export form."""

import pytest
import torch

from tests.helpers.formulas import rand
from tests.helpers.operator_cases import correlate
from transxnet.ops.dynamic_conv import (
    dynamic_depthwise_conv2d,
    dynamic_depthwise_conv2d_export,
    dynamic_depthwise_conv2d_reference,
)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    ("B", "C", "H", "W", "K"), [(2, 3, 5, 4, 3), (1, 1, 1, 1, 7), (3, 2, 2, 7, 7), (2, 2, 3, 3, 1)]
)
def test_dynamic_conv_convolves_each_sample_with_its_kernels(B, C, H, W, K, with_bias):
    x, weight, bias = rand(B, C, H, W), rand(B, C, K, K), rand(B, C)
    out = dynamic_depthwise_conv2d(x, weight, bias if with_bias else None)
    for b in range(B):
        for c in range(C):
            truth = correlate(x[b, c], weight[b, c]) + (bias[b, c] if with_bias else 0)
            torch.testing.assert_close(out[b, c], truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    ("B", "C", "H", "W", "K"), [(2, 3, 5, 4, 3), (7, 2, 1, 1, 7), (3, 2, 2, 9, 7), (1, 2, 14, 3, 5), (2, 2, 3, 3, 1)]
)
def test_export_form_matches_reference(B, C, H, W, K, with_bias):
    x, weight, bias = rand(B, C, H, W), rand(B, C, K, K), rand(B, C) if with_bias else None
    truth = dynamic_depthwise_conv2d_reference(x, weight, bias)
    torch.testing.assert_close(dynamic_depthwise_conv2d_export(x, weight, bias), truth, rtol=0, atol=1e-12)
