"""The C kernel of batch normalization against PyTorch's in float64: values, gradients, statistics, compilation."""

import copy

import pytest
import torch
from torch import nn

from tests.helpers.c_operators import assert_independent_of_threads, compiled_operators
from transxnet.ops.batch_norm import batch_norm_c, batch_norm_reference, normalize_c, takes_batch_norm_c
from transxnet.ops.kernels.c_library import why_unavailable
from transxnet.ops.recompute import batch_norm

pytestmark = pytest.mark.skipif(bool(why_unavailable()), reason="needs a C compiler")

BOUNDS = {torch.float32: 5e-6, torch.bfloat16: 4e-3}
SHAPES = {
    "many pixels": (5, 18, 40, 33),
    "many channels": (2, 4100, 3, 4),
    "one channel": (3, 1, 5, 2),
    "six values": (3, 33, 2, 1),
}
NAMES = ("out", "x", "weight", "bias", "mean", "variance")


def make(shape, dtype=torch.float32):
    x = (torch.randn(shape) * 2 + 3).to(dtype).contiguous(memory_format=torch.channels_last)
    return x, torch.randn(shape[1]), torch.randn(shape[1]), torch.randn(shape).to(dtype)


def results(function, x, weight, bias, g, gelu):
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
    out, mean, variance = function(*leaves, 1e-5, gelu)
    return dict(zip(NAMES, [out, *torch.autograd.grad(out, leaves, g), mean, variance], strict=True))


def assert_matches(ours, truth, bounds):
    for name, value in ours.items():
        atol = bounds(name) * max(truth[name].abs().max().item(), 1e-3)
        torch.testing.assert_close(value.double(), truth[name], rtol=0, atol=atol, msg=lambda m, name=name: name + m)


@pytest.mark.parametrize("gelu", [False, True], ids=["plain", "gelu"])
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_match_reference(shape, dtype, gelu):
    x, weight, bias, g = make(shape, dtype)
    ours = results(batch_norm_c, x, weight, bias, g, gelu)
    truth = results(batch_norm_reference, *(t.double() for t in (x, weight, bias, g)), gelu)
    assert ours["out"].dtype == ours["x"].dtype == dtype
    assert ours["out"].is_contiguous(memory_format=torch.channels_last)
    assert_matches(ours, truth, lambda name: BOUNDS[dtype if name in ("out", "x") else torch.float32])


def test_variance_is_accurate_far_from_zero():
    x = (torch.randn(4, 3, 50, 50) + 3000).contiguous(memory_format=torch.channels_last)
    _, mean, variance = batch_norm_c(x, torch.ones(3), torch.zeros(3), 1e-5)
    torch.testing.assert_close(variance.double(), x.double().var((0, 2, 3), correction=0), rtol=1e-5, atol=0)
    torch.testing.assert_close(mean.double(), x.double().mean((0, 2, 3)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [-100.0, -12.0, -5.0, -1e-20, 0.0, 1e-20, 5.0, 100.0, 1e30])
def test_gelu_is_exact_at_extremes(value):
    x = torch.full((1, 16, 2, 2), value).contiguous(memory_format=torch.channels_last)
    zeros, ones = torch.zeros(16), torch.ones(16)
    out = normalize_c(x, zeros, ones - 1e-5, ones, zeros, 1e-5, True)
    truth = torch.nn.functional.gelu(x.double())
    torch.testing.assert_close(out.double(), truth, rtol=1e-6, atol=2e-7 * max(1.0, abs(value) * (value > 0)))


def test_nan_and_inf_are_not_hidden():
    for value in (float("nan"), float("inf"), -float("inf")):
        x, weight, bias, _ = make((2, 18, 4, 4))
        x[0, 17, 1, 2] = value
        out, _, _ = batch_norm_c(x, weight, bias, 1e-5, True)
        finite = out.isfinite().all(3).all(2).all(0)
        assert finite[:17].all()
        if value != -float("inf"):  # PyTorch's GELU of it is NaN, too; zero would be its limit
            assert not finite[17]


@pytest.mark.parametrize("gelu", [False, True], ids=["plain", "gelu"])
def test_second_derivatives_match_reference(gelu):
    x, weight, bias, g = make((2, 5, 4, 3))

    def second(function, *tensors):
        x, weight, bias, g = (t.detach().requires_grad_() for t in tensors)
        first = torch.autograd.grad(function(x, weight, bias, 1e-5, gelu)[0], (x, weight), g, create_graph=True)
        return torch.autograd.grad(sum(value.pow(2).sum() for value in first), (x, weight, g))

    ours = second(batch_norm_c, x, weight, bias, g)
    truth = second(batch_norm_reference, *(t.double() for t in (x, weight, bias, g)))
    for value, true in zip(ours, truth, strict=True):
        torch.testing.assert_close(value.double(), true, rtol=0, atol=1e-5 * true.abs().max().item())


def test_operators_pass_opcheck():
    x, weight, bias, g = make((2, 5, 4, 3))
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
    torch.library.opcheck(torch.ops.transxnet.batch_norm_c.default, (*leaves, 1e-5, True))
    mean, variance = torch.randn(5), torch.rand(5)
    arguments = (g.requires_grad_(), leaves[0], mean, variance, leaves[1], 1e-5, True)
    torch.library.opcheck(torch.ops.transxnet.batch_norm_c_backward.default, arguments)


@pytest.mark.parametrize("gelu", [False, True], ids=["plain", "gelu"])
def test_module_updates_its_statistics_as_before(gelu):
    ours = nn.BatchNorm2d(6, momentum=0.3)
    plain = copy.deepcopy(ours)
    for _ in range(3):
        x = (torch.randn(2, 6, 5, 4) + 1).contiguous(memory_format=torch.channels_last)
        out, true = batch_norm(x, ours, gelu=gelu), plain(torch.nn.functional.gelu(x) if gelu else x)
        torch.testing.assert_close(out, true, rtol=1e-5, atol=2e-6)
    for (name, buffer), true in zip(ours.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, true, rtol=1e-5, atol=1e-6, msg=name)


def test_other_layouts_and_types_are_left_to_pytorch():
    x = torch.randn(2, 3, 4, 4)
    assert not takes_batch_norm_c(x)
    last = x.contiguous(memory_format=torch.channels_last)
    assert takes_batch_norm_c(last)
    assert not takes_batch_norm_c(last.double())
    assert not takes_batch_norm_c(last[:, :2])
    assert not takes_batch_norm_c(torch.randn(1, 3, 1, 1))


def test_reference_is_requested(monkeypatch):
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    monkeypatch.setenv("TRANSXNET_OPS", "reference")
    assert not takes_batch_norm_c(x)


def test_results_do_not_depend_on_threads():
    x, weight, bias, g = make((5, 18, 60, 61))
    assert_independent_of_threads(lambda: list(results(batch_norm_c, x, weight, bias, g, True).values()))


def test_compiled_programs_keep_the_operator():
    norm = nn.BatchNorm2d(5)
    x = torch.randn(2, 5, 4, 4).contiguous(memory_format=torch.channels_last)
    expected = batch_norm(x, copy.deepcopy(norm), gelu=True)
    out, operators = compiled_operators(lambda x: batch_norm(x, norm, gelu=True), x)
    torch.testing.assert_close(out, expected)
    assert "transxnet.batch_norm_c.default" in operators
    assert norm.num_batches_tracked == 1
