import copy
import gc
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from transxnet.layers import MSFFN, OSRA, STE, Block, IDConv
from transxnet.ops.recompute import _active_recipes, batch_norm, group_norm, recompute_activations
from transxnet.training.sync_batchnorm import SyncedBatchNorm

LAYERS = {
    "MSFFN": lambda: MSFFN(8),
    "STE": lambda: STE(8),
    "IDConv": lambda: IDConv(8, kernel_size=3),
    "OSRA": lambda: OSRA(8, num_heads=2, sr_ratio=2),
    "Block": lambda: Block(16, num_heads=2, sr_ratio=2, layer_scale_init_value=0.5),
}


def everything_kept():
    """Other hooks are active, so that all activations are kept, as by plain modules."""
    return saved_tensors_hooks(lambda saved: saved, lambda saved: saved)


def results(layer, x, context, type_of_autocast=None):
    """Output, gradients and buffers by name."""
    layer, x = copy.deepcopy(layer), x.clone().requires_grad_()
    with context, recompute_activations(x), torch.autocast("cpu", type_of_autocast, enabled=bool(type_of_autocast)):
        out = layer(x)
    out.pow(3).sum().backward()
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {"out": out, "x": x.grad, **gradients, **dict(layer.named_buffers())}


def allocated_bytes(function):
    """Bytes that a function allocates and does not free."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        out = function()
    events = profiler.profiler.kineto_results.events()
    del out
    return sum(event.nbytes() for event in events if event.name() == "[memory]")


def kept_bytes(layer, x, context):
    """Bytes that the graph of a layer and its output keep."""
    with context:
        return allocated_bytes(lambda: layer(x))


class GeluNormConv(nn.Sequential):
    def __init__(self, channels=6, dtype=torch.float64):
        super().__init__(nn.BatchNorm2d(channels, dtype=dtype), nn.Conv2d(channels, 4, 3, padding=1, dtype=dtype))
        nn.init.normal_(self[0].weight), nn.init.normal_(self[0].bias)

    def forward(self, x):
        return self[1](batch_norm(x, self[0], gelu=True))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_and_statistics_are_those_of_plain_modules(name, memory_format):
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    channels = 16 if name == "Block" else 8
    x = torch.randn(3, channels, 6, 4, dtype=torch.float64).contiguous(memory_format=memory_format)
    ours, plain = results(layer, x, nullcontext()), results(layer, x, everything_kept())
    assert ours.keys() == plain.keys()
    for key, expected in plain.items():
        torch.testing.assert_close(ours[key], expected, rtol=0, atol=0, msg=lambda text, key=key: key + text)


@pytest.mark.parametrize(
    ("layer", "channels", "tensors"),
    [
        (MSFFN(8), 8, 4 + 4 + 1 + 1),  # inputs of two GELUs and of the last norm, and the output
        (STE(64), 64, 1 + 1 / 4 + 1 + 1),  # the same
        # the output of DPE, the sum of D-Mixer, and the inputs of STE's depthwise convolution; of OSRA and IDConv parts
        (Block(64), 64, 1 + 1 + 1 + (1 + 1 / 4 + 1) + (4 + 4 + 1) + 1 + 2.5),
    ],
)
def test_graph_keeps_one_tensor_per_gelu_and_norm(layer, channels, tensors):
    x = torch.randn(2, channels, 16, 16, requires_grad=True)
    one = x.nelement() * x.element_size()
    layer(x)  # some operators are loaded at their first use
    assert kept_bytes(layer, x, nullcontext()) / one == pytest.approx(tensors, rel=0.05)
    assert kept_bytes(layer, x, everything_kept()) / one > 1.5 * tensors


def test_graph_is_freed_without_garbage_collection():
    layer, x = Block(16), torch.randn(2, 16, 8, 8, requires_grad=True)
    layer(x)
    gc.disable()
    try:
        assert allocated_bytes(lambda: layer(x).shape) == 0
    finally:
        gc.enable()


def test_second_derivatives_are_correct():
    layer = GeluNormConv()
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64, requires_grad=True)

    def function(x):
        with recompute_activations(x):
            return layer(x)

    assert torch.autograd.gradgradcheck(function, x)


def test_graph_can_be_differentiated_twice():
    layer, x = MSFFN(8), torch.randn(2, 8, 4, 4, requires_grad=True)
    out = layer(x).sum()
    first = torch.autograd.grad(out, layer.bn2.weight, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(out, layer.bn2.weight), first, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["MSFFN", "STE"])
def test_bfloat16_under_autocast_equals_the_plain_form(name):
    torch.manual_seed(0)
    layer, x = LAYERS[name](), torch.randn(3, 8, 6, 4).bfloat16()
    ours, plain = (results(layer, x, c, torch.bfloat16) for c in (nullcontext(), everything_kept()))
    for key, expected in plain.items():
        assert ours[key].dtype == expected.dtype
        torch.testing.assert_close(ours[key], expected, rtol=2e-2, atol=2e-2 * expected.detach().abs().max().item())


def test_activation_modified_in_place_is_kept():
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    norm = nn.GroupNorm(1, 4, dtype=torch.float64)
    conv = nn.Conv2d(4, 1, 1, dtype=torch.float64)
    gradients = []
    for modify in (F.relu, F.relu_):
        with recompute_activations(x):
            out = conv(modify(group_norm(x, norm)))
        gradients.append(torch.autograd.grad(out.pow(2).sum(), [x, *conv.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_input_of_a_recipe_modified_in_place_is_an_error():
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64, requires_grad=True)
    layer = GeluNormConv()
    y = x * 1
    with recompute_activations(x):
        out = layer(y)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_gradient_checkpointing_keeps_nothing_of_a_block():
    block, x = Block(16), torch.randn(2, 16, 8, 8, requires_grad=True)
    checkpoint(block, x, use_reentrant=False).sum().backward()
    kept = kept_bytes(lambda x: checkpoint(block, x, use_reentrant=False), x, nullcontext())
    assert kept < 2 * x.nelement() * x.element_size()  # the output


@pytest.mark.parametrize("kind", ["hook", "eval", "synchronized"])
def test_other_norms_are_called_as_they_are(kind):
    norm, x = nn.BatchNorm2d(6), torch.randn(3, 6, 5, 4, requires_grad=True)
    if kind == "hook":
        norm.register_forward_hook(lambda module, args, out: 2 * out)
    if kind == "eval":
        norm.eval()
    if kind == "synchronized":
        norm = SyncedBatchNorm(norm)
    expected = copy.deepcopy(norm)(x)
    with recompute_activations(x):
        torch.testing.assert_close(batch_norm(x, norm), expected, rtol=0, atol=0)
        assert not _active_recipes()._recipes


def test_one_value_per_channel_raises_the_error_of_batch_norm():
    x = torch.randn(1, 6, 1, 1)
    with recompute_activations(x), pytest.raises(ValueError, match="more than 1 value per channel"):
        batch_norm(x, nn.BatchNorm2d(6))
