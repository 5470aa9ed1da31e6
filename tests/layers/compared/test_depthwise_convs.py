"""The depthwise convolutions of Table VII, sample by sample, and their published parameter counts."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers.cond_conv2d import CondConv2d
from torch import nn

from tests.helpers.formulas import batch_norm, close, depthwise, pointwise, rand
from transxnet.layers.compared import DDWConv, DWConv, DyConv

SIZE = pytest.mark.parametrize(("height", "width"), [(8, 9), (3, 5), (1, 1), (14, 14)])


@SIZE
def test_dwconv_is_an_ordinary_depthwise_convolution(randomize, height, width):
    conv, x = randomize(DWConv(6, 5)).double(), rand(2, 6, height, width)
    close(conv(x), depthwise(x, conv.dwconv.weight, conv.dwconv.bias))


@SIZE
@pytest.mark.parametrize(("num_kernels", "temperature"), [(2, 1.0), (4, 30.0)])
def test_dyconv_mixes_whole_kernels_for_each_sample(randomize, height, width, num_kernels, temperature):
    conv, x = randomize(DyConv(8, 7, num_kernels, temperature=temperature)).double(), rand(3, 8, height, width)
    for sample, out in zip(x, conv(x), strict=True):
        hidden = F.relu(pointwise(sample.mean((1, 2))[None, :, None, None], conv.squeeze))
        logits = pointwise(hidden, conv.expand).flatten() / temperature
        shares = logits.exp() / logits.exp().sum()
        assert shares.shape == (num_kernels,)
        weight = sum(share * kernel for share, kernel in zip(shares, conv.weight, strict=True))
        bias = sum(share * kernel for share, kernel in zip(shares, conv.bias, strict=True))
        close(out, F.conv2d(sample, weight[:, None], bias, padding=3, groups=8))


def test_dyconv_is_a_conditionally_parameterized_convolution(randomize):
    conv, x = randomize(DyConv(8, 5, 3)).double(), rand(4, 8, 6, 7)
    theirs = CondConv2d(8, 8, 5, padding=2, groups=8, bias=True, num_experts=3).double()
    theirs.load_state_dict({"weight": conv.weight.flatten(1), "bias": conv.bias})
    close(conv(x), theirs(x, conv.attention(x)))


@SIZE
def test_d_dwconv_generates_the_kernels_of_each_sample(randomize, height, width):
    conv, x = randomize(DDWConv(8, 7)).double().eval(), rand(3, 8, height, width)
    for sample, out in zip(x, conv(x), strict=True):
        mean = sample.mean((1, 2))[None, :, None, None]
        hidden = F.relu(batch_norm(pointwise(mean, conv.squeeze.conv), conv.squeeze.bn))
        weight = pointwise(hidden, conv.expand).reshape(8, 1, 7, 7)
        close(out, F.conv2d(sample, weight, conv.bias, padding=3, groups=8))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("dim", [32, 96])
def test_d_dwconv_parameter_count_matches_the_paper(dim):
    """Sec. III-B1: C^2/r (K^2 + 1), i.e. 12.5 C^2 for r = 4 and K = 7, without BatchNorm and biases."""
    conv = DDWConv(dim, kernel_size=7, reduction_ratio=4)
    assert conv.squeeze.conv.weight.numel() + conv.expand.weight.numel() == 12.5 * dim**2
    uncounted = conv.bias.numel() + conv.expand.bias.numel() + parameters(conv.squeeze.bn)
    assert parameters(conv) == 12.5 * dim**2 + uncounted


@pytest.mark.parametrize("dim", [32, 96])
def test_dyconv_has_the_bank_of_idconv_and_a_weight_per_kernel(dim):
    """C^2/r + G C/r for the attention weights, G C K^2 for the bank, and biases."""
    assert parameters(DyConv(dim, 7, 4)) == dim**2 // 4 + 4 * dim // 4 + 4 * dim * 49 + 4 + 4 * dim


def test_dyconv_s_bank_starts_from_a_truncated_normal():
    conv = DyConv(256)
    assert conv.weight.std().item() == pytest.approx(0.02, abs=1e-3)
    assert conv.bias.std().item() == pytest.approx(0.02, abs=3e-3)


def test_higher_temperature_evens_out_the_attention_weights(randomize):
    conv, x = randomize(DyConv(8)).double(), rand(2, 8, 5, 5)
    spreads = []
    for conv.temperature in (1.0, 30.0, 1e9):
        spreads.append(conv.attention(x).std(1).max().item())
    assert spreads[0] > spreads[1] > spreads[2]
    torch.testing.assert_close(conv.attention(x), torch.full((2, 4), 0.25, dtype=torch.float64), rtol=0, atol=1e-8)
