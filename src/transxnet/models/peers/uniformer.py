"""UniFormer.

Paper: "UniFormer: Unifying Convolution and Self-attention for Visual Recognition", Kunchang Li et al.,
https://arxiv.org/abs/2201.09450

Convolution blocks in the first two stages, attention over all positions in the last two. Written from the paper, with
the tensor names of the authors' checkpoints.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from transxnet.layers.checks import check_divisible
from transxnet.models.four_stages import STRIDES, check_per_stage, drop_path_rates
from transxnet.models.peers.peer_network import Blocks, ConvEmbed, PeerNetwork, create_peer, peer_cfg


class LocalBlock(nn.Module):
    """Position encoding, a local relation aggregator (depthwise 5x5) and an MLP, each added to its input.

    Shapes:
        (B, dim, H, W) -> the same.
    """

    def __init__(self, dim: int, mlp_ratio: float = 4.0, drop_path: float = 0.0):
        super().__init__()
        self.pos_embed = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.BatchNorm2d(dim)
        self.conv1 = nn.Conv2d(dim, dim, 1)
        self.attn = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv2 = nn.Conv2d(dim, dim, 1)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), use_conv=True)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.conv2(self.attn(self.conv1(self.norm1(x)))))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class GlobalAttention(nn.Module):
    """Attention over all positions.

    Shapes:
        (B, N, dim) -> the same.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        check_divisible("dim", dim, "num_heads", num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GlobalBlock(nn.Module):
    """Position encoding, a global relation aggregator (attention) and an MLP, each added to its input.

    Shapes:
        (B, dim, H, W) -> the same.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, drop_path: float = 0.0):
        super().__init__()
        self.pos_embed = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = GlobalAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        x = (x + self.pos_embed(x)).flatten(2).transpose(1, 2)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.transpose(1, 2).unflatten(2, size)


class UniFormer(PeerNetwork):
    """The classification network. A plural argument has one value for each stage.

    Args:
        depths: number of blocks.
        embed_dims: channels.
        head_dim: channels of an attention head.
        mlp_ratio: expansion of the MLPs.
        drop_path_rate: stochastic depth rate of the last block; it increases linearly from 0 at the first.
        in_chans: input channels.
        num_classes: number of outputs; 0 for no classifier, which returns the pooled features.
        global_pool: "avg", another of timm's poolings, or "" for none (then ``num_classes`` must be 0).
        drop_rate: dropout rate before the classifier.

    Shapes:
        (B, in_chans, H, W) -> (B, num_classes), for any H and W from 32 up.
    """

    output_modules = ("blocks1", "blocks2", "blocks3", "blocks4")
    stage_modules = tuple((f"patch_embed{i}", f"blocks{i}") for i in (1, 2, 3, 4))

    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 8, 3),
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        head_dim: int = 64,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ):
        check_per_stage(depths=depths, embed_dims=embed_dims)
        super().__init__(embed_dims, depths, in_chans, num_classes, global_pool, drop_rate)
        rates = drop_path_rates(drop_path_rate, depths)
        for i, (in_dim, dim) in enumerate(zip((in_chans, *embed_dims), embed_dims, strict=False)):
            blocks = (
                LocalBlock(dim, mlp_ratio, rate) if i < 2 else GlobalBlock(dim, dim // head_dim, mlp_ratio, rate)
                for rate in rates[i]
            )
            setattr(self, f"patch_embed{i + 1}", ConvEmbed(in_dim, dim, STRIDES[i], STRIDES[i]))
            setattr(self, f"blocks{i + 1}", Blocks(*blocks))
        self.norm = nn.BatchNorm2d(embed_dims[-1])
        self.finish()

    def run_stage(self, index: int, x: Tensor) -> Tensor:
        x = getattr(self, f"patch_embed{index + 1}")(x)
        return getattr(self, f"blocks{index + 1}")(x)

    def group_matcher(self, coarse: bool = False) -> dict:
        """Patterns that group the parameters into layers, from input to output, for layer-wise learning rates."""
        blocks = [(r"^blocks(\d)\.(\d+)", None), (r"^patch_embed(\d)", (0,)), (r"^norm\.", (99999,))]
        return dict(stem=r"^patch_embed1", blocks=r"^(?:blocks|patch_embed)(\d)" if coarse else blocks)


default_cfgs = generate_default_cfgs(
    {
        "uniformer_small.untrained": peer_cfg(
            first_conv="patch_embed1.proj",
            paper_ids="arXiv:2201.09450",
            paper_name="UniFormer: Unifying Convolution and Self-attention for Visual Recognition",
            origin_url="https://github.com/Sense-X/UniFormer",
        )
    }
)


@register_model
def uniformer_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """UniFormer-S: 21.5 M parameters, 3.4 G MACs at 224x224."""
    return create_peer(UniFormer, "uniformer_small", pretrained, **kwargs)
