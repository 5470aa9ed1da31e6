"""Base class of four-stage networks: TransXNet, and the network that compares token mixers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import ceil
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from transxnet.layers import DMixer, PositionBias
from transxnet.layers.checks import check_positive
from transxnet.models.scripting import ScriptedByTracing

STRIDES = (4, 2, 2, 2)
"""Strides of the stages' patch embeddings (Table I)."""


class Stage(nn.Module):
    """A patch embedding and the blocks that follow it, which share one position bias (Fig. 3).

    Args:
        patch_embed: the stem, or the downsampling from the previous stage.
        blocks: the stage's blocks.
        pos_bias: the position bias of all blocks, or None.
        sr_ratio: stride of OSRA's reduction, which determines the number of keys.

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
            # Integer ceil: a program exported with dynamic sizes has no floats.
            keys = -(-height // self.sr_ratio) * -(-width // self.sr_ratio)
            pos_bias = self.pos_bias(height * width, keys)
        for block in self.blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint_block(block, x, pos_bias)
            else:
                x = block(x, pos_bias)
        return x


class FourStages(ScriptedByTracing, nn.Module):
    """Base class of the networks: builds the stages, supports checkpointing, and groups the parameters."""

    if TYPE_CHECKING:  # torch.jit.script would take the annotations for those of attributes in TorchScript
        stages: nn.Sequential
        feature_info: Any
        num_features: int

    def add_stages(
        self,
        make_patch_embed: Callable[[int, int], nn.Module],
        make_block: Callable[[int, int, float], nn.Module],
        img_size: int | tuple[int, int],
        in_chans: int,
        depths: Sequence[int],
        embed_dims: Sequence[int],
        sr_ratios: Sequence[int],
        drop_path_rate: float,
    ) -> None:
        """Build ``stages``, ``feature_info`` and ``num_features``, and initialize the weights.

        A stage has a position bias if its token mixer is a D-Mixer.

        Args:
            make_patch_embed: called with the stage and its input channels.
            make_block: called with the stage, the block's index in it, and the block's stochastic depth rate.
            img_size: input size (height and width, or one for both) for which the position bias is stored.
            in_chans: input channels.
            depths: number of blocks in each stage.
            embed_dims: channels of each stage.
            sr_ratios: strides of the spatial reduction in each stage.
            drop_path_rate: stochastic depth rate of the last block; it increases linearly from 0 at the first.

        Raises:
            ValueError: an image size, number of channels or depth is not a positive integer.
        """
        check_positive(in_chans=in_chans, **{f"depths[{i}]": depth for i, depth in enumerate(depths)})
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        check_positive(height=height, width=width)
        drop_paths = drop_path_rates(drop_path_rate, depths)

        self.num_features = self.head_hidden_size = embed_dims[-1]
        self.stages = nn.Sequential()
        self.feature_info = []
        reduction = 1
        for i, (in_dim, dim) in enumerate(zip((in_chans, *embed_dims), embed_dims, strict=False)):
            patch_embed = make_patch_embed(i, in_dim)
            blocks = [make_block(i, j, rate) for j, rate in enumerate(drop_paths[i])]

            reduction *= STRIDES[i]
            height, width = ceil(height / STRIDES[i]), ceil(width / STRIDES[i])
            pos_bias = None
            if isinstance(blocks[0].mixer, DMixer):
                keys = ceil(height / sr_ratios[i]) * ceil(width / sr_ratios[i])
                pos_bias = PositionBias(blocks[0].mixer.osra.num_heads, height * width, keys)
            self.stages.append(Stage(patch_embed, blocks, pos_bias, sr_ratios[i]))
            self.feature_info.append(dict(num_chs=dim, reduction=reduction, module=f"stages.{i}"))
        self.apply(init_weights)

    def set_grad_checkpointing(self, enable: bool = True, stages: int = 4) -> None:
        """Enable gradient checkpointing: store only each block's input, which saves memory and costs time.

        Args:
            enable: whether to enable it.
            stages: number of stages, counted from the first, which has the largest maps.
        """
        for i, stage in enumerate(self.stages):
            stage.grad_checkpointing = enable and i < stages

    def group_matcher(self, coarse: bool = False) -> dict:
        """Patterns that group the parameters into layers, from input to output, for layer-wise learning rates."""
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
        """Names of biases with two or more dimensions, which timm would treat as weights."""
        return {
            name for name, p in self.named_parameters() if p.ndim > 1 and name.endswith(("pos_bias.weight", ".bias"))
        }


def drop_path_rates(last: float, depths: Sequence[int]) -> list[list[float]]:
    """Return the stochastic depth rate of each block of each stage, rising linearly from 0 to that of the last."""
    # On the CPU, even if the network itself is created on another device.
    rates = torch.linspace(0, last, sum(depths), dtype=torch.float64, device="cpu")
    return [part.tolist() for part in rates.split(list(depths))]


def checkpoint_block(block: nn.Module, *inputs: Any) -> Tensor:
    """Compute a block's output; its activations are recomputed in the backward pass.

    The recomputation must not update the BatchNorms' running statistics a second time. A compiler cannot trace the
    context that prevents this, and does not need it: it recomputes values, not buffer updates.
    """
    if torch.compiler.is_compiling():
        return checkpoint(block, *inputs, use_reentrant=False)
    return checkpoint(
        block, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), frozen_running_stats(block))
    )


@contextmanager
def frozen_running_stats(module: nn.Module) -> Iterator[None]:
    """Context in which training does not update the BatchNorms' running statistics and counters."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    saved = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, saved, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter


def init_weights(module: nn.Module) -> None:
    """Initialize weights of convolutions and linear layers from a truncated normal of std 0.02, biases with zero."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def check_per_stage(**values: Sequence) -> None:
    """Raise ValueError unless each holds four values."""
    for name, value in values.items():
        if len(value) != 4:
            raise ValueError(f"{name} must have one value per stage (four), got {tuple(value)}")
