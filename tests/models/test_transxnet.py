"""TransXNet: the published parameter counts and costs, and the options that replace its parts (Tables VII to X)."""

from functools import cache, partial

import pytest
import timm
import torch
from timm.data import resolve_data_config
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import transxnet
from tests.helpers import fill
from tests.helpers.networks import on_meta
from transxnet import TransXNet, TransXNetFeatures, UserError, convert_official_state_dict
from transxnet.analysis.cost import count
from transxnet.layers import DPE, MSFFN, STE, Block, IDConv
from transxnet.layers.compared import FFN, DDWConv, DWConv, DyConv, NonOverlappingSpatialReduction, WindowAttention
from transxnet.layers.osra import OverlappingSpatialReduction


def published_t(form: str) -> nn.Module:
    """TransXNet-T in float64 with the weights of the reference vectors."""
    model = timm.create_model("transxnet_t", features_only=form == "features").double().eval()
    state = {name: torch.from_numpy(array) for name, array in fill.checkpoint("t", form).items()}
    model.load_state_dict(convert_official_state_dict(state))
    return model


@pytest.mark.parametrize("size", ["224x224", "200x168"])
@torch.no_grad()
def test_logits_match_the_published_implementation(size):
    model, x = published_t("classifier"), torch.from_numpy(fill.image(*map(int, size.split("x"))))
    truth = torch.from_numpy(fill.vectors(f"t_{size}")["logits"])
    for _ in range(2):  # the second pass uses the cached position bias
        torch.testing.assert_close(model(x), truth, rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_features_match_the_published_implementation():
    model, x = published_t("features"), torch.from_numpy(fill.image(224, 320))
    truth = fill.vectors("t_features_224x320")
    for _ in range(2):
        for stage, feature in enumerate(model(x), start=1):
            assert feature.shape == tuple(truth[f"stage{stage}_shape"])
            samples = torch.from_numpy(fill.samples(feature.numpy()))
            torch.testing.assert_close(samples, torch.from_numpy(truth[f"stage{stage}_samples"]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "size", "published"),
    [
        ("transxnet_t", 224, 1.8),
        pytest.param("transxnet_s", 224, 4.5, marks=pytest.mark.long),
        pytest.param("transxnet_b", 224, 8.3, marks=pytest.mark.long),
        pytest.param("transxnet_b", 384, 24.2, marks=pytest.mark.long),
    ],
)
def test_macs_of_convolutions_and_linear_layers_are_as_published(name, size, published):
    model = on_meta(name)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, size, size, device="meta"))
    flops = counter.get_flop_counts()["Global"]
    aten = torch.ops.aten
    giga = sum(flops.get(op, 0) for op in (aten.convolution, aten.addmm, aten.mm)) / 2e9
    assert giga == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize(
    ("name", "side", "crop"),
    [
        ("transxnet_n", 224, 0.9),
        ("transxnet_t", 224, 0.9),
        ("transxnet_s", 224, 0.9),
        ("transxnet_b", 224, 0.95),
        ("transxnet_b.in1k_384", 384, 0.95),
    ],
)
def test_preprocessing_is_as_published(name, side, crop):
    config = resolve_data_config({}, model=on_meta(name))
    assert config["input_size"] == (3, side, side)
    assert config["interpolation"] == "bicubic"
    assert config["crop_pct"] == crop
    assert config["mean"] == (0.485, 0.456, 0.406)
    assert config["std"] == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(depths=(1, 1, 1)), r"depths must have one value per stage \(four\), got \(1, 1, 1\)"),
        (dict(num_heads=(1, 2, 4, 8, 8)), r"num_heads must have .* got \(1, 2, 4, 8, 8\)"),
        (dict(depths=(1, 0, 1, 1)), r"depths\[1\] must be a positive integer, got 0"),
        (dict(in_chans=0), "in_chans must be a positive integer, got 0"),
        (dict(img_size=0), "height must be a positive integer, got 0"),
        (dict(img_size=(64, 6.5)), "width must be a positive integer, got 6.5"),
        (dict(embed_dims=(16, 16, 32, 33)), "dim=33 must be divisible by .* nearest accepted: 32 or 34"),
        (dict(num_heads=(1, 1, 3, 1)), "dim=112 must be divisible by num_heads=3; nearest accepted: 111 or 114"),
    ],
)
def test_invalid_option_error_names_the_accepted_values(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TransXNet(**kwargs)


LOCAL_CONVS = {"idconv": IDConv, "dwconv": DWConv, "window": WindowAttention, "dyconv": DyConv, "d_dwconv": DDWConv}


def blocks(model: nn.Module) -> list[Block]:
    return [block for stage in model.stages for block in stage.blocks]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def t(**options) -> TransXNet:
    with torch.device("meta"):
        return transxnet.create_model("transxnet_t", **options)


@cache
def giga(**options) -> float:
    return count(t(**options), 224, 224).multiply_adds / 1e9


def test_the_defaults_are_the_paper_s_parts():
    named = dict(local_conv="idconv", attn_ratio=0.5, ffn_scales=(1, 3, 5, 7), dpe=True)
    named |= dict(spatial_reduction="overlapping", token_enhancer="ste")
    default, explicit = t(), t(**named)
    shapes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (default, explicit)]
    assert shapes[0] == shapes[1]
    for block in blocks(default):
        parts = block.mixer.idconv, block.mixer.ste, block.ffn, block.dpe
        assert [type(part) for part in parts] == [IDConv, STE, MSFFN, DPE]
    reductions = [type(block.mixer.osra.reduction) for block in blocks(default)]
    assert reductions == [OverlappingSpatialReduction] * 15 + [nn.Identity] * 3


