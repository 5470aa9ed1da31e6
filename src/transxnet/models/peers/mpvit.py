"""MPViT.

Paper: "MPViT: Multi-Path Vision Transformer for Dense Prediction", Youngwan Lee et al.,
https://arxiv.org/abs/2112.11010

Each stage has a local branch of convolutions and several paths of transformer blocks, whose inputs have receptive
fields of 3x3, 5x5 and 7x7. Attention is factorized as in CoaT (https://arxiv.org/abs/2104.06399). Written from the
papers, with the tensor names of the authors' checkpoints.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers import DropPath, Mlp
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from transxnet.layers.checks import check_divisible
from transxnet.models.four_stages import check_per_stage, drop_path_rates
from transxnet.models.peers.peer_network import Blocks, PeerNetwork, create_peer, peer_cfg

NUM_HEADS = 8
HEADS_PER_KERNEL = {3: 2, 5: 3, 7: 3}
"""Kernel size of the relative position convolution -> number of heads that use it."""


class ConvBNAct(nn.Module):
    """A convolution without bias, BatchNorm, and by default hard swish.

    Shapes:
        (B, in_dim, H, W) -> (B, dim, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_dim: int, dim: int, kernel_size: int = 1, stride: int = 1, act: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, kernel_size, stride, kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(dim)
        self.act = nn.Hardswish() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class SeparablePatchEmbed(nn.Module):
    """Depthwise 3x3 and 1x1 convolution, BatchNorm and hard swish.

    Shapes:
        (B, dim, H, W) -> (B, dim, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, dim: int, stride: int = 1):
        super().__init__()
        self.patch_conv = nn.ModuleDict(
            dict(
                dwconv=nn.Conv2d(dim, dim, 3, stride, 1, groups=dim, bias=False),
                pwconv=nn.Conv2d(dim, dim, 1, bias=False),
                bn=nn.BatchNorm2d(dim),
                act=nn.Hardswish(),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.patch_conv.values():
            x = layer(x)
        return x


class MultiScalePatchEmbed(nn.Module):
    """A chain of patch embeddings, one for each path: n of them have the receptive field of a (2 n + 1)^2 kernel.

    Shapes:
        (B, dim, H, W) -> a list of num_paths maps (B, dim, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, dim: int, num_paths: int, stride: int):
        super().__init__()
        self.patch_embeds = nn.ModuleList(SeparablePatchEmbed(dim, stride if n == 0 else 1) for n in range(num_paths))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for embed in self.patch_embeds:
            x = embed(x)
            outputs.append(x)
        return outputs


class ConvPositionEncoding(nn.Module):
    """Depthwise 3x3 convolution added to its input.

    Shapes:
        (B, dim, H, W) -> the same.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.proj(x)


class ConvRelativePosition(nn.Module):
    """Depthwise convolutions of the values, with larger kernels in later heads.

    Shapes:
        (B, dim, H, W) -> the same.
    """

    def __init__(self, dim: int):
        super().__init__()
        head_dim = dim // NUM_HEADS
        self.splits = [heads * head_dim for heads in HEADS_PER_KERNEL.values()]
        self.conv_list = nn.ModuleList(
            nn.Conv2d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
            for kernel_size, width in zip(HEADS_PER_KERNEL, self.splits, strict=True)
        )

    def forward(self, v: Tensor) -> Tensor:
        parts = v.split(self.splits, dim=1)
        return torch.cat([conv(parts[i]) for i, conv in enumerate(self.conv_list)], dim=1)


class FactorizedAttention(nn.Module):
    """Attention of linear cost: q (softmax(k)^T v), the softmax over positions, plus q times the convolved values.

    Shapes:
        (B, H * W, dim) -> the same.
    """

    def __init__(self, dim: int):
        super().__init__()
        check_divisible("embed_dims", dim, "the number of heads", NUM_HEADS)
        self.scale = (dim // NUM_HEADS) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, size: tuple[int, int], crpe: ConvRelativePosition) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        context = k.softmax(dim=2).transpose(2, 3) @ v
        values = crpe(v.transpose(2, 3).flatten(1, 2).unflatten(2, size))
        values = values.flatten(2).unflatten(1, (NUM_HEADS, -1)).transpose(2, 3)
        x = self.scale * (q @ context) + q * values
        return self.proj(x.transpose(1, 2).flatten(2))


class FactorizedBlock(nn.Module):
    """Position encoding, attention and an MLP; the position encodings are those of the path.

    Shapes:
        (B, dim, H, W) -> the same.
    """

    def __init__(self, dim: int, mlp_ratio: float = 4.0, drop_path: float = 0.0):
        super().__init__()
        self.factoratt_crpe = FactorizedAttention(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, cpe: ConvPositionEncoding, crpe: ConvRelativePosition) -> Tensor:
        size = x.shape[2:]
        x = cpe(x).flatten(2).transpose(1, 2)
        x = x + self.drop_path(self.factoratt_crpe(self.norm1(x), size, crpe))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.transpose(1, 2).unflatten(2, size)


class TransformerPath(nn.Module):
    """The blocks of a path, which share both position encodings.

    Shapes:
        (B, dim, H, W) -> the same.
    """

    def __init__(self, dim: int, mlp_ratio: float, drop_paths: Sequence[float]):
        super().__init__()
        self.cpe = ConvPositionEncoding(dim)
        self.crpe = ConvRelativePosition(dim)
        self.MHCA_layers = Blocks(*(FactorizedBlock(dim, mlp_ratio, rate) for rate in drop_paths))

    def forward(self, x: Tensor) -> Tensor:
        return self.MHCA_layers(x, self.cpe, self.crpe)


class LocalBranch(nn.Module):
    """1x1, depthwise 3x3 and 1x1 convolution, added to the input.

    Shapes:
        (B, dim, H, W) -> the same.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.conv1 = ConvBNAct(dim, dim)
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.act = nn.Hardswish()
        self.conv2 = ConvBNAct(dim, dim, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.act(self.norm(self.dwconv(self.conv1(x)))))


class MultiPathStage(nn.Module):
    """The local branch and the paths side by side, concatenated and projected.

    Shapes:
        a list of num_paths maps (B, dim, H, W) -> (B, out_dim, H, W).
    """

    def __init__(self, dim: int, out_dim: int, num_paths: int, mlp_ratio: float, drop_paths: Sequence[float]):
        super().__init__()
        self.mhca_blks = nn.ModuleList(TransformerPath(dim, mlp_ratio, drop_paths) for _ in range(num_paths))
        self.InvRes = LocalBranch(dim)
        self.aggregate = ConvBNAct(dim * (num_paths + 1), out_dim)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        paths = [path(x) for path, x in zip(self.mhca_blks, inputs, strict=True)]
        return self.aggregate(torch.cat([self.InvRes(inputs[0]), *paths], dim=1))


class MPViT(PeerNetwork):
    """The classification network. A plural argument has one value for each stage.

    Args:
        num_layers: number of blocks of each path.
        embed_dims: channels of the paths; a stage's output has those of the next stage.
        num_paths: number of paths.
        mlp_ratio: expansion of the MLPs.
        drop_path_rate: stochastic depth rate of the last block; it increases linearly from 0 at the first.
        in_chans: input channels.
        num_classes: number of outputs; 0 for no classifier, which returns the pooled features.
        global_pool: "avg", another of timm's poolings, or "" for none (then ``num_classes`` must be 0).
        drop_rate: dropout rate before the classifier.

    Shapes:
        (B, in_chans, H, W) -> (B, num_classes), for any H and W.
    """

    classifier = "cls_head.cls"
    output_modules = tuple(f"mhca_stages.{i}" for i in range(4))
    stage_modules = tuple((f"patch_embed_stages.{i}", f"mhca_stages.{i}") for i in range(4))

    def __init__(
        self,
        num_layers: Sequence[int] = (1, 2, 4, 1),
        embed_dims: Sequence[int] = (64, 128, 192, 256),
        num_paths: Sequence[int] = (2, 3, 3, 3),
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ):
        check_per_stage(num_layers=num_layers, embed_dims=embed_dims, num_paths=num_paths)
        outputs = [*embed_dims[1:], embed_dims[-1]]
        super().__init__(outputs, num_layers, in_chans, num_classes, global_pool, drop_rate)
        rates = drop_path_rates(drop_path_rate, num_layers)
        width = embed_dims[0]
        self.stem = nn.Sequential(ConvBNAct(in_chans, width // 2, 3, 2), ConvBNAct(width // 2, width, 3, 2))
        self.patch_embed_stages = nn.ModuleList()
        self.mhca_stages = nn.ModuleList()
        for i, dim in enumerate(embed_dims):
            self.patch_embed_stages.append(MultiScalePatchEmbed(dim, num_paths[i], stride=1 if i == 0 else 2))
            self.mhca_stages.append(MultiPathStage(dim, outputs[i], num_paths[i], mlp_ratio, rates[i]))
        self.norm = nn.Identity()
        self.cls_head = nn.ModuleDict()
        self.finish()

    def run_stage(self, index: int, x: Tensor) -> Tensor:
        if index == 0:
            x = self.stem(x)
        return self.mhca_stages[index](self.patch_embed_stages[index](x))

    def convert_checkpoint(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Merge the copies of the position encodings, which the authors' checkpoints have in every block."""
        copies = re.compile(r"\.MHCA_layers\.\d+(?:\.factoratt_crpe)?\.(cpe|crpe)\.")
        return {copies.sub(r".\1.", name): tensor for name, tensor in tensors.items()}

    def group_matcher(self, coarse: bool = False) -> dict:
        """Patterns that group the parameters into layers, from input to output, for layer-wise learning rates."""
        stages = r"^(?:patch_embed_stages|mhca_stages)\.(\d)"
        blocks = [
            (r"^mhca_stages\.(\d)\.mhca_blks\.\d\.MHCA_layers\.(\d+)", None),
            (r"^mhca_stages\.(\d)\.(?:aggregate|InvRes)", (99,)),
            (stages, (0,)),
        ]
        return dict(stem=r"^stem", blocks=stages if coarse else blocks)


_CFG = peer_cfg(
    first_conv="stem.0.conv",
    classifier="cls_head.cls",
    paper_ids="arXiv:2112.11010",
    paper_name="MPViT: Multi-Path Vision Transformer for Dense Prediction",
    origin_url="https://github.com/youngwanLEE/MPViT",
)

default_cfgs = generate_default_cfgs(
    {
        "mpvit_xsmall.untrained": _CFG,
        "mpvit_small.untrained": _CFG,
        "mpvit_base.untrained": _CFG,
    }
)


@register_model
def mpvit_xsmall(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """MPViT-XS: 10.6 M parameters, 2.9 G MACs at 224x224."""
    return create_peer(MPViT, "mpvit_xsmall", pretrained, **kwargs)


@register_model
def mpvit_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """MPViT-S: 22.9 M parameters, 4.7 G MACs at 224x224."""
    arch = dict(num_layers=(1, 3, 6, 3), embed_dims=(64, 128, 216, 288))
    return create_peer(MPViT, "mpvit_small", pretrained, **(arch | kwargs))


@register_model
def mpvit_base(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """MPViT-B: 74.8 M parameters, 16.1 G MACs at 224x224."""
    arch = dict(num_layers=(1, 3, 8, 3), embed_dims=(128, 224, 368, 480))
    return create_peer(MPViT, "mpvit_base", pretrained, **(arch | kwargs))
