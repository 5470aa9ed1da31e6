"""TransXNet computed as in the published code: the baseline for the package's speed.

    transxnet bench benchmarks.plain_reference:transxnet_t transxnet_t --channels-last

The networks are the package's own, with the same parameters and names, so a ``state_dict`` of one loads into the other.
Only the computation differs. It is written out here and uses neither ``transxnet.ops`` nor the forward pass of any of
our layers: the position bias is resized in every block, attention is two products and a softmax, MS-FFN's branches are
split and concatenated, IDConv is a convolution with B*C groups, and LayerScale is a depthwise 1x1 convolution.

Shapes: B batch, C channels, H x W positions, h heads, d channels per head, N queries, M keys, G groups, K kernel size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transxnet.layers import DPE, MSFFN, OSRA, STE, Block, DMixer, IDConv, LayerScale, PatchEmbed, PositionBias
from transxnet.layers.conv_norm import ConvNorm
from transxnet.layers.msffn import MultiScaleDWConv
from transxnet.layers.osra import LocalRefinement, OverlappingSpatialReduction
from transxnet.models.create import create_model
from transxnet.models.four_stages import Stage, checkpoint_block


def transxnet_n(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Nano, with the arguments of ``create_model``."""
    return compute_plainly(create_model("transxnet_n", pretrained, **kwargs))


def transxnet_t(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Tiny, with the arguments of ``create_model``."""
    return compute_plainly(create_model("transxnet_t", pretrained, **kwargs))


def transxnet_s(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Small, with the arguments of ``create_model``."""
    return compute_plainly(create_model("transxnet_s", pretrained, **kwargs))


def transxnet_b(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Base, with the arguments of ``create_model``."""
    return compute_plainly(create_model("transxnet_b", pretrained, **kwargs))


def compute_plainly(model: nn.Module) -> nn.Module:
    """Change a TransXNet in place so that its layers compute as in this file, and return it."""
    for module in model.modules():
        module.__class__ = _PLAIN.get(type(module), type(module))  # parameters, names and hooks are kept
    return model


class PlainConvNorm(ConvNorm):
    """A convolution, then BatchNorm."""

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class PlainPatchEmbed(PatchEmbed, PlainConvNorm):
    """The stem, and the downsampling between stages."""

    forward = PlainConvNorm.forward


class PlainDPE(DPE):
    """A depthwise convolution and an addition."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dwconv(x)


class PlainReduction(OverlappingSpatialReduction):
    """The two depthwise convolutions in sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.act(self.reduce(x)))


class PlainRefinement(LocalRefinement):
    """A depthwise convolution and an addition."""

    def forward(self, x: Tensor) -> Tensor:
        return self.dwconv(x) + x


class PlainOSRA(OSRA):
    """Explicit attention. The stored bias is resized here if the sizes differ."""

    def forward(self, x: Tensor, pos_bias: Tensor | None = None) -> Tensor:
        head_dim = x.shape[1] // self.num_heads
        k, v = self.kv(self.refinement(self.reduction(x))).chunk(2, dim=1)
        q, k, v = (t.flatten(2).unflatten(1, (self.num_heads, head_dim)) for t in (self.q(x), k, v))  # (B, h, d, .)
        logits = q.transpose(2, 3) @ k * head_dim**-0.5
        if pos_bias is not None:
            if pos_bias.shape[2:] != logits.shape[2:]:
                pos_bias = F.interpolate(pos_bias, size=logits.shape[2:], mode="bicubic", align_corners=False)
            logits = logits + pos_bias
        out = logits.softmax(dim=-1) @ v.transpose(2, 3)
        return out.transpose(2, 3).reshape(x.shape)


class PlainIDConv(IDConv):
    """The projection twice, for kernels and for biases, and one convolution with B*C groups."""

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        G, K = self.num_groups, self.kernel_size
        shares = self._project(F.adaptive_avg_pool2d(x, K)).reshape(B, G, C, K, K).softmax(dim=1)
        weight = (shares * self.weight[None]).sum(dim=1)
        shares = self._project(x.mean((2, 3), keepdim=True)).reshape(B, G, C).softmax(dim=1)
        bias = (shares * self.bias[None]).sum(dim=1)
        out = F.conv2d(
            x.reshape(1, B * C, H, W),
            weight.reshape(B * C, 1, K, K),
            bias.flatten(),
            padding=K // 2,
            groups=B * C,
        )
        return out.reshape(B, C, H, W)

    def _project(self, pooled: Tensor) -> Tensor:
        return self.expand(self.act(self.squeeze(pooled)))


class PlainSTE(STE):
    """Convolutions, activations and norms in sequence, and an addition."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(F.gelu(self.dwconv(x)))
        y = self.bn2(F.gelu(self.squeeze(y)))
        return self.bn3(self.expand(y)) + x


class PlainDMixer(DMixer):
    """The two branches in sequence, concatenated."""

    def forward(self, x: Tensor, pos_bias: Tensor | None = None) -> Tensor:
        local, distant = x.chunk(2, dim=1)
        return self.ste(torch.cat([self.idconv(local), self.osra(distant, pos_bias)], dim=1))


class PlainMultiScaleDWConv(MultiScaleDWConv):
    """Split, convolve, concatenate, add."""

    def forward(self, x: Tensor) -> Tensor:
        groups = x.split([conv.in_channels for conv in self], dim=1)
        return torch.cat([conv(group) for conv, group in zip(self, groups, strict=True)], dim=1) + x


class PlainMSFFN(MSFFN):
    """Convolutions, activations and norms in sequence."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(F.gelu(self.expand(x)))
        x = self.bn2(F.gelu(self.dwconv(x)))
        return self.bn3(self.project(x))


class PlainLayerScale(LayerScale):
    """A depthwise 1x1 convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:, None, None, None], self.bias, groups=x.shape[1])


class PlainPositionBias(PositionBias):
    """The stored matrix, regardless of the input's size."""

    def forward(self, num_queries: int, num_keys: int) -> Tensor:
        return self.weight


class PlainBlock(Block):
    """Every part with its residual."""

    def forward(self, x: Tensor, pos_bias: Tensor | None = None) -> Tensor:
        x = self.dpe(x)
        x = x + self.drop_path(self.scale1(self.mixer(self.norm1(x), pos_bias)))
        return x + self.drop_path(self.scale2(self.ffn(self.norm2(x))))


class PlainStage(Stage):
    """The patch embedding and the blocks, each of which gets the stored bias."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for block in self.blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint_block(block, x, self.pos_bias.weight)
            else:
                x = block(x, self.pos_bias.weight)
        return x


_PLAIN = {
    ConvNorm: PlainConvNorm,
    PatchEmbed: PlainPatchEmbed,
    DPE: PlainDPE,
    OverlappingSpatialReduction: PlainReduction,
    LocalRefinement: PlainRefinement,
    OSRA: PlainOSRA,
    IDConv: PlainIDConv,
    STE: PlainSTE,
    DMixer: PlainDMixer,
    MultiScaleDWConv: PlainMultiScaleDWConv,
    MSFFN: PlainMSFFN,
    LayerScale: PlainLayerScale,
    PositionBias: PlainPositionBias,
    Block: PlainBlock,
    Stage: PlainStage,
}
