"""TransXNet.

Paper: "TransXNet: Learning Both Global and Local Dynamics with a Dual Dynamic Token Mixer for Visual Recognition",
Meng Lou et al., https://arxiv.org/abs/2310.19380

The file reads like Fig. 3 and Table I: a stage, the network of four of them, its dense-prediction form, the variants.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead
from timm.models import FeatureInfo, build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from transxnet.layers import Block, PatchEmbed, PositionBias
from transxnet.layers.checks import check_positive
from transxnet.models.checkpoints import load_pretrained
from transxnet.models.recompute import checkpoint_block

STEM_STRIDE = 4


class Stage(nn.Module):
    """A patch embedding and the blocks that follow it, which share one position bias (Fig. 3).

    Args:
        patch_embed: what makes this stage's tokens: the stem, or the downsampling from the stage before.
        blocks: the stage's blocks.
        pos_bias: the position bias of all of them.
        sr_ratio: stride of their OSRA, which decides how many keys there are.

    Shapes:
        (B, C_in, H, W) -> (B, C, ceil(H / stride), ceil(W / stride)) with the embedding's stride.
    """

    def __init__(self, patch_embed: PatchEmbed, blocks: Sequence[Block], pos_bias: PositionBias, sr_ratio: int):
        super().__init__()
        self.patch_embed = patch_embed
        self.pos_bias = pos_bias
        self.blocks = nn.ModuleList(blocks)
        self.sr_ratio = sr_ratio
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        height, width = x.shape[2:]
        pos_bias = self.pos_bias(height * width, ceil(height / self.sr_ratio) * ceil(width / self.sr_ratio))
        for block in self.blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint_block(block, x, pos_bias)
            else:
                x = block(x, pos_bias)
        return x


class Backbone(nn.Module):
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

    Raises:
        ValueError: a plural argument without four values, or what the layers refuse.
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
    ):
        super().__init__()
        per_stage = dict(
            depths=depths,
            embed_dims=embed_dims,
            num_heads=num_heads,
            sr_ratios=sr_ratios,
            kernel_sizes=kernel_sizes,
            num_groups=num_groups,
            mlp_ratios=mlp_ratios,
        )
        for name, values in per_stage.items():
            if len(values) != 4:
                raise ValueError(f"{name} must hold a value for each of the four stages, got {tuple(values)}")
        check_positive(in_chans=in_chans, **{f"depths[{i}]": depth for i, depth in enumerate(depths)})
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        check_positive(height=height, width=width)

        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.stages = nn.ModuleList()
        self.feature_info = []
        stride, in_dim = 1, in_chans
        drop_paths = iter(torch.linspace(0, drop_path_rate, sum(depths), dtype=torch.float64, device="cpu").tolist())
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
                )
                for _ in range(depths[i])
            ]
            pos_bias = PositionBias(num_heads[i], height * width, ceil(height / sr_ratio) * ceil(width / sr_ratio))
            self.stages.append(Stage(patch_embed, blocks, pos_bias, sr_ratio))
            self.feature_info.append(dict(num_chs=dim, reduction=stride, module=f"stages.{i}"))
        self.apply(init_weights)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only each block's input for the backward pass and compute the rest again: less memory, more time."""
        for stage in self.stages:
            stage.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict:
        """Patterns that sort the parameters into layers from the input up, for layer-wise rates."""
        return dict(
            stem=r"^stages\.0\.patch_embed",
            blocks=r"^stages\.(\d+)"
            if coarse
            else [
                (r"^stages\.(\d+)\.(?:patch_embed|pos_bias)", (0,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^norms?\.", (99999,)),
            ],
        )

    def no_weight_decay(self) -> set[str]:
        """Parameters with two or more dimensions that weight decay would pull to zero without reason: biases."""
        return {name for name, _ in self.named_parameters() if name.endswith(("pos_bias.weight", "idconv.bias"))}


class TransXNet(Backbone):
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
        self.num_classes = num_classes
        self.norm = nn.GroupNorm(1, self.num_features)
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        self.head.apply(init_weights)

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised features of the last stage: (B, in_chans, H, W) -> (B, num_features, ⌈H/32⌉, ⌈W/32⌉)."""
        for stage in self.stages:
            x = stage(x)
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify: (B, num_features, H', W') -> (B, num_classes), or with pre_logits (B, num_features)."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The outputs of chosen stages, and the final features.

        Args:
            x: (B, in_chans, H, W).
            indices: stages 0 to 3, or how many of the last ones, or None for all.
            norm: apply the final norm to the last stage's output, the only one that it fits.
            stop_early: compute no stage after the last that is asked for.
            output_fmt: "NCHW".
            intermediates_only: leave the final features out.

        Returns:
            The stages' outputs (B, C, H', W') in order, preceded by the final features unless left out.

        Raises:
            ValueError: another output_fmt.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        take, last = feature_take_indices(len(self.stages), indices)
        intermediates = []
        for i, stage in enumerate(self.stages[: last + 1] if stop_early else self.stages):
            x = stage(x)
            if i in take:
                intermediates.append(self.norm(x) if norm and i == len(self.stages) - 1 else x)
        if intermediates_only:
            return intermediates
        return (self.norm(x) if i == len(self.stages) - 1 else x), intermediates

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last of ``indices``; on request the final norm and the head too."""
        take, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[: last + 1]
        if prune_norm or last + 1 < len(self.feature_info):
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return take

    def get_classifier(self) -> nn.Module:
        """The layer that maps pooled features to classes."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one, and on request the pooling before it."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)


class TransXNetFeatures(Backbone):
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
        taken = [i + 4 if i < 0 else i for i in out_indices]
        if not taken or taken != sorted(set(taken) & set(range(4))):
            raise ValueError(f"out_indices must be stages from 0 to 3 in ascending order, got {tuple(out_indices)}")
        self.num_classes = 0
        self.stages = self.stages[: taken[-1] + 1]
        self.norms = nn.ModuleDict({str(i): nn.GroupNorm(1, self.feature_info[i]["num_chs"]) for i in taken})
        self.feature_info = FeatureInfo(self.feature_info, taken)
        self.out_indices = tuple(taken)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                features.append(self.norms[str(i)](x))
        return features


def init_weights(module: nn.Module) -> None:
    """Weights of convolutions and linear layers from a truncated normal of std 0.02, their biases zero."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _cfg(url: str = "", **kwargs: Any) -> dict:
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
        "transxnet_n.untrained": _cfg(origin_url="", paper_ids="", paper_name=""),
        "transxnet_t.in1k": _cfg(_RELEASE + "transx-t.pth.tar"),
        "transxnet_s.in1k": _cfg(_RELEASE + "transx-s.pth.tar"),
        "transxnet_b.in1k": _cfg(_RELEASE + "transx-b.pth.tar", crop_pct=0.95),
        "transxnet_b.in1k_384": _cfg(
            _RELEASE + "transx-b-384.pth.tar", input_size=(3, 384, 384), pool_size=(12, 12), crop_pct=0.95
        ),
    }
)


def _create(variant: str, pretrained: bool, cache_dir: str | None = None, **kwargs: Any) -> Backbone:
    features_only = kwargs.pop("features_only", False)
    model = build_model_with_cfg(
        TransXNetFeatures if features_only else TransXNet,
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
    return _create("transxnet_n", pretrained, **(arch | kwargs))


@register_model
def transxnet_t(pretrained: bool = False, **kwargs: Any) -> Backbone:
    """Tiny (Table I): 12.8 M parameters, 1.8 G multiply-adds at 224x224."""
    return _create("transxnet_t", pretrained, **kwargs)


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
    return _create("transxnet_s", pretrained, **(arch | kwargs))


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
    return _create("transxnet_b", pretrained, **(arch | kwargs))
