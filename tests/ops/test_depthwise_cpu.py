"""The C kernel's operators against the references in float64: values, gradients, second derivatives, compilation."""

import pytest
import torch
from torch import Tensor

from tests.helpers.c_operators import assert_independent_of_threads, compiled_operators
from tests.helpers.operator_cases import call, dynamic, multiscale, on_device
from transxnet import ops
from transxnet.ops.depthwise_cpu import depthwise_c
from transxnet.ops.kernels import depthwise_c as kernel
from transxnet.ops.kernels.c_library import why_unavailable
from transxnet.ops.multiscale_conv import multiscale_depthwise_conv2d_reference

pytestmark = pytest.mark.skipif(bool(why_unavailable()), reason="needs a C compiler")

BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 4e-3}
"""Rounding the output alone costs 2^-9 in bfloat16."""

CASES = {
    "dynamic": lambda: dynamic(5, 19, 6, 5, K=7),
    "one value": lambda: dynamic(1, 1, 1, 1, K=3, bias=False),
    "many channels": lambda: dynamic(2, 33, 8, 9, K=3),
    "large kernel": lambda: dynamic(2, 3, 5, 4, K=11, bias=False),
    "four scales": lambda: multiscale(3, 9, 17, (18, 1), (16, 3), (5, 5), (7, 7)),
    "one scale": lambda: multiscale(2, 1, 20, (17, 9)),
}


@pytest.fixture(autouse=True)
def _c(monkeypatch):
    monkeypatch.setenv("TRANSXNET_OPS", "c")


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_and_gradients_match_reference(case, channels_last, dtype, assert_matches_reference):
    case = on_device(case(), dtype, channels_last)
    assert_matches_reference(case, BOUNDS[dtype], weight_bound=BOUNDS[torch.float32])


@pytest.mark.parametrize("channels_last", [False, True])
def test_slices_of_channels_are_read_in_place(channels_last):
    x = torch.randn(2, 40, 7, 6)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    weights, biases = [torch.randn(23, 1, 5, 5)], [torch.randn(23)]
    part = x[:, 11:34, 1:, ::2]
    truth = multiscale_depthwise_conv2d_reference(part.double(), [weights[0].double()], [biases[0].double()])
    torch.testing.assert_close(
        ops.multiscale_depthwise_conv2d(part, weights, biases).double(), truth, rtol=0, atol=1e-5
    )


def second_derivatives(tensors: dict[str, Tensor]) -> list[Tensor]:
    leaves = {name: t.detach().requires_grad_() for name, t in tensors.items()}
    function = ops.multiscale_depthwise_conv2d if "weight0" in leaves else ops.dynamic_depthwise_conv2d
    loss = call(function, leaves).pow(3).mean()
    first = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
    return list(torch.autograd.grad(sum(g.square().sum() for g in first), list(leaves.values())))


@pytest.mark.parametrize(
    "case",
    [lambda: dynamic(3, 4, 5, 4, K=3), lambda: multiscale(2, 4, 5, (3, 1), (2, 5))],
    ids=["dynamic", "multiscale"],
)
def test_second_derivatives_match_reference(case, monkeypatch):
    _, tensors = case()
    got = second_derivatives(tensors)
    monkeypatch.setenv("TRANSXNET_OPS", "reference")
    for value, truth in zip(got, second_derivatives(tensors), strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-4, atol=1e-5 * truth.abs().max().item())


def test_operators_pass_opcheck():
    x = torch.randn(2, 5, 4, 3).requires_grad_()
    weights = [torch.randn(1, 2, 3, 3).requires_grad_(), torch.randn(1, 3, 1, 1).requires_grad_()]
    biases = [torch.randn(1, 2).requires_grad_(), torch.randn(1, 3).requires_grad_()]
    torch.library.opcheck(torch.ops.transxnet.depthwise_c.default, (x, weights, biases, 1, True))
    torch.library.opcheck(torch.ops.transxnet.depthwise_c.default, (x, weights, [], 1, False))
    torch.library.opcheck(torch.ops.transxnet.depthwise_c.default, (x, weights, biases, 2, False))
    g = torch.randn(2, 5, 4, 3).requires_grad_()
    torch.library.opcheck(torch.ops.transxnet.depthwise_c_backward.default, (g, x, weights, 1, True, True, True))


def test_compiled_programs_keep_the_operator():
    arguments = torch.randn(2, 5, 4, 4), [torch.randn(5, 1, 3, 3)], [torch.randn(5)]
    out, operators = compiled_operators(ops.multiscale_depthwise_conv2d, *arguments)
    torch.testing.assert_close(out, ops.multiscale_depthwise_conv2d(*arguments))
    assert "transxnet.depthwise_c.default" in operators


def test_unneeded_gradients_are_not_computed(monkeypatch):
    monkeypatch.setattr(kernel, "weight_gradient", lambda *_: pytest.fail("not needed"))
    x, weight = torch.randn(2, 3, 4, 4).requires_grad_(), torch.randn(1, 3, 3, 3)
    depthwise_c(x, [weight], []).sum().backward()
    assert x.grad is not None


def test_results_do_not_depend_on_threads():
    _, tensors = multiscale(3, 9, 8, (20, 3), (20, 7))

    def results():
        leaves = {name: t.detach().requires_grad_() for name, t in tensors.items()}
        out = call(ops.multiscale_depthwise_conv2d, leaves)
        return [out, *torch.autograd.grad(out.square().sum(), list(leaves.values()))]

    assert_independent_of_threads(results)
