"""The products of exported programs against the operators that they stand for, in float64."""

import pytest
import torch
import torch.nn.functional as F

from transxnet.ops import products, reference


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    ("B", "C", "H", "W", "K"), [(2, 3, 5, 4, 3), (7, 2, 1, 1, 7), (3, 2, 2, 9, 7), (1, 2, 14, 3, 5), (2, 2, 3, 3, 1)]
)
def test_a_band_matrix_convolves_each_sample_with_its_own_kernels(B, C, H, W, K, with_bias):
    x, weight = torch.randn(B, C, H, W, dtype=torch.float64), torch.randn(B, C, K, K, dtype=torch.float64)
    bias = torch.randn(B, C, dtype=torch.float64) if with_bias else None
    truth = reference.dynamic_depthwise_conv2d(x, weight, bias)
    torch.testing.assert_close(products.dynamic_depthwise_conv2d(x, weight, bias), truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(14, 14), (7, 7), (9, 23), (3, 1), (8, 56)])
def test_products_pool_as_adaptive_pooling_does(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(products.adaptive_avg_pool2d(x, 7), F.adaptive_avg_pool2d(x, 7), rtol=0, atol=1e-12)
