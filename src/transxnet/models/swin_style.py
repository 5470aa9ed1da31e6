"""The network in which the paper compares token mixers (Sec. IV-D, Tables VI and XII).

"We adjust the tiny model to a similar style as Swin-T, i.e., setting the numbers of blocks and channels in the four
stages to [2,2,6,2] and [64,128,256,512], respectively, and using non-overlapping patch embedding and vanilla FFN." So
what this sentence does not name stays as in TransXNet-T: position encoding, GroupNorm, LayerScale, the head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from timm.layers import DropPath
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from transxnet.layers import DPE, DMixer, LayerScale, PositionBias
from transxnet.layers.checks import check_bool, check_divisible, check_positive, known_part, own_part
from transxnet.layers.compared import (
    FFN,
    SRA,
    ACmix,
    MixingBlock,
    NonOverlappingPatchEmbed,
    SepConv,
    ShiftedWindowAttention,
)
from transxnet.models.timm_api import (
    ClassifierForm,
    FeaturesForm,
    FourStages,
    check_per_stage,
    init_weights,
    stochastic_depths,
)
from transxnet.models.transxnet import STEM_STRIDE, Stage, cfg, create_variant


@dataclass(frozen=True)
class Place:
    """Where a token mixer stands.

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
TOKEN_MIXERS: dict[str | None, Callable[[Place], nn.Module]] = {
    "d_mixer": lambda at: DMixer(at.dim, at.half_heads, at.sr_ratio),
    "sep_conv": lambda at: SepConv(at.dim),
    "sra": lambda at: SRA(at.dim, at.num_heads, at.sr_ratio),
    "shifted_window": lambda at: ShiftedWindowAttention(at.dim, at.num_heads, at.window_size, at.shift),
    "mixing_block": lambda at: MixingBlock(at.dim, at.half_heads, at.window_size),
    "acmix": lambda at: ACmix(at.dim, at.num_heads, at.window_size, at.shift),
}


class SwinStyleBlock(nn.Module):
    """:class:`~transxnet.layers.Block` with another token mixer and the plain FFN.

    Args:
        dim: channels C.
        mixer: the token mixer; it keeps the shape.
        mlp_ratio: expansion of the FFN.
        drop_path: rate at which training drops a residual branch of a sample.
        layer_scale_init_value: first value of LayerScale's weights.
        dpe: whether there is a position encoding.

    Shapes:
        x (B, C, H, W), pos_bias, if the mixer takes one, or None -> (B, C, H, W).
    """

    def __init__(
        self, dim: int, mixer: nn.Module, mlp_ratio: int, drop_path: float, layer_scale_init_value: float, dpe: bool
    ):
        super().__init__()
        self.dpe = DPE(dim) if dpe else nn.Identity()
        self.norm1 = nn.GroupNorm(1, dim)
        self.mixer = mixer
        self.scale1 = LayerScale(dim, layer_scale_init_value)
        self.norm2 = nn.GroupNorm(1, dim)
        self.ffn = FFN(dim, mlp_ratio)
        self.scale2 = LayerScale(dim, layer_scale_init_value)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, pos_bias: Tensor | None = None) -> Tensor:
        x = self.dpe(x)
        normalised = self.norm1(x)
        mixed = self.mixer(normalised) if pos_bias is None else self.mixer(normalised, pos_bias)
        x = x + self.drop_path(self.scale1(mixed))
        return x + self.drop_path(self.scale2(self.ffn(self.norm2(x))))


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
        check_positive(in_chans=in_chans, head_dim=head_dim, window_size=window_size)
        check_positive(**{f"depths[{i}]": depth for i, depth in enumerate(depths)})
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        check_positive(height=height, width=width)

        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.stages = nn.ModuleList()
        self.feature_info = []
        stride, in_dim = 1, in_chans
        drop_paths = stochastic_depths(drop_path_rate, depths)
        for i, (dim, sr_ratio) in enumerate(zip(embed_dims, sr_ratios, strict=True)):
            # Twice, for the mixers whose attention sees half of the channels.
            check_divisible(f"embed_dims[{i}]", dim, "2 head_dim", 2 * head_dim)
            step = STEM_STRIDE if i == 0 else 2
            patch_embed = NonOverlappingPatchEmbed(in_dim, dim, step)
            stride, in_dim = stride * step, dim
            height, width = ceil(height / step), ceil(width / step)
            blocks = []
            for j in range(depths[i]):
                heads, shift = dim // head_dim, j % 2 * (window_size // 2)
                mixer = make_mixer(token_mixer, Place(dim, heads, heads // 2, sr_ratio, window_size, shift))
                rate = next(drop_paths)
                blocks.append(SwinStyleBlock(dim, mixer, mlp_ratios[i], rate, layer_scale_init_value, dpe))
            pos_bias = None
            if isinstance(blocks[0].mixer, DMixer):
                keys = ceil(height / sr_ratio) * ceil(width / sr_ratio)
                pos_bias = PositionBias(blocks[0].mixer.osra.num_heads, height * width, keys)
            self.stages.append(Stage(patch_embed, blocks, pos_bias, sr_ratio))
            self.feature_info.append(dict(num_chs=dim, reduction=stride, module=f"stages.{i}"))
        self.apply(init_weights)


def make_mixer(token_mixer: str | Callable, place: Place) -> nn.Module:
    """The token mixer of this name, or of the user's class, for this place."""
    if own_part(token_mixer):
        return token_mixer(place.dim, place.num_heads)
    return known_part("token_mixer", token_mixer, TOKEN_MIXERS, "dim, num_heads")(place)


class SwinStyle(ClassifierForm, SwinStyleBackbone):
    """The classification network.

    Args:
        num_classes: outputs; with 0 there is no classifier and the pooled features come out.
        global_pool: "avg", another pooling of timm's, or "" for none (then ``num_classes`` must be 0).
        drop_rate: dropout before the classifier.
        **backbone: the arguments of :class:`SwinStyleBackbone`.

    Shapes:
        (B, in_chans, H, W) -> (B, num_classes), for any H and W.

    Raises:
        ValueError: what :class:`SwinStyleBackbone` refuses, as a UserError where it does.
    """

    def __init__(self, num_classes: int = 1000, global_pool: str = "avg", drop_rate: float = 0.0, **backbone: Any):
        super().__init__(**backbone)
        self.add_head(num_classes, global_pool, drop_rate)


class SwinStyleFeatures(FeaturesForm, SwinStyleBackbone):
    """The dense-prediction form: each chosen stage's output through its own GroupNorm.

    Args:
        out_indices: the stages, 0 to 3, in ascending order; negative ones count from the end.
        **backbone: the arguments of :class:`SwinStyleBackbone`.

    Shapes:
        (B, in_chans, H, W) -> a list of (B, embed_dims[i], ceil(H / r), ceil(W / r)), r = 4, 8, 16, 32.

    Raises:
        ValueError: stages that do not exist or are not in order, and what :class:`SwinStyleBackbone` refuses.
    """

    def __init__(self, out_indices: Sequence[int] = (0, 1, 2, 3), **backbone: Any):
        super().__init__(**backbone)
        self.add_norms(out_indices)


default_cfgs = generate_default_cfgs({"transxnet_swin_style.untrained": cfg()})


@register_model
def transxnet_swin_style(pretrained: bool = False, **kwargs: Any) -> SwinStyleBackbone:
    """The network of Tables VI and XII; its option ``token_mixer`` is what they compare. No published weights."""
    return create_variant("transxnet_swin_style", pretrained, forms=(SwinStyle, SwinStyleFeatures), **kwargs)
