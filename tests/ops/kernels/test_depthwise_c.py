"""The C kernels against loops over pixels."""

import pytest
import torch

from tests.helpers.operator_cases import correlate
from transxnet.ops.kernels.c_library import why_unavailable
from transxnet.ops.kernels.depthwise_c import depthwise, weight_gradient

pytestmark = pytest.mark.skipif(bool(why_unavailable()), reason="needs a C compiler")


def test_convolution_and_gradients_equal_loops():
    x, g = torch.randn(2, 18, 4, 5), torch.randn(2, 18, 4, 5)
    weights, biases = [torch.randn(2, 17, 3, 3), torch.randn(2, 1, 5, 5)], [torch.randn(2, 17), torch.randn(2, 1)]
    out = depthwise(x, weights, biases, identity=True)
    dx = depthwise(g, weights, [], flip=True)
    dws, dbs = weight_gradient(x, g, weights)
    for b in range(2):
        for c in range(18):
            group, i = (0, c) if c < 17 else (1, 0)
            kernel = weights[group][b, i]
            close = dict(rtol=0, atol=1e-5)
            truth = x[b, c] + correlate(x[b, c], kernel) + biases[group][b, i]
            torch.testing.assert_close(out[b, c], truth, **close)
            torch.testing.assert_close(dx[b, c], correlate(g[b, c], kernel.flip(0, 1)), **close)
            K = kernel.shape[-1]
            padded = torch.nn.functional.pad(x[b, c], (K // 2,) * 4)
            for u in range(K):
                for v in range(K):
                    torch.testing.assert_close(
                        dws[group][b, i, u, v], (padded[u : u + 4, v : v + 5] * g[b, c]).sum(), **close
                    )
            torch.testing.assert_close(dbs[group][b, i], g[b, c].sum(), **close)
