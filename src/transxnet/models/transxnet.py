"""TransXNet.

Paper: "TransXNet: Learning Both Global and Local Dynamics with a Dual Dynamic Token Mixer for Visual Recognition",
Meng Lou et al., https://arxiv.org/abs/2310.19380

The file reads like Fig. 3 and Table I: a stage, the network of four of them, its dense-prediction form, the variants.
What timm asks of every network, such as intermediates and another classifier, is in :mod:`transxnet.models.timm_api`.
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from transxnet.layers import Block, PatchEmbed, PositionBias
from transxnet.layers.checks import check_attn_ratio, check_positive
from transxnet.models.checkpoints import load_pretrained
from transxnet.models.gradient_checkpointing import checkpoint_block
from transxnet.models.timm_api import (
    ClassifierForm,
    FeaturesForm,
    FourStages,
    check_per_stage,
    init_weights,
    stochastic_depths,
)
from transxnet.utils.errors import UserError

STEM_STRIDE = 4


class Stage(nn.Module):
    """A patch embedding and the blocks that follow it, which share one position bias (Fig. 3).

    Args:
        patch_embed: what makes this stage's tokens: the stem, or the downsampling from the stage before.
        blocks: the stage's blocks.
        pos_bias: the position bias of all of them, or None.
        sr_ratio: stride of their OSRA, which decides how many keys there are.

    Shapes:
        (B, C_in, H, W) -> (B, C, ceil(H / stride), ceil(W / stride)) with the embedding's stride.
    """

    def __init__(
        self,
        patch_embed: nn.Module,
        blocks: Sequence[nn.Module],
        pos_bias: PositionBias | None = None,
        sr_ratio: int = 1,
    ):
        super().__init__()
        self.patch_embed = patch_embed
        self.pos_bias = pos_bias
        self.blocks = nn.ModuleList(blocks)
        self.sr_ratio = sr_ratio
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        pos_bias = None
        if self.pos_bias is not None:
            height, width = x.shape[2:]
            # Rounded up in whole numbers, which an exported program of any size has no others of.
            keys = -(-height // self.sr_ratio) * -(-width // self.sr_ratio)
            pos_bias = self.pos_bias(height * width, keys)
        for block in self.blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint_block(block, x, pos_bias)
            else:
                x = block(x, pos_bias)
        return x


class Backbone(FourStages):
    """The four stages, without what comes after them. A plural argument has a value for each stage.

    Args:
        img_size: input size (height and width, or one for both) that the position bias is stored for. Other sizes work
            too; the bias is then resized in each forward pass.
        in_chans: channels of the input.
        depths: blocks.
        embed_dims: channels.
        num_heads: attention heads of OSRA.
        sr_ratios: strides of OSRA's reduction.
        kernel_sizes: sides of IDConv's kernels.
        num_groups: kernels in IDConv's banks.
        mlp_ratios: expansions of MS-FFN.
        drop_path_rate: stochastic depth of the last block; it grows to this linearly from 0 at the first.
        layer_scale_init_value: first value of LayerScale's weights.
        local_conv: what stands in IDConv's place (Table VII): "idconv", "dwconv", "window", "dyconv", "d_dwconv", or a
            class of your own, called with (dim, kernel_size), that keeps the shape.
        attn_ratio: share of the channels that OSRA gets (Table IX), one for all stages or four.
        ffn_scales: odd kernel sizes of MS-FFN, or () for the plain FFN (Table VIII).
        dpe: whether the blocks have a position encoding (Table X).
        spatial_reduction: "overlapping" or "non_overlapping" (Table X), or a class of your own, called with
            (dim, sr_ratio).
        token_enhancer: what stands in STE's place (Table X): "ste", "conv1x1", "none" or None, or a class of your own,
            called with (dim), that keeps the shape. ``timm.create_model`` leaves out options that are None, so there
            it has to be "none".

    Raises:
        ValueError: a plural argument without four values, or what the layers refuse.
        UserError: a value of one of the last six that is not accepted.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        depths: Sequence[int] = (3, 3, 9, 3),
        embed_dims: Sequence[int] = (48, 96, 224, 448),
        num_heads: Sequence[int] = (1, 2, 4, 8),
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        kernel_sizes: Sequence[int] = (7, 7, 7, 7),
        num_groups: Sequence[int] = (2, 2, 2, 2),
        mlp_ratios: Sequence[int] = (4, 4, 4, 4),
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-5,
        local_conv: str | Callable = "idconv",
        attn_ratio: float | Sequence[float] = 0.5,
        ffn_scales: Sequence[int] = (1, 3, 5, 7),
        dpe: bool = True,
        spatial_reduction: str | Callable = "overlapping",
        token_enhancer: str | Callable | None = "ste",
    ):
        super().__init__()
        check_per_stage(
            depths=depths,
            embed_dims=embed_dims,
            num_heads=num_heads,
            sr_ratios=sr_ratios,
            kernel_sizes=kernel_sizes,
            num_groups=num_groups,
            mlp_ratios=mlp_ratios,
        )
        check_positive(in_chans=in_chans, **{f"depths[{i}]": depth for i, depth in enumerate(depths)})
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        check_positive(height=height, width=width)
        attn_ratios = four_ratios(attn_ratio, embed_dims, num_heads)

        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.stages = nn.ModuleList()
        self.feature_info = []
        stride, in_dim = 1, in_chans
        drop_paths = stochastic_depths(drop_path_rate, depths)
        for i, (dim, sr_ratio) in enumerate(zip(embed_dims, sr_ratios, strict=True)):
            if i == 0:
                patch_embed, step = PatchEmbed(in_dim, dim, patch_size=7, stride=STEM_STRIDE), STEM_STRIDE
            else:
                patch_embed, step = PatchEmbed(in_dim, dim, patch_size=3, stride=2), 2
            stride, in_dim = stride * step, dim
            height, width = ceil(height / step), ceil(width / step)
            blocks = [
                Block(
                    dim,
                    num_heads=num_heads[i],
                    sr_ratio=sr_ratio,
                    kernel_size=kernel_sizes[i],
                    num_groups=num_groups[i],
                    mlp_ratio=mlp_ratios[i],
                    drop_path=next(drop_paths),
                    layer_scale_init_value=layer_scale_init_value,
                    local_conv=local_conv,
                    attn_ratio=attn_ratios[i],
                    ffn_scales=ffn_scales,
                    dpe=dpe,
                    spatial_reduction=spatial_reduction,
                    token_enhancer=token_enhancer,
                )
                for _ in range(depths[i])
            ]
            pos_bias = PositionBias(num_heads[i], height * width, ceil(height / sr_ratio) * ceil(width / sr_ratio))
            self.stages.append(Stage(patch_embed, blocks, pos_bias, sr_ratio))
            self.feature_info.append(dict(num_chs=dim, reduction=stride, module=f"stages.{i}"))
        self.apply(init_weights)


