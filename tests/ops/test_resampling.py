"""Pooling and resizing as matrix products against PyTorch's operators, outputs and gradients, in float64."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.formulas import rand
from transxnet.ops.resampling import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_deterministic,
    adaptive_avg_pool2d_export,
    averaging_matrix,
    resize_bicubic,
    resize_bicubic_deterministic,
)


@pytest.mark.parametrize("size", [(14, 14), (7, 7), (9, 23), (3, 1), (8, 56)])
def test_exported_pooling_matches_adaptive_pooling(size):
    x = rand(2, 3, *size)
    matrices = [averaging_matrix(7, length, x.dtype, x.device) for length in size]
    truth = F.adaptive_avg_pool2d(x, 7)
    torch.testing.assert_close(adaptive_avg_pool2d_export(x, 7), truth, rtol=0, atol=1e-12)
    torch.testing.assert_close(matrices[0] @ x @ matrices[1].T, truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(7, 7), (3, 5), (14, 9), (56, 56), (1, 1)])
def test_deterministic_pooling_matches_adaptive_pooling(size):
    x = rand(2, 3, *size).requires_grad_()
    weight = rand(2, 3, 7, 7)
    truth, out = F.adaptive_avg_pool2d(x, 7), adaptive_avg_pool2d_deterministic(x, 7)
    torch.testing.assert_close(out, truth, atol=1e-12, rtol=0)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (truth, out)]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [(16, 4), (25, 9), (5, 2), (9, 4)])
def test_deterministic_resizing_matches_bicubic_resizing(size):
    x = rand(1, 2, 9, 4).requires_grad_()
    weight = rand(1, 2, *size)
    truth = F.interpolate(x, size=size, mode="bicubic", align_corners=False)
    out = resize_bicubic_deterministic(x, size)
    torch.testing.assert_close(out, truth, atol=1e-12, rtol=0)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (truth, out)]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-12, rtol=0)


def test_public_functions_equal_those_of_pytorch():
    x = rand(2, 3, 9, 5)
    assert torch.equal(adaptive_avg_pool2d(x, 7), F.adaptive_avg_pool2d(x, 7))
    resized = F.interpolate(x, size=(4, 11), mode="bicubic", align_corners=False)
    assert torch.equal(resize_bicubic(x, (4, 11)), resized)


@pytest.mark.parametrize("size", [(14, 7), (9, 23)])
def test_exported_program_has_no_adaptive_pooling(size):
    class Pool(torch.nn.Module):
        def forward(self, x):
            return adaptive_avg_pool2d(x, 7)

    x = rand(2, 3, *size)
    exported = torch.export.export(Pool(), (x,))
    assert not any("adaptive" in str(node.target) for node in exported.graph.nodes)
    torch.testing.assert_close(exported.module()(x), F.adaptive_avg_pool2d(x, 7), rtol=0, atol=1e-12)
