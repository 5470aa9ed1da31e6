"""The network with which the paper compares token mixers, for each of them."""

import pytest
import timm
import torch
from torch import Tensor, nn

import transxnet
from tests.helpers.networks import MIXERS, SWIN_STYLE_TINY
from transxnet import UserError
from transxnet.analysis.cost import Cost, count
from transxnet.layers import PositionBias
from transxnet.layers.compared import (
    FFN,
    NonOverlappingPatchEmbed,
)
from transxnet.models import SwinStyle
from transxnet.models.swin_style import TOKEN_MIXERS

MIXER = pytest.mark.parametrize("name", MIXERS)


@pytest.fixture
def small(randomize):
    """The smallest complete network, in float64 and eval mode, for 64x64 images."""
    return lambda name, **options: (
        randomize(SwinStyle(5, token_mixer=name, **SWIN_STYLE_TINY, **options)).double().eval()
    )


def swin_style(**options) -> SwinStyle:
    with torch.device("meta"):
        return transxnet.create_model("transxnet_swin_style", **options)


def test_mixers_match_the_paper_s_table():
    assert set(TOKEN_MIXERS) == set(MIXERS)


@MIXER
def test_network_matches_the_paper(name):
    """Depths 2-2-6-2, widths 64-128-256-512, non-overlapping patches, the plain FFN."""
    model = swin_style(token_mixer=name)
    assert [len(stage.blocks) for stage in model.stages] == [2, 2, 6, 2]
    assert [stage.patch_embed.conv.kernel_size for stage in model.stages] == [(4, 4), (2, 2), (2, 2), (2, 2)]
    for stage, dim in zip(model.stages, (64, 128, 256, 512), strict=True):
        assert type(stage.patch_embed) is NonOverlappingPatchEmbed
        assert stage.patch_embed.conv.stride == stage.patch_embed.conv.kernel_size
        assert (stage.pos_bias is not None) == (name == "d_mixer")
        for block in stage.blocks:
            assert type(block.mixer) is MIXERS[name]
            assert type(block.ffn) is FFN
            assert block.ffn.expand.weight.shape == (4 * dim, dim, 1, 1)