@pytest.mark.parametrize("name", LOCAL_CONVS)
def test_a_local_convolution_is_7x7_on_half_of_the_channels(name):
    for block, dim in zip(blocks(t(local_conv=name)), [24] * 3 + [48] * 3 + [112] * 9 + [224] * 3, strict=True):
        part = block.mixer.idconv
        assert type(part) is LOCAL_CONVS[name]
        if name == "window":
            assert part.window_size == 7
            assert part.num_heads == block.mixer.osra.num_heads
            assert part.qkv.in_channels == dim
        elif name == "d_dwconv":
            assert part.expand.out_channels == dim * 49
        elif name == "dwconv":
            assert part.dwconv.weight.shape == (dim, 1, 7, 7)
        else:
            assert part.weight.shape == (2, dim, 7, 7)  # DyConv's bank has the size of IDConv's


@pytest.mark.parametrize("scales", [(), (3,), (1, 3), (1, 3, 5), (1, 3, 5, 7, 9), [5, 1]])
def test_the_scales_are_the_kernels_of_the_ffn(scales):
    for block in blocks(t(ffn_scales=scales)):
        if scales:
            assert [conv.kernel_size for conv in block.ffn.dwconv] == [(scale, scale) for scale in scales]
        else:
            assert type(block.ffn) is FFN
            assert block.ffn.expand.out_channels == 4 * block.ffn.expand.in_channels


@pytest.mark.parametrize(
    ("ratio", "distant"),
    [
        (0.25, [12, 24, 56, 112]),
        (0.75, [36, 72, 168, 336]),
        ((1 / 48, 0.5, 0.25, 0.75), [1, 48, 56, 336]),
        ([0.5, 0.5, 0.5, 1 / 7], [24, 48, 112, 64]),
    ],
)
def test_the_ratio_is_the_share_of_attention(ratio, distant):
    for block, channels in zip(blocks(t(attn_ratio=ratio, depths=(1, 1, 1, 1))), distant, strict=True):
        assert block.mixer.osra.q.in_channels == channels
        assert block.mixer.idconv.dim == block.norm1.num_channels - channels


def test_table_x_changes_one_part_each():
    assert all(type(block.dpe) is nn.Identity for block in blocks(t(dpe=False)))
    reductions = [block.mixer.osra.reduction for block in blocks(t(spatial_reduction="non_overlapping"))]
    assert [type(r) for r in reductions] == [NonOverlappingSpatialReduction] * 15 + [nn.Identity] * 3
    assert reductions[0].reduce.conv.kernel_size == reductions[0].reduce.conv.stride == (8, 8)
    assert all(type(block.mixer.ste) is nn.Conv2d for block in blocks(t(token_enhancer="conv1x1")))
    for none in (None, "none"):
        assert all(type(block.mixer.ste) is nn.Identity for block in blocks(t(token_enhancer=none)))
        assert type(Block(16, token_enhancer=none).mixer.ste) is nn.Identity