def four_ratios(attn_ratio: float | Sequence[float], dims: Sequence[int], heads: Sequence[int]) -> Sequence[float]:
    """Each stage's share of channels for attention, checked where it is one for all of them."""
    if isinstance(attn_ratio, Sequence) and not isinstance(attn_ratio, str):
        if len(attn_ratio) != 4:
            raise UserError(f"attn_ratio must be a number, or one for each of the four stages, got {attn_ratio!r}.")
        return attn_ratio
    if attn_ratio != 0.5:
        check_attn_ratio(attn_ratio, list(zip(dims, heads, strict=True)))
    return [attn_ratio] * 4


class TransXNet(ClassifierForm, Backbone):
    """The classification network (Fig. 3, Table I).

    Args:
        num_classes: outputs; with 0 there is no classifier and the pooled features come out.
        global_pool: "avg", another pooling of timm's, or "" for none (then ``num_classes`` must be 0).
        drop_rate: dropout before the classifier.
        **backbone: the arguments of :class:`Backbone`.

    Shapes:
        (B, in_chans, H, W) -> (B, num_classes), for any H and W from 32 up.

    Raises:
        ValueError: what :class:`Backbone` refuses.
    """

    def __init__(self, num_classes: int = 1000, global_pool: str = "avg", drop_rate: float = 0.0, **backbone: Any):
        super().__init__(**backbone)
        self.add_head(num_classes, global_pool, drop_rate)


