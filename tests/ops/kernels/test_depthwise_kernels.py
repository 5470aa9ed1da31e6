"""The Triton kernels of depthwise convolutions against the reference in float64."""

import pytest
import torch
from torch import nn

from tests.helpers.operator_cases import call, dynamic, multiscale, on_device

pytest.importorskip("triton", reason="the kernels need the package triton")

from transxnet import ops
from transxnet.ops.kernels import depthwise_kernels

# Rounding the output alone costs 2^-9 in bfloat16 and 2^-12 in float16.
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}


@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "case",
    [
        lambda: dynamic(2, 3, 4, 3, K=7),
        lambda: dynamic(1, 1, 1, 1, K=3),
        lambda: dynamic(1, 33, 8, 9, K=3, bias=False),
        pytest.param(lambda: multiscale(2, 5, 9, (3, 1), (2, 3), (2, 5), (1, 7)), marks=pytest.mark.long),
        lambda: multiscale(3, 1, 2, (5, 3)),
    ],
    ids=["odd", "one value", "beyond a tile", "four scales", "one scale"],
)
def test_depthwise_kernels_match_reference(case, channels_last, assert_matches_reference):
    assert_matches_reference(on_device(case(), channels_last=channels_last), BOUNDS[torch.float32])


@pytest.mark.parametrize("dtype", list(BOUNDS), ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("case", [lambda: dynamic(2, 3, 4, 5, K=3), lambda: multiscale(2, 4, 5, (3, 1), (2, 5))])
def test_weights_and_sums_stay_float32_in_every_dtype(case, dtype, assert_matches_reference):
    assert_matches_reference(
        on_device(case(), dtype, channels_last=True), BOUNDS[dtype], weight_bound=BOUNDS[torch.float32]
    )


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(lambda: dynamic(3, 2, 8, 2, K=3), id="dynamic"),
        pytest.param(lambda: multiscale(3, 8, 2, (2, 3), (1, 1)), id="multiscale", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("programs", [pytest.param(1, marks=pytest.mark.long), 1024])
def test_split_sums_are_correct_and_repeat_bit_by_bit(case, programs, monkeypatch, assert_matches_reference):
    monkeypatch.setattr(depthwise_kernels, "TARGET_PROGRAMS", programs)
    operator, tensors = on_device(case())
    assert_matches_reference((operator, tensors), BOUNDS[torch.float32])
    leaves = [t.requires_grad_() for t in tensors.values()]

    def gradients():
        return torch.autograd.grad(call(getattr(ops, operator), tensors).square().sum(), leaves)

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))


def test_fused_gelu_matches_gelu_of_output():
    _, tensors = on_device(multiscale(2, 4, 5, (3, 1), (2, 3)))
    groups = [tensors["weight0"], tensors["weight1"]], [tensors["bias0"], tensors["bias1"]]
    plain = nn.functional.gelu(ops.multiscale_depthwise_conv2d(tensors["x"], *groups))
    torch.testing.assert_close(
        ops.multiscale_depthwise_conv2d(tensors["x"], *groups, gelu=True), plain, rtol=0, atol=2e-6
    )
    with torch.no_grad():
        fused = ops.multiscale_depthwise_conv2d(tensors["x"], *groups, gelu=True)
    torch.testing.assert_close(fused, plain, rtol=0, atol=2e-6)