def test_timm_accepts_the_options_in_both_forms():
    model = timm.create_model("transxnet_t", local_conv="dyconv", token_enhancer="none", depths=(1, 1, 1, 1))
    assert type(model.stages[3].blocks[0].mixer.idconv) is DyConv
    assert type(model.stages[3].blocks[0].mixer.ste) is nn.Identity
    dense = timm.create_model("transxnet_t", features_only=True, out_indices=(0,), attn_ratio=0.25)
    assert isinstance(dense, TransXNetFeatures)
    assert dense.stages[0].blocks[0].mixer.osra.q.in_channels == 12


def test_parameter_counts_match_the_paper_s_formulas():
    """IDConv C^2/r (G + 1) + G C K^2, D-DWConv C^2/r (K^2 + 1), with C the 24 to 224 channels of the local branch.

    The formulas omit biases and BatchNorms: IDConv's bank has G C biases, its projection G C and its BatchNorm 2 C/r;
    D-DWConv has C biases, its generator C K^2 and 2 C/r. An ordinary convolution has C (K^2 + 1) parameters.
    """
    G, K, r = 2, 7, 4
    idconv = d_dwconv = dwconv = 0
    for C, depth in zip((24, 48, 112, 224), (3, 3, 9, 3), strict=True):
        idconv += depth * (C**2 // r * (G + 1) + G * C * K**2 + 2 * G * C + 2 * C // r)
        d_dwconv += depth * (C**2 // r * (K**2 + 1) + C + C * K**2 + 2 * C // r)
        dwconv += depth * C * (K**2 + 1)
    rest = parameters(t()) - idconv
    assert parameters(t(local_conv="d_dwconv")) == rest + d_dwconv
    assert parameters(t(local_conv="dwconv")) == rest + dwconv


@pytest.mark.long
def test_costs_compare_as_the_paper_says_of_table_vii():
    """IDConv: "a slight increase in Params" over DyConv, fewer than D-DWConv; windows: "higher computational cost"."""
    sizes = {name: parameters(t(local_conv=name)) for name in LOCAL_CONVS}
    assert sizes["dwconv"] < sizes["dyconv"] < sizes["idconv"] < 1.02 * sizes["dyconv"]
    assert sizes["idconv"] < sizes["d_dwconv"]
    costs = {name: giga() if name == "idconv" else giga(local_conv=name) for name in LOCAL_CONVS}
    assert max(costs, key=costs.get) == "window"


@pytest.mark.long
def test_costs_compare_as_the_paper_says_of_table_viii():
    """{1,3} is cheaper than {3}; {1,3,5,7} costs slightly more than {3}; {1,3,5,7,9} has more parameters and MACs."""
    scales = [(), (1, 3), (3,), (1, 3, 5, 7), (1, 3, 5, 7, 9)]
    sizes = [parameters(t(ffn_scales=s)) for s in scales]
    costs = [giga() if s == (1, 3, 5, 7) else giga(ffn_scales=s) for s in scales]
    assert sizes == sorted(sizes)
    assert costs == sorted(costs)
    assert costs[3] < 1.05 * costs[2]


def test_parameters_grow_with_the_ratio_as_in_table_ix():
    sizes = [parameters(t(attn_ratio=ratio)) for ratio in (0.5, 0.625, 0.75)]
    assert sizes == sorted(sizes)


@pytest.mark.long
def test_costs_compare_as_the_paper_says_of_table_x():
    """Overlap comes "without incurring additional computational costs"; STE "significantly reduces" them."""
    assert giga() == pytest.approx(giga(spatial_reduction="non_overlapping"), rel=1e-3)
    assert giga() < 0.95 * giga(token_enhancer="conv1x1")


class Shift(nn.Module):
    def __init__(self, dim: int, kernel_size: int):
        super().__init__()
        self.weight, self.by = nn.Parameter(torch.ones(dim, 1, 1)), kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x.roll(self.by, 3)


class Pool(nn.AvgPool2d):
    def __init__(self, dim: int, sr_ratio: int):
        super().__init__(sr_ratio, ceil_mode=True)


class Gain(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


def test_each_part_can_be_a_user_class(tiny, images):
    model = tiny(local_conv=Shift, spatial_reduction=Pool, token_enhancer=Gain)
    for block, dim in zip(blocks(model), (16, 16, 32, 32), strict=True):
        assert type(block.mixer.idconv) is Shift
        assert block.mixer.idconv.weight.shape == (dim // 2, 1, 1)
        assert block.mixer.idconv.by == 3
        assert type(block.mixer.osra.reduction) is (Pool if block is not blocks(model)[-1] else nn.Identity)
        assert block.mixer.ste.weight.shape == (dim, 1, 1)
    assert model(images).shape == (2, 5)
    assert type(blocks(tiny(local_conv=partial(Shift)))[0].mixer.idconv) is Shift
    assert type(blocks(timm.create_model("transxnet_n", local_conv=Shift))[0].mixer.idconv) is Shift


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(local_conv="idconf"), r"local_conv must be 'idconv', 'dwconv', .* got 'idconf'. Did you mean 'idconv'"),
        (
            dict(local_conv=None),
            r"local_conv must be .* a class that is called with \(dim, kernel_size\), got None",
        ),
        (dict(local_conv=nn.Identity()), r"local_conv .* got Identity\(\). Pass the class, not an instance"),
        (dict(spatial_reduction="overlap"), "spatial_reduction must be .* got 'overlap'. Did you mean 'overlapping'"),
        (
            dict(token_enhancer="conv"),
            "token_enhancer must be 'ste', 'conv1x1', 'none', None, or .* mean 'conv1x1'",
        ),
        (dict(token_enhancer=False), "token_enhancer must be .* got False"),
        (dict(dpe="no"), "dpe must be True or False, got 'no'"),
        (dict(ffn_scales=3), r"such as \(1, 3, 5, 7\), or \(\) for the plain FFN, got 3. Did you mean \(3,\)"),
        (dict(ffn_scales="357"), "ffn_scales must be kernel sizes .* got '357'"),
        (dict(ffn_scales=(1, 4)), r"must be odd kernel sizes .* got 4 in \(1, 4\). Nearest accepted: 3 or 5"),
        (dict(ffn_scales=(0, 3)), r"got 0 in \(0, 3\). Nearest accepted: 1\.$"),
        (dict(ffn_scales=(3.0,)), r"must be odd kernel sizes .* got 3.0 in \(3.0,\)"),
        (
            dict(attn_ratio=0.3),
            "between 0 and 1 and give channels divisible by the heads, .* got 0.3. Nearest accepted: 1/4 or 3/8",
        ),
        (dict(attn_ratio=1), "got 1. Nearest accepted: 3/4 or 7/8"),
        (dict(attn_ratio="half"), r"attn_ratio must be .*48 channels with 1 heads and 96 .* got 'half'\.$"),
        (dict(attn_ratio=(0.5, 0.25)), r"a number, or one for each of the four stages, got \(0.5, 0.25\)"),
        (
            dict(attn_ratio=(0.5, 0.5, 0.5, 0.3)),
            "for 448 channels with 8 heads, got 0.3. Nearest accepted: 2/7 or 17/56",
        ),
    ],
)
def test_invalid_part_error_names_the_accepted_values(options, message):
    with pytest.raises(UserError, match=message):
        TransXNet(**options)


def test_published_weights_are_refused_by_other_networks():
    model = transxnet.create_model("transxnet_n")
    overlay = dict(state_dict=model.state_dict())
    with pytest.raises(UserError, match=r"does not match the model.*\n.*missing.*idconv\.dwconv\.weight"):
        timm.create_model("transxnet_n", pretrained=True, pretrained_cfg_overlay=overlay, local_conv="dwconv")
