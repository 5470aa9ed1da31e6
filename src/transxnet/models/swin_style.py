"""The network of the paper's comparison of token mixers (Sec. IV-D, Tables VI and XII).

"We adjust the tiny model to a similar style as Swin-T, i.e., setting the numbers of blocks and channels in the four
stages to [2,2,6,2] and [64,128,256,512], respectively, and using non-overlapping patch embedding and vanilla FFN."
Everything else stays as in TransXNet-T: position encoding, GroupNorm, LayerScale, the head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

from transxnet.layers import DPE, DMixer
from transxnet.layers.block import ResidualBlock
from transxnet.layers.checks import check_bool, check_divisible, check_positive, is_custom_part, resolve_part
from transxnet.layers.compared import (
    FFN,
    SRA,
    ACmix,
    MixingBlock,
    NonOverlappingPatchEmbed,
    SepConv,
    ShiftedWindowAttention,
)
from transxnet.models.four_stages import STRIDES, FourStages, check_per_stage
from transxnet.models.timm_api import ClassifierForm, FeaturesForm, cfg, create_network


@dataclass(frozen=True)
class MixerArgs:
    """Arguments of a token mixer.

    Attributes:
        dim: channels.
        num_heads: number of attention heads for all channels.
        half_heads: number of attention heads for half of the channels.
        sr_ratio: stride of a spatial reduction.
        window_size: side of windows.
        shift: shift of windows: half their side in every second block.
    """

    dim: int
    num_heads: int
    half_heads: int
    sr_ratio: int
    window_size: int
    shift: int


# Mixers that attend to half of the channels have half of the heads, so that all heads have the same size.
TOKEN_MIXERS: dict[str | None, Callable[[MixerArgs], nn.Module]] = {
    "d_mixer": lambda args: DMixer(args.dim, args.half_heads, args.sr_ratio),
    "sep_conv": lambda args: SepConv(args.dim),
    "sra": lambda args: SRA(args.dim, args.num_heads, args.sr_ratio),
    "shifted_window": lambda args: ShiftedWindowAttention(args.dim, args.num_heads, args.window_size, args.shift),
    "mixing_block": lambda args: MixingBlock(args.dim, args.half_heads, args.window_size),
    "acmix": lambda args: ACmix(args.dim, args.num_heads, args.window_size, args.shift),
}


class SwinStyleBackbone(FourStages):
    """The four stages, without head. A plural argument has one value for each stage.

    Args:
        token_mixer: "d_mixer", "sep_conv", "sra", "shifted_window", "mixing_block", "acmix", or a class of your own,
            called with (dim, num_heads), that keeps the shape (B, C, H, W).
        img_size: input size (height and width, or one for both) for which D-Mixer's position bias is stored.
        in_chans: input channels.
        depths: number of blocks.
        embed_dims: channels.
        head_dim: channels of an attention head, in every mixer. 32 as in Swin; the paper does not specify it.
        sr_ratios: strides of the spatial reduction of D-Mixer and SRA.
        window_size: side of the windows of the mixers with windows, 7 as in their papers.
        mlp_ratios: expansions of the FFN.
        drop_path_rate: stochastic depth rate of the last block; it increases linearly from 0 at the first.
        layer_scale_init_value: initial weight of LayerScale.
        dpe: whether the blocks have a position encoding. TransXNet-T has one, and the paper does not mention a change
            for this comparison, so by default all mixers use it.

    Raises:
        ValueError: a plural argument without four values, or an argument that the layers reject.
        UserError: another token_mixer or dpe.
    """

    def __init__(
        self,
        token_mixer: str | Callable = "d_mixer",
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        depths: Sequence[int] = (2, 2, 6, 2),
        embed_dims: Sequence[int] = (64, 128, 256, 512),
        head_dim: int = 32,
        sr_ratios: Sequence[int] = (8, 4, 2, 1),
        window_size: int = 7,
        mlp_ratios: Sequence[int] = (4, 4, 4, 4),
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-5,
        dpe: bool = True,
    ):
        super().__init__()
        check_bool(dpe=dpe)
        check_per_stage(depths=depths, embed_dims=embed_dims, sr_ratios=sr_ratios, mlp_ratios=mlp_ratios)
        check_positive(head_dim=head_dim, window_size=window_size)
        for i, dim in enumerate(embed_dims):
            # Twice, for mixers that attend to half of the channels.
            check_divisible(f"embed_dims[{i}]", dim, "2 head_dim", 2 * head_dim)

        def make_patch_embed(stage: int, in_dim: int) -> nn.Module:
            return NonOverlappingPatchEmbed(in_dim, embed_dims[stage], STRIDES[stage])

        def make_block(stage: int, index: int, drop_path: float) -> nn.Module:
            dim = embed_dims[stage]
            heads, shift = dim // head_dim, index % 2 * (window_size // 2)
            mixer = make_mixer(token_mixer, MixerArgs(dim, heads, heads // 2, sr_ratios[stage], window_size, shift))
            return ResidualBlock(
                dim,
                mixer=mixer,
                dpe=DPE(dim) if dpe else nn.Identity(),
                ffn=FFN(dim, mlp_ratios[stage]),
                drop_path=drop_path,
                layer_scale_init_value=layer_scale_init_value,
            )

        self.add_stages(make_patch_embed, make_block, img_size, in_chans, depths, embed_dims, sr_ratios, drop_path_rate)


def make_mixer(token_mixer: str | Callable, args: MixerArgs) -> nn.Module:
    """Create a token mixer by name, or from a user's class."""
    mixer = resolve_part("token_mixer", token_mixer, TOKEN_MIXERS, "dim, num_heads")
    return mixer(args.dim, args.num_heads) if is_custom_part(token_mixer) else mixer(args)


class SwinStyle(ClassifierForm, SwinStyleBackbone):
    """The classification network; its arguments are those of the two base classes."""


class SwinStyleFeatures(FeaturesForm, SwinStyleBackbone):
    """The dense-prediction network; its arguments are those of the two base classes."""


default_cfgs = generate_default_cfgs({"transxnet_swin_style.untrained": cfg()})


@register_model
def transxnet_swin_style(pretrained: bool = False, **kwargs: Any) -> SwinStyleBackbone:
    """The network of Tables VI and XII, which compare values of ``token_mixer``. No published weights."""
    return create_network(SwinStyle, SwinStyleFeatures, "transxnet_swin_style", pretrained, **kwargs)
