"""The layers of the inference form. Each is created from a trained layer and is equivalent to it.

A scale and a shift of each channel are folded into the convolution before them, or into the one after them unless it
pads with zeros, where the shift would be missing. Otherwise they remain (:class:`Affine`).

On a CPU most of the time is spent not on arithmetic but on touching new memory, so results that are used once are
overwritten where nothing else can see them (:func:`may_overwrite`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transxnet.deploy.conv_folding import (
    exact,
    fold_identity,
    fold_norm,
    halves_apart,
    scale_and_shift,
    scale_input,
    scale_output,
    with_identity,
    with_weight,
)
from transxnet.deploy.position_bias_rows import PositionBiasRows, attention_by_rows
from transxnet.layers import MSFFN, OSRA, STE, Block, IDConv, LayerScale
from transxnet.layers.osra import OverlappingSpatialReduction
from transxnet.ops import (
    adaptive_avg_pool2d,
    biased_attention,
    dynamic_depthwise_conv2d,
    multiscale_depthwise_conv2d,
)


def may_overwrite(x: Tensor) -> bool:
    """Whether a result that is used once may be overwritten: on a CPU, without gradients, where no compiler decides."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def runs_branch_by_branch(x: Tensor) -> bool:
    """Whether MS-FFN runs one branch after the other, instead of each layer for all branches.

    On a CPU most of the time is spent on new memory, and a quarter of the hidden channels needs a quarter of it.
    """
    return x.device.type == "cpu"


def gelu(x: Tensor) -> Tensor:
    """GELU of a tensor that is not used elsewhere."""
    return torch.ops.aten.gelu_(x) if may_overwrite(x) else F.gelu(x)