def test_heads_windows_and_reductions_follow_swin_and_pvt():
    for name, dims in [("shifted_window", 1), ("acmix", 1), ("sra", 1), ("mixing_block", 2), ("d_mixer", 2)]:
        mixers = [stage.blocks[-1].mixer for stage in swin_style(token_mixer=name).stages]
        heads = [(mixer.osra if name == "d_mixer" else mixer).num_heads for mixer in mixers]
        assert heads == [width // dims // 32 for width in (64, 128, 256, 512)], "32 channels a head"
    for name in ("shifted_window", "acmix"):
        mixers = [block.mixer for stage in swin_style(token_mixer=name).stages for block in stage.blocks]
        assert [mixer.window_size for mixer in mixers] == [7] * 12
        assert [mixer.shift for mixer in mixers] == [0, 3] * 6
    assert [stage.blocks[0].mixer.sr_ratio for stage in swin_style(token_mixer="sra").stages] == [8, 4, 2, 1]
    biases = [stage.pos_bias for stage in swin_style().stages]
    assert all(type(bias) is PositionBias for bias in biases)
    assert [tuple(bias.weight.shape[1:]) for bias in biases] == [(1, 3136, 49), (2, 784, 49), (4, 196, 49), (8, 49, 49)]


def cost_by_hand(squares: int, channels: int) -> int:
    """MACs at 224x224 with mixers that cost this many C^2 and C per position."""
    total = 512 * 1000
    for dim, depth, positions, into in zip(
        (64, 128, 256, 512), (2, 2, 6, 2), (56**2, 28**2, 14**2, 7**2), (3 * 16, 64 * 4, 128 * 4, 256 * 4), strict=True
    ):
        total += positions * (into * dim + depth * (49 * dim + 8 * dim**2))
        total += depth * positions * (squares * dim**2 + channels * dim)
    return total


@pytest.mark.parametrize(
    ("name", "squares", "channels"),
    [
        ("sep_conv", 4, 2 * 49),  # C to 2 C and back, 7x7 on 2 C channels
        ("shifted_window", 4, 0),  # queries, keys, values, projection
        ("acmix", 4, 27 + 81),  # the same plus the convolution path
    ],
)
def test_macs_match_the_formulas(name, squares, channels):
    assert count(swin_style(token_mixer=name), 224, 224).multiply_adds == cost_by_hand(squares, channels)


@pytest.mark.long
def test_d_mixer_costs_least_and_much_less_than_acmix():
    costs: dict[str, Cost] = {name: count(swin_style(token_mixer=name), 224, 224) for name in MIXERS}
    totals = {name: cost.multiply_adds + cost.attention_multiply_adds for name, cost in costs.items()}
    assert min(totals, key=totals.get) == min(costs, key=lambda name: costs[name].parameters) == "d_mixer"
    assert totals["d_mixer"] < 0.8 * totals["acmix"]


def test_the_block_is_three_residuals(small):
    block = small("d_mixer").stages[0].blocks[0]
    x, bias = torch.randn(2, 16, 6, 6, dtype=torch.float64), torch.randn(1, 1, 36, 1, dtype=torch.float64)
    y = block.dpe(x)
    y = y + block.scale1(block.mixer(block.norm1(y), bias))
    y = y + block.scale2(block.ffn(block.norm2(y)))
    torch.testing.assert_close(block(x, bias), y, rtol=0, atol=1e-12)


def test_position_encoding_can_be_disabled(small, images):
    model = small("sra", dpe=False)
    assert type(model.stages[0].blocks[0].dpe) is nn.Identity
    assert model(images).shape == (2, 5)


def test_network_initialization_keeps_acmix_shift_kernels():
    weight = SwinStyle(5, token_mixer="acmix", **SWIN_STYLE_TINY).stages[0].blocks[0].mixer.shift_conv.weight
    assert torch.equal(weight.detach(), torch.eye(9).reshape(9, 3, 3).expand(16, 9, 3, 3))


class Mean(nn.Module):
    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.weight, self.num_heads = nn.Parameter(torch.ones(dim, 1, 1)), num_heads

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x.mean((2, 3), keepdim=True).expand_as(x)


def test_token_mixer_can_be_a_user_class(small, images):
    model = small(Mean)
    mixers = [stage.blocks[0].mixer for stage in model.stages]
    assert [(type(m), len(m.weight), m.num_heads) for m in mixers] == [(Mean, d, d // 8) for d in (16, 16, 32, 32)]
    assert model(images).shape == (2, 5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            dict(token_mixer="dmixer"),
            UserError,
            "token_mixer must be 'd_mixer', .* got 'dmixer'. Did you mean 'd_mixer'",
        ),
        (dict(token_mixer=nn.Identity()), UserError, "called with .dim, num_heads., got .* Pass the class"),
        (dict(dpe=1), UserError, "dpe must be True or False, got 1"),
        (dict(depths=(2, 2)), ValueError, r"depths must have one value per stage \(four\), got \(2, 2\)"),
        (dict(depths=(2, 2, 0, 2)), ValueError, r"depths\[2\] must be a positive integer, got 0"),
        (dict(head_dim=0), ValueError, "head_dim must be a positive integer, got 0"),
        (dict(head_dim=48), ValueError, r"embed_dims\[0\]=64 must be divisible by 2 head_dim=96; nearest accepted: 96"),
        (dict(img_size=0), ValueError, "height must be a positive integer, got 0"),
        (dict(local_conv="dwconv"), TypeError, "local_conv"),
    ],
)
def test_invalid_option_error_names_the_accepted_values(options, error, message):
    with pytest.raises(error, match=message):
        timm.create_model("transxnet_swin_style", **options)
