import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from transxnet.layers.msffn import MultiScaleDWConv
from transxnet.ops import activation_norm, gelu_norm
from transxnet.training.sync_batchnorm import SyncedBatchNorm


def parts(channels=6, dtype=torch.float64):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(channels, dtype=dtype)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    return norm, nn.Conv2d(channels, 4, 3, padding=1, dtype=dtype)


def plain(x, norm, then):
    return then(norm(F.gelu(x)))


def run(function, x, norm, then):
    """Output, gradients of the input and of all parameters, and the state of the norm."""
    norm, then = copy.deepcopy(norm), copy.deepcopy(then)
    x = x.clone().requires_grad_()
    out = function(x, norm, then)
    gradients = torch.autograd.grad(out.pow(3).sum(), [x, *norm.parameters(), *then.parameters()])
    return [out, *gradients, *norm.buffers()]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_output_gradients_and_statistics_equal_the_plain_form(memory_format):
    norm, then = parts()
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64).contiguous(memory_format=memory_format)
    for ours, expected in zip(run(gelu_norm, x, norm, then), run(plain, x, norm, then), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_hidden_counter_of_batches_stays_hidden():
    norm, then = parts()
    norm.num_batches_tracked = None  # as gradient checkpointing does
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64)
    for ours, expected in zip(run(gelu_norm, x, norm, then), run(plain, x, norm, then), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_second_derivatives_are_correct():
    norm, then = parts()
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: gelu_norm(x, norm, then), x)


def test_bfloat16_under_autocast_equals_the_plain_form():
    norm, then = parts(dtype=torch.float32)
    x = torch.randn(3, 6, 5, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        pairs = list(zip(run(gelu_norm, x, norm, then), run(plain, x, norm, then), strict=True))
    for ours, expected in pairs:
        assert ours.dtype == expected.dtype
        torch.testing.assert_close(ours, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("make", [lambda: nn.Conv2d(6, 4, 1), lambda: MultiScaleDWConv(6, (1, 3))])
def test_input_of_the_layer_is_not_kept(make):
    norm, layer = parts(dtype=torch.float32)[0], make()
    freed = {}
    for function in (gelu_norm, plain):

        def then(x, function=function):
            freed[function] = StorageWeakRef(x.untyped_storage())
            return layer(x)

        out = function(torch.randn(2, 6, 8, 8, requires_grad=True), norm, then)
        assert freed[function].expired() == (function is gelu_norm)
        out.sum().backward()


def test_what_the_norm_becomes_or_carries_is_respected():
    norm, then = parts(dtype=torch.float32)
    x = torch.randn(3, 6, 5, 4)
    calls = []
    norm.register_forward_hook(lambda *args: calls.append(args))
    gelu_norm(x, norm, then)
    assert len(calls) == 1
    frozen = copy.deepcopy(norm).eval()
    torch.testing.assert_close(gelu_norm(x, frozen, then), plain(x, frozen, then), rtol=0, atol=0)
    synced = SyncedBatchNorm(norm)
    assert not activation_norm._can_recompute(x, synced)


def test_one_value_per_channel_raises_the_error_of_batch_norm():
    norm, then = parts(dtype=torch.float32)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        gelu_norm(torch.randn(1, 6, 1, 1), norm, then)