def scaled(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``x * scale + shift`` of a tensor that is not used elsewhere."""
    return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype), out=x if may_overwrite(x) else None)


def plus(x: Tensor, y: Tensor) -> Tensor:
    """``x + y`` for an x that is not used elsewhere."""
    return x.add_(y) if may_overwrite(x) else x + y


def depthwise(x: Tensor, conv: nn.Conv2d, activate: bool = False) -> Tensor:
    """Depthwise convolution, optionally followed by GELU."""
    own_gelu = activate and may_overwrite(x)
    x = multiscale_depthwise_conv2d(x, [conv.weight], [conv.bias], identity=False, gelu=activate and not own_gelu)
    return gelu(x) if own_gelu else x


def joined(first: Tensor, second: Tensor, like: Tensor) -> Tensor:
    """Concatenate two groups of channels, in the memory layout of ``like``."""
    if not may_overwrite(like):
        return torch.cat([first, second], dim=1)
    out = torch.empty_like(like, dtype=first.dtype)
    for part, share in zip(out.split([first.shape[1], second.shape[1]], dim=1), (first, second), strict=True):
        part.copy_(share)
    return out


class Affine(nn.Module):
    """A scale and a shift for each channel. Shapes: (B, dim, H, W) -> the same.

    Args:
        scale: (dim,).
        shift: (dim,).
    """

    def __init__(self, scale: Tensor, shift: Tensor):
        super().__init__()
        self.weight = nn.Parameter(scale[:, None, None])
        self.bias = nn.Parameter(shift[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return scaled(x, self.weight, self.bias)


class InferenceIDConv(nn.Module):
    """:class:`IDConv` with one projection for kernel and bias. Shapes: (B, C, H, W) -> the same.

    For two kernels, the softmax is the sigmoid of the difference of the logits, which half the projection computes, and
    the mixture is an interpolation between them.
    """

    def __init__(self, idconv: IDConv):
        super().__init__()
        self.kernel_size = idconv.kernel_size
        # The bias is mixed like one more position of the kernel.
        bank = torch.cat([exact(idconv.weight).flatten(2), exact(idconv.bias)[:, :, None]], dim=2)
        self.squeeze = fold_norm(idconv.squeeze)
        self.expand = idconv.expand
        if idconv.num_groups == 2:
            first, second = bank
            bank = torch.stack([second, first - second])
            self.expand = halves_apart(idconv.expand)
        self.bank = nn.Parameter(bank.to(idconv.weight))

    def kernels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Generate the kernels and biases for this input: (B, C, H, W) -> (B, C, K, K) and (B, C)."""
        K = self.kernel_size
        pooled = torch.cat([adaptive_avg_pool2d(x, K).flatten(2), x.mean((2, 3))[:, :, None]], dim=2)
        logits = self.expand(F.gelu(self.squeeze(pooled[..., None])))[..., 0]
        if len(self.bank) == 2:
            mixed = torch.addcmul(self.bank[0], logits.sigmoid(), self.bank[1])
        else:
            shares = logits.unflatten(1, self.bank.shape[:2]).softmax(dim=1)
            mixed = (shares * self.bank).sum(dim=1)
        return mixed[..., :-1].unflatten(2, (K, K)), mixed[..., -1]

    def forward(self, x: Tensor) -> Tensor:
        return dynamic_depthwise_conv2d(x, *self.kernels(x))


class InferenceReduction(nn.Module):
    """:class:`OverlappingSpatialReduction` as a convolution, a GELU and a scale and shift. Shapes as there."""

    def __init__(self, reduction: OverlappingSpatialReduction):
        super().__init__()
        self.reduce = fold_norm(reduction.reduce)
        scale, shift = scale_and_shift(reduction.scale.bn)
        per_channel = exact(reduction.scale.conv.weight).flatten()
        self.affine = Affine((scale * per_channel).to(self.reduce.weight), shift.to(self.reduce.weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.affine(gelu(self.reduce(x)))


class InferenceOSRA(nn.Module):
    """:class:`OSRA` without BatchNorm and additions; a large position bias is computed in rows. Shapes as there."""

    def __init__(self, osra: OSRA):
        super().__init__()
        self.num_heads = osra.num_heads
        self.q = osra.q
        reduced = isinstance(osra.reduction, OverlappingSpatialReduction)
        self.reduction = InferenceReduction(osra.reduction) if reduced else nn.Identity()
        self.refinement = fold_identity(osra.refinement.dwconv)
        self.kv = osra.kv

    def forward(self, x: Tensor, pos_bias: Tensor | PositionBiasRows | None = None) -> Tensor:
        k, v = self.kv(depthwise(self.reduction(x), self.refinement)).chunk(2, dim=1)
        attention = attention_by_rows if isinstance(pos_bias, PositionBiasRows) else biased_attention
        out = attention(self._heads(self.q(x)), self._heads(k), self._heads(v), pos_bias)
        if torch.compiler.is_exporting():  # other runtimes have their own layouts, and each transpose is a copy
            return out.transpose(2, 3).reshape(x.shape)
        # Concatenated heads, (B, N, C), are channels_last without a copy.
        return out.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, x.shape[2:])

    def _heads(self, x: Tensor) -> Tensor:
        return x.flatten(2).unflatten(1, (self.num_heads, -1)).transpose(2, 3)


class InferenceSTE(nn.Module):
    """The branch of :class:`STE`, without its input, scaled by LayerScale. Shapes: (B, C, H, W) -> the same."""

    def __init__(self, ste: STE, layer_scale: LayerScale):
        super().__init__()
        self.dwconv = ste.dwconv
        self.squeeze = scale_input(ste.squeeze, *scale_and_shift(ste.bn1))
        expand = scale_output(scale_input(ste.expand, *scale_and_shift(ste.bn2)), *scale_and_shift(ste.bn3))
        self.expand = scale_output(expand, exact(layer_scale.weight), exact(layer_scale.bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(gelu(self.squeeze(depthwise(x, self.dwconv, activate=True))))


class InferenceMSFFN(nn.Module):
    """:class:`MSFFN` with the norm's weights before it, LayerScale after it and the residual around it all.

    A branch with kernel size 1 is a scale and a shift, and is folded into the BatchNorm before it.

    Shapes:
        x (B, C, H, W), normalized, and residual (B, C, H, W), to which the result is added -> (B, C, H, W).
    """

    def __init__(self, norm: nn.GroupNorm, ffn: MSFFN, layer_scale: LayerScale):
        super().__init__()
        self.expand = scale_input(ffn.expand, *scale_and_shift(norm))
        project = scale_output(scale_input(ffn.project, *scale_and_shift(ffn.bn2)), *scale_and_shift(ffn.bn3))
        self.project = scale_output(project, exact(layer_scale.weight), exact(layer_scale.bias))
        self.widths = [conv.out_channels for conv in ffn.dwconv]
        self.dwconv = nn.ModuleList()
        scale, shift = scale_and_shift(ffn.bn1)
        for conv, s, t in zip(ffn.dwconv, scale.split(self.widths), shift.split(self.widths), strict=True):
            weight, bias = with_identity(conv)
            if conv.kernel_size == (1, 1):
                s.mul_(weight.flatten())
                t.mul_(weight.flatten()).add_(bias)
                weight, bias = torch.ones_like(weight), torch.zeros_like(bias)
            self.dwconv.append(with_weight(conv, weight, bias))
        self.affine = Affine(scale.to(ffn.bn1.weight), shift.to(ffn.bn1.weight))

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        if runs_branch_by_branch(x):
            return self._branch_by_branch(x, residual)
        x = self.affine(gelu(self.expand(x)))
        weights, biases = [conv.weight for conv in self.dwconv], [conv.bias for conv in self.dwconv]
        return residual + self.project(multiscale_depthwise_conv2d(x, weights, biases, identity=False, gelu=True))

    def _branch_by_branch(self, x: Tensor, out: Tensor) -> Tensor:
        """Compute each branch from the input to the output, so that only one is in memory."""
        parts = zip(
            self.expand.weight.split(self.widths),
            self.expand.bias.split(self.widths),
            self.affine.weight.split(self.widths),
            self.affine.bias.split(self.widths),
            self.dwconv,
            self.project.weight.split(self.widths, dim=1),
            strict=True,
        )
        for i, (expand, bias, scale, shift, dwconv, project) in enumerate(parts):
            branch = scaled(gelu(F.conv2d(x, expand, bias)), scale, shift)
            branch = gelu(branch) if dwconv.kernel_size == (1, 1) else depthwise(branch, dwconv, activate=True)
            out = plus(out, F.conv2d(branch, project, self.project.bias if i == 0 else None))
        return out


class InferenceBlock(nn.Module):
    """:class:`Block` for inference. Shapes as there."""

    def __init__(self, block: Block):
        super().__init__()
        self.dpe = fold_identity(block.dpe.dwconv)
        self.norm1 = block.norm1
        self.widths = block.mixer.widths
        self.idconv = InferenceIDConv(block.mixer.idconv)
        self.osra = InferenceOSRA(block.mixer.osra)
        self.ste = InferenceSTE(block.mixer.ste, block.scale1)
        # LayerScale of STE's input. A weight may be zero, so it cannot be folded into an earlier layer.
        self.scale = nn.Parameter(block.scale1.weight.detach()[:, None, None].clone())
        self.norm2 = nn.GroupNorm(1, block.norm2.num_channels, block.norm2.eps, affine=False)
        self.ffn = InferenceMSFFN(block.norm2, block.ffn, block.scale2)

    def forward(self, x: Tensor, pos_bias: Tensor | PositionBiasRows | None = None) -> Tensor:
        x = depthwise(x, self.dpe)
        local, distant = self.norm1(x).split(self.widths, dim=1)
        mixed = joined(self.idconv(local), self.osra(distant, pos_bias), x)
        x = torch.addcmul(x, mixed, self.scale.to(x.dtype), out=x if may_overwrite(x) else None)
        x = plus(x, self.ste(mixed))
        return self.ffn(self.norm2(x), x)
