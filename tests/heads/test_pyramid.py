import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.backbones import tiny_transxnet
from transxnet import UserError
from transxnet.heads.pyramid import P6, P6P7, PyramidBackbone, create_body


class Given(nn.Module):
    """A backbone that returns the given feature maps."""

    def __init__(self, maps: list[torch.Tensor], reductions: list[int], output_fmt: str = "NCHW"):
        super().__init__()
        self.maps = [m.permute(0, 2, 3, 1) if output_fmt == "NHWC" else m for m in maps]
        self.output_fmt = output_fmt
        facts = [dict(num_chs=m.shape[1], reduction=r, module="") for m, r in zip(maps, reductions, strict=True)]
        self.feature_info = timm.models.FeatureInfo(facts, tuple(range(len(facts))))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return self.maps


def maps(*channels: int) -> list[torch.Tensor]:
    return [torch.randn(1, c, 64 >> (i + 2), 96 >> (i + 2)) for i, c in enumerate(channels)]


IMAGE = torch.zeros(1, 3, 64, 96)


@torch.no_grad()
def test_levels_are_merged_from_the_top_down_and_then_smoothed():
    """Lin et al., Fig. 3: a 1x1 convolution on each map, plus the upsampled merged map above it, then 3x3."""
    given = maps(4, 6, 8)
    pyramid = PyramidBackbone(Given(given, [4, 8, 16]), (4, 8, 16))
    state = pyramid.fpn.state_dict()

    def conv(kind: str, i: int, x: torch.Tensor) -> torch.Tensor:
        weight, bias = state[f"{kind}.{i}.0.weight"], state[f"{kind}.{i}.0.bias"]
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    merged = conv("inner_blocks", 2, given[2])
    truth = [conv("layer_blocks", 2, merged)]
    for i in (1, 0):
        merged = conv("inner_blocks", i, given[i]) + merged.repeat_interleave(2, 2).repeat_interleave(2, 3)
        truth.insert(0, conv("layer_blocks", i, merged))
    levels = pyramid(IMAGE)
    assert list(levels) == ["0", "1", "2"]
    for level, expected in zip(levels.values(), truth, strict=True):
        torch.testing.assert_close(level, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("channels", [8, 256])
def test_p6_and_p7_come_from_the_last_map_without_an_activation(channels):
    """Also if that map has as many channels as the pyramid."""
    given = maps(4, 6, 8, channels)
    pyramid = PyramidBackbone(Given(given, [4, 8, 16, 32]), (8, 16, 32), P6P7)
    levels, block = pyramid(IMAGE), pyramid.fpn.extra_blocks
    assert list(levels) == ["0", "1", "2", "p6", "p7"]
    p6 = F.conv2d(given[3], block.p6.weight, block.p6.bias, stride=2, padding=1)
    p7 = F.conv2d(p6, block.p7.weight, block.p7.bias, stride=2, padding=1)
    torch.testing.assert_close(levels["p6"], p6, rtol=0, atol=1e-5)
    torch.testing.assert_close(levels["p7"], p7, rtol=0, atol=1e-5)
    assert (p6 < 0).any()


def test_mask_rcnn_p6_subsamples_p5_by_two():
    p5 = torch.randn(1, 256, 5, 6)
    levels, names = P6()([p5], [], ["0"])
    assert names == ["0", "p6"]
    assert torch.equal(levels[1], p5[:, :, ::2, ::2])


def test_nhwc_maps_are_permuted():
    """Also if a side has as many pixels as there are channels."""
    given = maps(24, 16)
    plain = PyramidBackbone(Given(given, [4, 8]), (4, 8))
    turned = PyramidBackbone(Given(given, [4, 8], "NHWC"), (4, 8))
    turned.fpn.load_state_dict(plain.fpn.state_dict())
    for a, b in zip(plain(IMAGE).values(), turned(IMAGE).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_each_kind_of_backbone_gives_levels_of_the_right_sizes(any_body):
    levels = PyramidBackbone(any_body(), (4, 8, 16, 32)).eval()(torch.randn(1, 3, 64, 96))
    assert [tuple(level.shape) for level in levels.values()] == [
        (1, 256, 16, 24), (1, 256, 8, 12), (1, 256, 4, 6), (1, 256, 2, 3)
    ]  # fmt: skip


def test_a_body_without_a_stride_is_refused():
    with pytest.raises(UserError, match=r"strides 8, 16, 32, but Given returns strides 4, 8\. Use a network with"):
        PyramidBackbone(Given(maps(4, 4), [4, 8]), (8, 16, 32))


@pytest.mark.parametrize("name", ["test_vit", "nest_tiny"])
def test_a_model_without_a_stride_is_refused(name):
    with pytest.raises(UserError, match=f"the head needs feature maps of strides 4, 8, 16, 32, but {name} returns"):
        create_body(name, (4, 8, 16, 32))


def test_unknown_model_error_suggests_the_nearest():
    with pytest.raises(UserError, match=r"unknown model 'transxnet_x'\. Did you mean 'transxnet_"):
        create_body("transxnet_x", (8, 16, 32))


@pytest.mark.parametrize("name", ["transxnet_n", "resnet10t", "test_efficientnet"])
def test_body_returns_only_the_needed_maps(name):
    body = create_body(name, (8, 16, 32), drop_path_rate=0.1)
    assert body.feature_info.reduction() == [8, 16, 32]
    assert [f.shape[2] for f in body.eval()(torch.zeros(1, 3, 64, 64))] == [8, 4, 2]


def test_drop_path_rate_reaches_the_blocks_or_is_refused():
    body = create_body("transxnet_n", (4, 8, 16, 32), drop_path_rate=0.3)
    rates = [m.drop_prob for m in body.modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3)
    with pytest.raises(UserError, match=r"vgg11 does not support stochastic depth: drop_path_rate must be 0, got 0\.1"):
        create_body("vgg11", (4, 8, 16, 32), drop_path_rate=0.1)


def test_batch_too_small_for_batchnorm_is_an_error():
    pyramid = PyramidBackbone(tiny_transxnet((0, 1, 2, 3)), (4, 8, 16, 32)).train()
    with pytest.raises(ValueError, match=r"cannot train on 1 image of 64x64: BatchNorm.*Use a batch size of 2 or more"):
        pyramid(torch.zeros(1, 3, 64, 64))
