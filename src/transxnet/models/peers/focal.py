"""Focal Transformer.

Paper: "Focal Attention for Long-Range Interactions in Vision Transformers", Jianwei Yang et al.,
https://arxiv.org/abs/2107.00641

Each window attends to its own positions, to the positions around it, and to pooled windows of a larger region. Written
from the paper, with the tensor names of the authors' checkpoints.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm2d, Mlp
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from transxnet.layers.checks import check_divisible, check_odd, check_positive
from transxnet.models.four_stages import STRIDES, check_per_stage, drop_path_rates
from transxnet.models.peers.peer_network import Blocks, ConvEmbed, PeerNetwork, create_peer, peer_cfg

OUTSIDE = -100.0
"""Added to the logits of pooled keys outside the map."""


def cut_windows(x: Tensor, window: int) -> Tensor:
    """Cut a map into windows: (B, H, W, C) -> (B, H / window * W / window, window^2, C)."""
    batch, height, width, dim = x.shape
    x = x.view(batch, height // window, window, width // window, window, dim)
    return x.transpose(2, 3).reshape(batch, -1, window * window, dim)


def join_windows(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Invert :func:`cut_windows` for a map of this height and width."""
    window = round(x.shape[2] ** 0.5)
    height, width = size
    x = x.view(len(x), height // window, width // window, window, window, -1)
    return x.transpose(2, 3).reshape(len(x), height, width, -1)


def window_offsets(window: int, keys: int) -> Tensor:
    """Index of the relative position of each key of a keys x keys grid, for each query of a window.

    Returns:
        (window^2, keys^2): indices into a table of (window + keys - 1)^2 relative positions.
    """
    offsets = torch.arange(window)[:, None] - torch.arange(keys) + keys - 1  # (window, keys)
    rows, columns = offsets[:, None, :, None], offsets[None, :, None, :]
    return (rows * (window + keys - 1) + columns).reshape(window**2, keys**2)


class FocalAttention(nn.Module):
    """Attention of each window to itself, its surroundings and pooled windows, in one softmax.

    Args:
        dim: channels.
        num_heads: number of heads.
        window: side of a window.
        focal_window: side of the region of pooled windows, in windows.
        surroundings: whether the window also attends to the positions around it, up to half its side away. They wrap
            around at the edges of the map.

    Shapes:
        (B, H, W, dim), pooled windows (B, H / window, W / window, dim) -> (B, H, W, dim), for H and W divisible by
        window.
    """

    relative_position_index: Tensor
    pooled_index: Tensor
    surrounding_index: Tensor

    def __init__(self, dim: int, num_heads: int, window: int, focal_window: int, surroundings: bool):
        super().__init__()
        check_divisible("dim", dim, "num_heads", num_heads)
        self.num_heads, self.window, self.focal_window = num_heads, window, focal_window
        self.scale = (dim // num_heads) ** -0.5
        self.reach = window // 2
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, num_heads))
        self.register_buffer("relative_position_index", window_offsets(window, window), persistent=False)
        self.relative_position_bias_table_to_windows = nn.ParameterList(
            [nn.Parameter(torch.zeros(num_heads, (window + focal_window - 1) ** 2))]
        )
        self.register_buffer("pooled_index", window_offsets(window, focal_window), persistent=False)
        self.relative_position_bias_table_to_neighbors: nn.Parameter | None = None
        if surroundings:
            index = self._surrounding_positions()
            self.register_buffer("surrounding_index", torch.tensor(index), persistent=False)
            self.relative_position_bias_table_to_neighbors = nn.Parameter(
                torch.zeros(1, num_heads, window**2, len(index))
            )
        for name, table in self.named_parameters():
            if "table" in name:
                nn.init.trunc_normal_(table, std=0.02)

    def _rolls(self) -> list[tuple[int, int]]:
        reach = self.reach
        return [(-reach, -reach), (-reach, reach), (reach, -reach), (reach, reach)]

    def _surrounding_positions(self) -> list[int]:
        """Positions of the four rolled windows, one after the other, that do not come from the window itself."""
        side = range(self.window)
        own = [r - rows in side and c - columns in side for rows, columns in self._rolls() for r in side for c in side]
        return [position for position, inside in enumerate(own) if not inside]

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        size = x.shape[1:3]
        q, kv = self.qkv(x).split([x.shape[3], 2 * x.shape[3]], dim=3)
        keys = [cut_windows(kv, self.window)]
        # (1, 1, heads, queries, keys): images, windows, then as in attention
        own_bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        bias = [own_bias[None, None]]
        if self.relative_position_bias_table_to_neighbors is not None:
            rolled = [cut_windows(kv.roll(by, (1, 2)), self.window) for by in self._rolls()]
            keys.append(torch.cat(rolled, dim=2)[:, :, self.surrounding_index])
            bias.append(self.relative_position_bias_table_to_neighbors[None])
        keys.append(self._around(self.qkv(pooled)[..., x.shape[3] :]))
        pooled_bias = self.relative_position_bias_table_to_windows[0][:, self.pooled_index]
        bias.append(pooled_bias + OUTSIDE * (1 - self._inside(pooled))[:, :, None, None])

        windows = keys[0].shape[1]
        q = self._heads(cut_windows(q, self.window)) * self.scale
        k, v = (self._heads(part) for part in torch.cat(keys, dim=2).chunk(2, dim=3))
        attn = q @ k.transpose(3, 4) + torch.cat([part.expand(-1, windows, -1, -1, -1) for part in bias], dim=4)
        x = (attn.softmax(dim=4) @ v).transpose(2, 3).flatten(3)
        return self.proj(join_windows(x, size))

    def _heads(self, x: Tensor) -> Tensor:
        """(B, windows, N, C) -> (B, windows, heads, N, C / heads)."""
        return x.unflatten(3, (self.num_heads, -1)).transpose(2, 3)

    def _around(self, pooled: Tensor) -> Tensor:
        """The pooled windows around each window: (B, h, w, C) -> (B, h * w, focal_window^2, C), zero outside."""
        side = self.focal_window
        x = F.unfold(pooled.permute(0, 3, 1, 2), side, padding=side // 2)
        return x.unflatten(1, (-1, side * side)).permute(0, 3, 2, 1)

    def _inside(self, pooled: Tensor) -> Tensor:
        """Which pooled windows around each window are inside the map: (1, h * w, focal_window^2), 0 or 1."""
        return self._around(torch.ones_like(pooled[:1, :, :, :1]))[..., 0]


class FocalBlock(nn.Module):
    """Focal attention and an MLP, each added to its input.

    The map is padded at the right and bottom to whole windows, after the norm; padding is not masked.

    Shapes:
        (B, dim, H, W) -> the same.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: int,
        focal_window: int,
        surroundings: bool,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.window = window
        self.pool_layers = nn.ModuleList([nn.Linear(window * window, 1)])
        self.norm1 = nn.LayerNorm(dim)
        self.attn = FocalAttention(dim, num_heads, window, focal_window, surroundings)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        height, width = x.shape[1:3]
        y = F.pad(self.norm1(x), (0, 0, 0, -width % self.window, 0, -height % self.window))
        windows = cut_windows(y, self.window).transpose(2, 3)
        pooled = self.pool_layers[0](windows).flatten(2).unflatten(1, (y.shape[1] // self.window, -1))
        x = x + self.drop_path(self.attn(y, pooled)[:, :height, :width])
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.permute(0, 3, 1, 2)


class FocalTransformer(PeerNetwork):
    """The classification network. A plural argument has one value for each stage.

    Args:
        img_size: size of the images (height and width, or one for both). It determines which stages have windows
            smaller than their maps, and so surrounding keys. Other sizes work too.
        depths: number of blocks.
        embed_dim: channels of the first stage, doubled in each further one.
        num_heads: attention heads.
        window_size: side of a window.
        focal_windows: side of the region of pooled windows, in windows; odd.
        mlp_ratio: expansion of the MLPs.
        drop_path_rate: stochastic depth rate of the last block; it increases linearly from 0 at the first.
        in_chans: input channels.
        num_classes: number of outputs; 0 for no classifier, which returns the pooled features.
        global_pool: "avg", another of timm's poolings, or "" for none (then ``num_classes`` must be 0).
        drop_rate: dropout rate before the classifier.

    Shapes:
        (B, in_chans, H, W) -> (B, num_classes), for any H and W from 32 up.
    """

    output_modules = tuple(f"layers.{i}.blocks" for i in range(4))
    stage_modules = (("layers.0",), *((f"layers.{i - 1}.downsample", f"layers.{i}") for i in (1, 2, 3)))

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        depths: Sequence[int] = (2, 2, 6, 2),
        embed_dim: int = 96,
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        focal_windows: Sequence[int] = (7, 5, 3, 1),
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ):
        check_per_stage(depths=depths, num_heads=num_heads, focal_windows=focal_windows)
        check_odd(**{f"focal_windows[{i}]": side for i, side in enumerate(focal_windows)})
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        check_positive(height=height, width=width, window_size=window_size)
        dims = [embed_dim * 2**i for i in range(4)]
        super().__init__(dims, depths, in_chans, num_classes, global_pool, drop_rate)
        rates = drop_path_rates(drop_path_rate, depths)
        self.patch_embed = ConvEmbed(in_chans, dims[0], STRIDES[0], STRIDES[0])
        self.layers = nn.ModuleList()
        for i, dim in enumerate(dims):
            side = max(1, min(height, width) // (4 * 2**i))
            window, surroundings = min(window_size, side), side > window_size
            layer = nn.ModuleDict()
            layer["blocks"] = Blocks(
                *(
                    FocalBlock(dim, num_heads[i], window, focal_windows[i], surroundings, mlp_ratio, rate)
                    for rate in rates[i]
                )
            )
            if i < 3:
                layer["downsample"] = ConvEmbed(dim, dims[i + 1], STRIDES[i + 1], STRIDES[i + 1])
            self.layers.append(layer)
        self.norm = LayerNorm2d(dims[-1], eps=1e-5)
        self.finish()

    def run_stage(self, index: int, x: Tensor) -> Tensor:
        x = self.patch_embed(x) if index == 0 else self.layers[index - 1]["downsample"](x)
        return self.layers[index]["blocks"](x)

    def convert_checkpoint(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Drop the index buffers of the authors' checkpoints, which follow from the sizes of the windows."""
        computed = ("relative_position_index", "relative_position_index_0", "valid_ind_rolled")
        return {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in computed}

    def no_weight_decay(self) -> set[str]:
        """Names of the bias tables."""
        return {name for name, _ in self.named_parameters() if "relative_position_bias_table" in name}

    def group_matcher(self, coarse: bool = False) -> dict:
        """Patterns that group the parameters into layers, from input to output, for layer-wise learning rates."""
        blocks = [
            (r"^layers\.(\d)\.blocks\.(\d+)", None),
            (r"^layers\.(\d)\.downsample", (99,)),
            (r"^norm\.", (99999,)),
        ]
        return dict(stem=r"^patch_embed", blocks=r"^layers\.(\d)" if coarse else blocks)


default_cfgs = generate_default_cfgs(
    {
        "focal_tiny.untrained": peer_cfg(
            first_conv="patch_embed.proj",
            paper_ids="arXiv:2107.00641",
            paper_name="Focal Attention for Long-Range Interactions in Vision Transformers",
            origin_url="https://github.com/microsoft/Focal-Transformer",
        )
    }
)


@register_model
def focal_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Focal-T: 28.9 M parameters, 4.4 G MACs at 224x224."""
    return create_peer(FocalTransformer, "focal_tiny", pretrained, **kwargs)
