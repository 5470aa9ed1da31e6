"""The network in which the paper compares token mixers (Sec. IV-D, Tables VI and XII).

"We adjust the tiny model to a similar style as Swin-T, i.e., setting the numbers of blocks and channels in the four
stages to [2,2,6,2] and [64,128,256,512], respectively, and using non-overlapping patch embedding and vanilla FFN." So
what this sentence does not name stays as in TransXNet-T: position encoding, GroupNorm, LayerScale, the head.
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
    """What a token mixer is made with.

    Attributes:
        dim: channels.
        num_heads: attention heads that share them.
        half_heads: attention heads that share half of them.
        sr_ratio: stride of a spatial reduction.
        window_size: side of windows.
        shift: by which windows are moved: by half their side in every second block.
    """

    dim: int
    num_heads: int
    half_heads: int
    sr_ratio: int
    window_size: int
    shift: int


# Mixers whose attention sees half of the channels have half of the heads, so that a head has as many everywhere.
TOKEN_MIXERS: dict[str | None, Callable[[MixerArgs], nn.Module]] = {
    "d_mixer": lambda args: DMixer(args.dim, args.half_heads, args.sr_ratio),
    "sep_conv": lambda args: SepConv(args.dim),
    "sra": lambda args: SRA(args.dim, args.num_heads, args.sr_ratio),
    "shifted_window": lambda args: ShiftedWindowAttention(args.dim, args.num_heads, args.window_size, args.shift),
    "mixing_block": lambda args: MixingBlock(args.dim, args.half_heads, args.window_size),
    "acmix": lambda args: ACmix(args.dim, args.num_heads, args.window_size, args.shift),
}


class SwinStyleBackbone(FourStages):
    """The four stages, without what comes after them. A plural argument has a value for each stage.

    Args:
        token_mixer: "d_mixer", "sep_conv", "sra", "shifted_window", "mixing_block", "acmix", or a class of your own,
            called with (dim, num_heads), that keeps the shape (B, C, H, W).
        img_size: input size (height and width, or one for both) that D-Mixer's position bias is stored for.
        in_chans: channels of the input.
        depths: blocks.
        embed_dims: channels.
        head_dim: channels of an attention head, in every mixer. 32 is Swin's; the paper's text gives none.
        sr_ratios: strides of the spatial reduction of D-Mixer and SRA.
        window_size: side of the windows of the mixers that have some, 7 as in their papers.
        mlp_ratios: expansions of the FFN.
        drop_path_rate: stochastic depth of the last block; it grows to this linearly from 0 at the first.
        layer_scale_init_value: first value of LayerScale's weights.
        dpe: whether the blocks have a position encoding. It is part of TransXNet-T, and not among what the paper
            changes for this comparison, so it is there for every mixer.

    Raises:
        ValueError: a plural argument without four values, or what the layers refuse.
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
            # Twice, for the mixers whose attention sees half of the channels.
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
    """Make the token mixer of this name, or of a user's class."""
    mixer = resolve_part("token_mixer", token_mixer, TOKEN_MIXERS, "dim, num_heads")
    return mixer(args.dim, args.num_heads) if is_custom_part(token_mixer) else mixer(args)


class SwinStyle(ClassifierForm, SwinStyleBackbone):
    """The classification network; its arguments are those of the two base classes."""


class SwinStyleFeatures(FeaturesForm, SwinStyleBackbone):
    """The dense-prediction network; its arguments are those of the two base classes."""


default_cfgs = generate_default_cfgs({"transxnet_swin_style.untrained": cfg()})


@register_model
def transxnet_swin_style(pretrained: bool = False, **kwargs: Any) -> SwinStyleBackbone:
    """The network of Tables VI and XII; its option ``token_mixer`` is what they compare. No published weights."""
    return create_network(SwinStyle, SwinStyleFeatures, "transxnet_swin_style", pretrained, **kwargs)
