"""TransXNet.

Paper: "TransXNet: Learning Both Global and Local Dynamics with a Dual Dynamic Token Mixer for Visual Recognition",
Meng Lou et al., https://arxiv.org/abs/2310.19380

The file follows Fig. 3 and Table I: the four stages, the classification network, its dense-prediction form, the
variants. Stages are in :mod:`transxnet.models.four_stages`, blocks in :mod:`transxnet.layers.block`, and timm's
interface, such as intermediates and replaced classifiers, in :mod:`transxnet.models.timm_api`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from transxnet.layers import Block, PatchEmbed
from transxnet.layers.checks import check_attn_ratio
from transxnet.models.four_stages import STRIDES, FourStages, check_per_stage
from transxnet.models.timm_api import ClassifierForm, FeaturesForm, cfg, create_network
from transxnet.utils.errors import UserError


class Backbone(FourStages):
    """The four stages, without head. A plural argument has one value for each stage.

    Args:
        img_size: input size (height and width, or one for both) for which the position bias is stored. Other sizes work
            too; the bias is then resized in each forward pass.
        in_chans: input channels.
        depths: number of blocks.
        embed_dims: channels.
        num_heads: attention heads of OSRA.
        sr_ratios: strides of OSRA's reduction.
        kernel_sizes: sides of IDConv's kernels.
        num_groups: kernels in IDConv's banks.
        mlp_ratios: expansions of MS-FFN.
        drop_path_rate: stochastic depth rate of the last block; it increases linearly from 0 at the first.
        layer_scale_init_value: initial weight of LayerScale.
        local_conv: the local convolution (Table VII): "idconv", "dwconv", "window", "dyconv", "d_dwconv", or a class of
            your own, called with (dim, kernel_size), that keeps the shape.
        attn_ratio: fraction of the channels for OSRA (Table IX), one for all stages or four.
        ffn_scales: odd kernel sizes of MS-FFN, or () for the plain FFN (Table VIII).
        dpe: whether the blocks have a position encoding (Table X).
        spatial_reduction: "overlapping" or "non_overlapping" (Table X), or a class of your own, called with
            (dim, sr_ratio).
        token_enhancer: the token enhancer (Table X): "ste", "conv1x1", "none" or None, or a class of your own, called
            with (dim), that keeps the shape. ``timm.create_model`` drops options that are None, so use "none" there.

    Raises:
        ValueError: a plural argument without four values, or an argument that the layers reject.
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
        attn_ratios = resolve_attn_ratios(attn_ratio, embed_dims, num_heads)

        def make_patch_embed(stage: int, in_dim: int) -> nn.Module:
            return PatchEmbed(in_dim, embed_dims[stage], patch_size=7 if stage == 0 else 3, stride=STRIDES[stage])

        def make_block(stage: int, index: int, drop_path: float) -> nn.Module:
            return Block(
                embed_dims[stage],
                num_heads=num_heads[stage],
                sr_ratio=sr_ratios[stage],
                kernel_size=kernel_sizes[stage],
                num_groups=num_groups[stage],
                mlp_ratio=mlp_ratios[stage],
                drop_path=drop_path,
                layer_scale_init_value=layer_scale_init_value,
                local_conv=local_conv,
                attn_ratio=attn_ratios[stage],
                ffn_scales=ffn_scales,
                dpe=dpe,
                spatial_reduction=spatial_reduction,
                token_enhancer=token_enhancer,
            )

        self.add_stages(make_patch_embed, make_block, img_size, in_chans, depths, embed_dims, sr_ratios, drop_path_rate)


def resolve_attn_ratios(
    attn_ratio: float | Sequence[float], dims: Sequence[int], heads: Sequence[int]
) -> Sequence[float]:
    """Each stage's fraction of channels for attention; a single value is checked for all stages."""
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
        num_classes: number of outputs; 0 for no classifier, which returns the pooled features.
        global_pool: "avg", another of timm's poolings, or "" for none (then ``num_classes`` must be 0).
        drop_rate: dropout rate before the classifier.
        **backbone: arguments of :class:`Backbone`.

    Shapes:
        (B, in_chans, H, W) -> (B, num_classes), for any H and W from 32 up.

    Raises:
        ValueError: an argument that :class:`Backbone` rejects.
    """


class TransXNetFeatures(FeaturesForm, Backbone):
    """The dense-prediction form: each selected stage's output with its own GroupNorm.

    Args:
        out_indices: the stages, 0 to 3, negative ones counted from the end; or the number of last ones. The outputs are
            in the order of the stages.
        **backbone: arguments of :class:`Backbone`.

    Shapes:
        (B, in_chans, H, W) -> a list of (B, embed_dims[i], ceil(H / r), ceil(W / r)), r = 4, 8, 16, 32.

    Raises:
        ValueError: stages that do not exist, a stage twice, or an argument that :class:`Backbone` rejects.
    """


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


def _create_transxnet(variant: str, pretrained: bool, **kwargs: Any) -> Any:
    return create_network(TransXNet, TransXNetFeatures, variant, pretrained, **kwargs)


@register_model
def transxnet_n(pretrained: bool = False, **kwargs: Any) -> Backbone:
    """Nano, not in the paper: for small machines and quick demonstrations. No published weights."""
    # Short training is not enough for branches with an initial scale of 1e-5.
    arch = dict(depths=(2, 2, 4, 2), embed_dims=(32, 64, 128, 256), num_heads=(1, 2, 4, 8), layer_scale_init_value=0.1)
    return _create_transxnet("transxnet_n", pretrained, **(arch | kwargs))


@register_model
def transxnet_t(pretrained: bool = False, **kwargs: Any) -> Backbone:
    """Tiny (Table I): 12.8 M parameters, 1.8 G MACs at 224x224."""
    return _create_transxnet("transxnet_t", pretrained, **kwargs)


@register_model
def transxnet_s(pretrained: bool = False, **kwargs: Any) -> Backbone:
    """Small (Table I): 26.9 M parameters, 4.5 G MACs at 224x224."""
    arch = dict(
        depths=(4, 4, 12, 4),
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        num_groups=(2, 2, 3, 4),
        mlp_ratios=(6, 6, 4, 4),
    )
    return _create_transxnet("transxnet_s", pretrained, **(arch | kwargs))


@register_model
def transxnet_b(pretrained: bool = False, **kwargs: Any) -> Backbone:
    """Base (Table I): 48.0 M parameters, 8.3 G MACs at 224x224."""
    arch = dict(
        depths=(4, 4, 21, 4),
        embed_dims=(76, 152, 336, 672),
        num_heads=(2, 4, 8, 16),
        num_groups=(2, 2, 4, 4),
        mlp_ratios=(8, 8, 4, 4),
    )
    return _create_transxnet("transxnet_b", pretrained, **(arch | kwargs))
