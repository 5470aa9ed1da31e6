"""QuadTree Transformer, variant B.

Paper: "QuadTree Attention for Vision Transformers", Shitao Tang et al., https://arxiv.org/abs/2201.02767

PVTv2 (https://arxiv.org/abs/2106.13797) with quadtree attention: a pyramid of queries and keys, in which each query
attends only to the children of the keys that its parent found most relevant. Written from the papers, with the tensor
names of the authors' checkpoints, in plain PyTorch instead of CUDA kernels.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm2d
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from transxnet.layers.checks import check_divisible, check_positive
from transxnet.models.four_stages import STRIDES, check_per_stage, drop_path_rates
from transxnet.models.peers.peer_network import Blocks, ConvEmbed, PeerNetwork, create_peer, peer_cfg


class QuadTreeLevels(nn.Module):
    """Attention on a pyramid of queries, keys and values, from the coarsest level to the finest.

    At the coarsest level each query attends to all keys. At each further level it attends to the children of the
    ``topk`` keys with the largest weights of its parent, with a softmax of its own. A level's message is the attention
    plus a depthwise convolution of its values; the messages of all levels are summed with learned weights.

    Args:
        dim: channels.
        num_heads: number of heads; each picks keys of its own.
        levels: number of levels.
        topk: keys that are picked at each level; all if there are fewer.

    Shapes:
        three lists of levels maps (B, dim, H, W), (B, dim, H / 2, W / 2), ... -> (B, dim, H, W).
    """

    def __init__(self, dim: int, num_heads: int, levels: int, topk: int):
        super().__init__()
        self.num_heads, self.topk = num_heads, topk
        self.scale = (dim // num_heads) ** -0.5
        self.weight = nn.Parameter(torch.zeros(levels))
        self.get_vs = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1, groups=dim) for _ in range(levels))

    def forward(self, queries: list[Tensor], keys: list[Tensor], values: list[Tensor]) -> Tensor:
        message, picked = self._coarsest(queries[-1], keys[-1], values[-1], pick=len(queries) > 1)
        weights = self.weight.softmax(0)
        out = weights[0] * (message + self.get_vs[0](values[-1]))
        for level in range(1, len(queries)):
            q, k, v = (pyramid[-1 - level] for pyramid in (queries, keys, values))
            message, picked = self._finer(q, k, v, picked, pick=level < len(queries) - 1)
            out = F.interpolate(out, scale_factor=2, mode="nearest")
            out = out + weights[level] * (message + self.get_vs[level](v))
        return out

    def _coarsest(self, q: Tensor, k: Tensor, v: Tensor, pick: bool) -> tuple[Tensor, Tensor]:
        """Attention to all positions, and the picked ones: (B, dim, H, W), (B, heads, H * W, topk)."""
        size = q.shape[2:]
        q, k, v = (x.flatten(2).unflatten(1, (self.num_heads, -1)).transpose(2, 3) for x in (q, k, v))
        attn = (self.scale * q @ k.transpose(2, 3)).softmax(dim=3)
        message = (attn @ v).transpose(2, 3).flatten(1, 2).unflatten(2, size)
        return message, self._pick(attn) if pick else attn

    def _finer(self, q: Tensor, k: Tensor, v: Tensor, parents: Tensor, pick: bool) -> tuple[Tensor, Tensor]:
        """Attention to the children of picked keys, and the picked ones of these.

        Args:
            q: (B, dim, H, W).
            k: as q.
            v: as q.
            parents: (B, heads, H / 2 * W / 2, n), the keys that each parent of four queries picked, row by row.
            pick: whether another level follows.

        Returns:
            (B, dim, H, W), and positions (B, heads, H * W, topk) row by row.
        """
        height, width = q.shape[2:]
        q, k, v = (self._families(x) for x in (q, k, v))
        head_dim, children = q.shape[4], 4 * parents.shape[3]
        # The children of a parent's picked keys: (B, heads, H / 2 * W / 2, 4 n, head_dim)
        index = parents.flatten(2)[..., None, None].expand(-1, -1, -1, 4, head_dim)
        k, v = (x.gather(2, index).view(*parents.shape[:3], children, head_dim) for x in (k, v))
        attn = (self.scale * q @ k.transpose(3, 4)).softmax(dim=4)
        message = self._join(attn @ v, height, width)
        if not pick:
            return message, attn
        chosen = self._pick(attn)
        parent = parents[:, :, :, None].expand(-1, -1, -1, 4, -1).gather(4, chosen // 4)
        child = chosen % 4
        row = parent // (width // 2) * 2 + child // 2
        column = parent % (width // 2) * 2 + child % 2
        positions = self._join(row * width + column, height, width)  # (B, heads * topk, H, W)
        return message, positions.flatten(2).unflatten(1, (self.num_heads, -1)).transpose(2, 3)

    def _pick(self, attn: Tensor) -> Tensor:
        return attn.topk(min(self.topk, attn.shape[-1]), dim=-1).indices

    def _families(self, x: Tensor) -> Tensor:
        """Group positions by parent: (B, dim, H, W) -> (B, heads, H / 2 * W / 2, 4, dim / heads)."""
        x = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).unflatten(1, (self.num_heads, -1))
        return x.permute(0, 1, 3, 5, 4, 6, 2).flatten(4, 5).flatten(2, 3)

    def _join(self, x: Tensor, height: int, width: int) -> Tensor:
        """Invert :meth:`_families`: (B, heads, H / 2 * W / 2, 4, n) -> (B, heads * n, H, W)."""
        x = x.unflatten(3, (2, 2)).unflatten(2, (height // 2, width // 2))
        return x.permute(0, 1, 6, 2, 4, 3, 5).reshape(len(x), -1, height, width)


class QuadTreeAttention(nn.Module):
    """Queries, keys and values on a pyramid, quadtree attention, and a projection.

    Shapes:
        (B, dim, H, W) -> the same, for H and W divisible by 2 ** (levels - 1).
    """

    def __init__(self, dim: int, num_heads: int, levels: int, topk: int):
        super().__init__()
        check_divisible("dim", dim, "num_heads", num_heads)
        self.q_proj = nn.Conv2d(dim, dim, 1)
        self.k_proj = nn.Conv2d(dim, dim, 1)
        self.v_proj = nn.Conv2d(dim, dim, 1)
        self.py_att = QuadTreeLevels(dim, num_heads, levels, topk)
        self.value_branchs = nn.ModuleList(self._coarser_values(dim) for _ in range(levels - 1))
        self.proj = nn.Linear(dim, dim)

    def _coarser_values(self, dim: int) -> nn.Sequential:
        return nn.Sequential(
            nn.GroupNorm(1, dim),
            nn.GELU(),
            nn.Conv2d(dim, dim, 2, 2),
            nn.GroupNorm(1, dim),
            nn.GELU(),
            nn.Conv2d(dim, dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = [self.q_proj(x)], [self.k_proj(x)], [self.v_proj(x)]
        for branch in self.value_branchs:
            queries.append(F.avg_pool2d(queries[-1], 2))
            keys.append(F.avg_pool2d(keys[-1], 2))
            values.append(branch(values[-1]))
        x = self.py_att(queries, keys, values)
        return self.proj(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DepthwiseMlp(nn.Module):
    """Linear layer, depthwise 3x3 convolution, GELU, linear layer.

    Shapes:
        (B, dim, H, W) -> the same.
    """

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.ModuleDict({"dwconv": nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)})
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = F.gelu(self.dwconv["dwconv"](x))
        return self.fc2(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class QuadTreeBlock(nn.Module):
    """Quadtree attention and an MLP, each after LayerNorm and added to its input.

    Shapes:
        (B, dim, H, W) -> the same.
    """

    def __init__(self, dim: int, num_heads: int, levels: int, topk: int, mlp_ratio: int, drop_path: float = 0.0):
        super().__init__()
        self.norm1 = LayerNorm2d(dim, eps=1e-6)
        self.attn = QuadTreeAttention(dim, num_heads, levels, topk)
        self.norm2 = LayerNorm2d(dim, eps=1e-6)
        self.mlp = DepthwiseMlp(dim, dim * mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class QuadTreeTransformer(PeerNetwork):
    """The classification network. A plural argument has one value for each stage.

    Args:
        depths: number of blocks.
        embed_dims: channels.
        num_heads: attention heads.
        mlp_ratios: expansions of the MLPs.
        levels: levels of the pyramids; 1 is attention over all positions.
        topk: keys that each query picks at a level.
        drop_path_rate: stochastic depth rate of the last block; it increases linearly from 0 at the first.
        in_chans: input channels.
        num_classes: number of outputs; 0 for no classifier, which returns the pooled features.
        global_pool: "avg", another of timm's poolings, or "" for none (then ``num_classes`` must be 0).
        drop_rate: dropout rate before the classifier.

    Shapes:
        (B, in_chans, H, W) -> (B, num_classes), for H and W divisible by 32.

    Raises:
        ValueError: in the forward pass, another size: each level of a pyramid halves the previous one.
    """

    output_modules = ("norm1", "norm2", "norm3", "norm4")
    stage_modules = tuple((f"patch_embed{i}", f"block{i}", f"norm{i}") for i in (1, 2, 3, 4))

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 2, 2),
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        num_heads: Sequence[int] = (1, 2, 5, 8),
        mlp_ratios: Sequence[int] = (8, 8, 4, 4),
        levels: Sequence[int] = (4, 3, 2, 1),
        topk: int = 8,
        drop_path_rate: float = 0.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ):
        check_per_stage(depths=depths, embed_dims=embed_dims, num_heads=num_heads, mlp_ratios=mlp_ratios, levels=levels)
        check_positive(topk=topk, **{f"levels[{i}]": count for i, count in enumerate(levels)})
        super().__init__(embed_dims, depths, in_chans, num_classes, global_pool, drop_rate)
        rates = drop_path_rates(drop_path_rate, depths)
        self.divisor = max(4 * 2**i * 2 ** (count - 1) for i, count in enumerate(levels))
        for i, (in_dim, dim) in enumerate(zip((in_chans, *embed_dims), embed_dims, strict=False)):
            blocks = (QuadTreeBlock(dim, num_heads[i], levels[i], topk, mlp_ratios[i], rate) for rate in rates[i])
            kernel_size = 7 if i == 0 else 3
            embed = ConvEmbed(in_dim, dim, kernel_size, STRIDES[i], kernel_size // 2)
            setattr(self, f"patch_embed{i + 1}", embed)
            setattr(self, f"block{i + 1}", Blocks(*blocks))
            setattr(self, f"norm{i + 1}", LayerNorm2d(dim, eps=1e-6))
        self.norm = nn.Identity()
        self.finish()

    def run_stage(self, index: int, x: Tensor) -> Tensor:
        if index == 0:
            check_divisible("height", x.shape[2], "the coarsest level's stride", self.divisor)
            check_divisible("width", x.shape[3], "the coarsest level's stride", self.divisor)
        for name in self.stage_modules[index]:
            x = self.get_submodule(name)(x)
        return x

    def group_matcher(self, coarse: bool = False) -> dict:
        """Patterns that group the parameters into layers, from input to output, for layer-wise learning rates."""
        blocks = [(r"^block(\d)\.(\d+)", None), (r"^patch_embed(\d)", (0,)), (r"^norm(\d)", (99,))]
        return dict(stem=r"^patch_embed1", blocks=r"^(?:block|patch_embed|norm)(\d)" if coarse else blocks)


_CFG = peer_cfg(
    first_conv="patch_embed1.proj",
    paper_ids="arXiv:2201.02767",
    paper_name="QuadTree Attention for Vision Transformers",
    origin_url="https://github.com/Tangshitao/QuadTreeAttention",
)

default_cfgs = generate_default_cfgs({"quadtree_b1.untrained": _CFG})


@register_model
def quadtree_b1(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """QuadTree-B-b1: 13.7 M parameters, 2.2 G MACs at 224x224."""
    return create_peer(QuadTreeTransformer, "quadtree_b1", pretrained, **kwargs)
