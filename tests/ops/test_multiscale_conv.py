"""Multi-scale depthwise convolution against loops that spell out the formula, in float64."""

import pytest
import torch

from tests.helpers.formulas import rand
from tests.helpers.operator_cases import correlate
from transxnet.ops.multiscale_conv import multiscale_depthwise_conv2d


@pytest.mark.parametrize("kernel_sizes", [(1, 3, 5, 7), (7,), (3, 3)])
@pytest.mark.parametrize(("H", "W"), [(6, 5), (1, 1), (1, 4)])
def test_multiscale_conv_convolves_each_group_and_adds_input(H, W, kernel_sizes):
    widths = [3, 2, 2, 1][: len(kernel_sizes)]
    weights = [rand(w, 1, k, k) for w, k in zip(widths, kernel_sizes, strict=True)]
    biases = [rand(w) for w in widths]
    x = rand(2, sum(widths), H, W)
    out = multiscale_depthwise_conv2d(x, weights, biases)
    kernels = [kernel[0] for weight in weights for kernel in weight]
    for b in range(2):
        for c, (kernel, bias) in enumerate(zip(kernels, torch.cat(biases), strict=True)):
            torch.testing.assert_close(out[b, c], x[b, c] + correlate(x[b, c], kernel) + bias, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grad_enabled", [True, False])
def test_identity_and_gelu_options_follow_the_formula(grad_enabled):
    x, weight, bias = rand(1, 1, 4, 3), rand(1, 1, 3, 3), rand(1)
    z = correlate(x[0, 0], weight[0, 0]) + bias
    with torch.set_grad_enabled(grad_enabled):
        out = multiscale_depthwise_conv2d(x, [weight], [bias], identity=False, gelu=True)
    truth = 0.5 * z * (1 + torch.erf(z / 2**0.5))
    torch.testing.assert_close(out[0, 0], truth, rtol=0, atol=1e-12)
