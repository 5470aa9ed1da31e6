"""The C kernels of batch normalization against their definition, written out."""

import pytest
import torch

from transxnet.ops.kernels.batch_norm_c import backward, normalize, statistics
from transxnet.ops.kernels.c_library import why_unavailable

pytestmark = pytest.mark.skipif(bool(why_unavailable()), reason="needs a C compiler")


def test_statistics_output_and_gradients_equal_their_definition():
    x, g = (torch.randn(3, 17, 4, 5).contiguous(memory_format=torch.channels_last) for _ in range(2))
    weight, bias, eps = torch.randn(17), torch.randn(17), 0.01
    mean, variance = statistics(x, gelu=False)
    out = normalize(x, mean, variance, weight, bias, eps=eps, gelu=False)
    dx, dweight, dbias = backward(g, x, mean, variance, weight, eps=eps, gelu=False)
    for c in range(17):
        values, gradients = x[:, c].double(), g[:, c].double()
        n, center = values.numel(), values - values.mean()
        spread = (center.square().sum() / n + eps).sqrt()
        normal = center / spread
        close = dict(rtol=0, atol=2e-5)
        torch.testing.assert_close(mean[c].double(), values.mean(), **close)
        torch.testing.assert_close(variance[c].double(), center.square().sum() / n, **close)
        torch.testing.assert_close(out[:, c].double(), normal * weight[c].double() + bias[c].double(), **close)
        torch.testing.assert_close(dbias[c].double(), gradients.sum(), **close)
        torch.testing.assert_close(dweight[c].double(), (gradients * normal).sum(), **close)
        true = weight[c].double() / spread * (gradients - gradients.mean() - normal * (gradients * normal).mean())
        torch.testing.assert_close(dx[:, c].double(), true, **close)