class TransXNetFeatures(FeaturesForm, Backbone):
    """The dense-prediction form: each chosen stage's output through its own GroupNorm.

    Args:
        out_indices: the stages, 0 to 3, in ascending order; negative ones count from the end.
        **backbone: the arguments of :class:`Backbone`.

    Shapes:
        (B, in_chans, H, W) -> a list of (B, embed_dims[i], ceil(H / r), ceil(W / r)), r = 4, 8, 16, 32.

    Raises:
        ValueError: stages that do not exist or are not in order, and what :class:`Backbone` refuses.
    """

    def __init__(self, out_indices: Sequence[int] = (0, 1, 2, 3), **backbone: Any):
        super().__init__(**backbone)
        self.add_norms(out_indices)


def cfg(url: str = "", **kwargs: Any) -> dict:
    """timm's configuration of a network, where it is not another one's."""
    return {
        "url": url,
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stages.0.patch_embed.conv",
        "classifier": "head.fc",
        "paper_ids": "arXiv:2310.19380",
        "paper_name": "TransXNet: Learning Both Global and Local Dynamics with a Dual Dynamic Token Mixer for Visual "
        "Recognition",
        "origin_url": "https://github.com/LMMMEng/TransXNet",
        "license": "apache-2.0",
        **kwargs,
    }


_RELEASE = "https://github.com/LMMMEng/TransXNet/releases/download/v1.0/"

default_cfgs = generate_default_cfgs(
    {
        "transxnet_n.untrained": cfg(origin_url="", paper_ids="", paper_name=""),
        "transxnet_t.in1k": cfg(_RELEASE + "transx-t.pth.tar"),
        "transxnet_s.in1k": cfg(_RELEASE + "transx-s.pth.tar"),
        "transxnet_b.in1k": cfg(_RELEASE + "transx-b.pth.tar", crop_pct=0.95),
        "transxnet_b.in1k_384": cfg(
            _RELEASE + "transx-b-384.pth.tar", input_size=(3, 384, 384), pool_size=(12, 12), crop_pct=0.95
        ),
    }
)


def create_variant(
    variant: str,
    pretrained: bool,
    cache_dir: str | None = None,
    forms: tuple[type[FourStages], type[FourStages]] = (TransXNet, TransXNetFeatures),
    **kwargs: Any,
) -> Any:
    """What timm's entry points do: make a network, its classifier or its dense form, and load weights if asked to."""
    features_only = kwargs.pop("features_only", False)
    model = build_model_with_cfg(
        forms[features_only],
        variant,
        pretrained=False,  # loaded below, where every tensor is accounted for
        kwargs_filter=("num_classes", "global_pool") if features_only else None,
        **kwargs,
    )
    if pretrained:
        load_pretrained(model, model.pretrained_cfg, cache_dir)
    return model


@register_model
def transxnet_n(pretrained: bool = False, **kwargs: Any) -> Backbone:
    """Nano, ours and not the paper's: for small machines and fast demonstrations. No published weights."""
    # Short trainings have no time for branches that start from 1e-5.
    arch = dict(depths=(2, 2, 4, 2), embed_dims=(32, 64, 128, 256), num_heads=(1, 2, 4, 8), layer_scale_init_value=0.1)
    return create_variant("transxnet_n", pretrained, **(arch | kwargs))


@register_model
def transxnet_t(pretrained: bool = False, **kwargs: Any) -> Backbone:
    """Tiny (Table I): 12.8 M parameters, 1.8 G multiply-adds at 224x224."""
    return create_variant("transxnet_t", pretrained, **kwargs)


@register_model
def transxnet_s(pretrained: bool = False, **kwargs: Any) -> Backbone:
    """Small (Table I): 26.9 M parameters, 4.5 G multiply-adds at 224x224."""
    arch = dict(
        depths=(4, 4, 12, 4),
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        num_groups=(2, 2, 3, 4),
        mlp_ratios=(6, 6, 4, 4),
    )
    return create_variant("transxnet_s", pretrained, **(arch | kwargs))


@register_model
def transxnet_b(pretrained: bool = False, **kwargs: Any) -> Backbone:
    """Base (Table I): 48.0 M parameters, 8.3 G multiply-adds at 224x224."""
    arch = dict(
        depths=(4, 4, 21, 4),
        embed_dims=(76, 152, 336, 672),
        num_heads=(2, 4, 8, 16),
        num_groups=(2, 2, 4, 4),
        mlp_ratios=(8, 8, 4, 4),
    )
    return create_variant("transxnet_b", pretrained, **(arch | kwargs))
