"""Networks for the tests of the models: every registered one, and small complete ones."""

import pytest
import timm
import torch
from torch import Tensor, nn

from transxnet.layers import DMixer
from transxnet.layers.compared import SRA, ACmix, MixingBlock, SepConv, ShiftedWindowAttention

DEPTHS = {
    "transxnet_n": (2, 2, 4, 2),
    "transxnet_t": (3, 3, 9, 3),
    "transxnet_s": (4, 4, 12, 4),
    "transxnet_b": (4, 4, 21, 4),
    "transxnet_swin_style": (2, 2, 6, 2),
}
WIDTHS = {
    "transxnet_n": [32, 64, 128, 256],
    "transxnet_t": [48, 96, 224, 448],
    "transxnet_s": [64, 128, 320, 512],
    "transxnet_b": [76, 152, 336, 672],
    "transxnet_swin_style": [64, 128, 256, 512],
}
EVERY = pytest.mark.parametrize("name", list(DEPTHS))
SMALL = pytest.mark.parametrize("name", ["transxnet_n", "transxnet_t", "transxnet_swin_style"])
OUT_INDICES = pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 2, 3), (0, 2), (1,), (3,), (-2, -1)])

# A few networks that cover every non-default value of TransXNet's options.
VARIANTS = {
    "dwconv": dict(local_conv="dwconv", ffn_scales=(), dpe=False),
    "window": dict(local_conv="window", spatial_reduction="non_overlapping", token_enhancer="conv1x1"),
    "dyconv": dict(local_conv="dyconv", attn_ratio=(0.25, 0.75, 0.5, 0.625), ffn_scales=(3,)),
    "d_dwconv": dict(local_conv="d_dwconv", attn_ratio=0.25, token_enhancer=None, ffn_scales=(1, 3, 5, 7, 9)),
}
MIXERS = {
    "d_mixer": DMixer,
    "sep_conv": SepConv,
    "sra": SRA,
    "shifted_window": ShiftedWindowAttention,
    "mixing_block": MixingBlock,
    "acmix": ACmix,
}
SWIN_STYLE_TINY = dict(depths=(2, 1, 1, 1), embed_dims=(16, 16, 32, 32), head_dim=8, window_size=3, img_size=64)


def on_meta(name: str, **kwargs) -> nn.Module:
    """A network on the meta device, without memory for its weights."""
    with torch.device("meta"):
        return timm.create_model(name, **kwargs).eval()


def run_stages(model: nn.Module, x: Tensor) -> list[Tensor]:
    outputs = []
    for stage in model.stages:
        x = stage(x)
        outputs.append(x)
    return outputs
