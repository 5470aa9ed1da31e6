"""The backbone with its feature pyramid, shared by all heads."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork

from transxnet.models.create import check_name, create_model_with
from transxnet.utils.errors import UserError

PYRAMID_CHANNELS = 256
HEAD_NORM = partial(nn.GroupNorm, 32)
"""Norm of the pyramid and the heads for training from scratch, which hardly works for the published heads without norms
(He et al., "Rethinking ImageNet Pre-training", Sec. 3.1)."""


class NoStochasticDepth(UserError):
    """A drop_path_rate was given for a model without stochastic depth."""


class PyramidBackbone(nn.Module):
    """A backbone and a feature pyramid of 256 channels on its outputs of given strides.

    Args:
        body: outputs a list of feature maps, described by its ``feature_info`` (timm's ``features_only`` form, ours
            too). Maps are (B, C, H, W), or (B, H, W, C) if the body's ``output_fmt`` is "NHWC", as in Swin.
        strides: strides of the maps to use.
        extra_blocks: creates the block for further levels, from the channels of the body's last map.
        norm: normalize the pyramid's own levels; see :data:`HEAD_NORM`.

    Shapes:
        (B, 3, H, W) -> name to (B, 256, ceil(H / stride), ceil(W / stride)), where "0" is the finest.

    Raises:
        UserError: the body lacks one of the strides.
        ValueError: in training, the batch is too small for the body's BatchNorms.

    Source:
        Lin et al., "Feature Pyramid Networks for Object Detection", with the initialization of mmdetection 2.x.
    """

    out_channels = PYRAMID_CHANNELS

    def __init__(
        self,
        body: nn.Module,
        strides: Sequence[int],
        extra_blocks: Callable[[int], ExtraFPNBlock] | None = None,
        norm: bool = False,
    ):
        super().__init__()
        self.body = body
        self.indices = _output_indices(type(body).__name__, body.feature_info.reduction(), strides)  # type: ignore
        channels = [body.feature_info.channels()[i] for i in self.indices]  # type: ignore
        self.channels_last = getattr(body, "output_fmt", "NCHW") == "NHWC"
        self.fpn = FeaturePyramidNetwork(
            channels,
            self.out_channels,
            None if extra_blocks is None else extra_blocks(channels[-1]),
            HEAD_NORM if norm else None,
        )
        for module in self.fpn.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Compute the pyramid of a batch of images."""
        return self.fpn(self.features(images))

    def features(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Compute the body's outputs (B, C, H', W') that are the pyramid's inputs."""
        try:
            outputs = self.body(images)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                f"{type(self.body).__name__} cannot train on {len(images)} image of "
                f"{images.shape[2]}x{images.shape[3]}: BatchNorm needs more than one value per channel. Use a "
                "batch size of 2 or more."
            ) from error
        features = [outputs[i] for i in self.indices]
        if self.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return OrderedDict((str(i), feature) for i, feature in enumerate(features))


class P6P7(ExtraFPNBlock):
    """RetinaNet's two coarsest levels: 3x3 convolutions of stride 2, on the backbone's last output and on P6.

    torchvision's block differs from the published detectors: it applies a ReLU between the two, and uses P5 instead of
    the backbone's output if that happens to have 256 channels.

    Args:
        in_channels: channels of the backbone's last output.
    """

    def __init__(self, in_channels: int):
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, PYRAMID_CHANNELS, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(PYRAMID_CHANNELS, PYRAMID_CHANNELS, 3, stride=2, padding=1)
        for conv in (self.p6, self.p7):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Return the levels p3 to p7 and their names, from p3 to p5 and the body's outputs c3 to c5."""
        c5 = x[-1]
        p6 = self.p6(c5)
        p7 = self.p7(p6)
        return [*results, p6, p7], [*names, "p6", "p7"]


class P6(ExtraFPNBlock):
    """Mask R-CNN's coarsest level: P5 subsampled by 2, used for the proposals only."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Return the levels p2 to p6 and their names, from p2 to p5."""
        p5 = results[-1]
        p6 = F.max_pool2d(p5, 1, stride=2)
        return [*results, p6], [*names, "p6"]


def create_body(
    name: str,
    strides: Sequence[int],
    pretrained: bool = False,
    weights: str | Path | Mapping[str, Any] | None = None,
    drop_path_rate: float = 0.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """Create one of our models or timm's in its dense form, for images of any size.

    Args:
        name: name of the model, such as "transxnet_t", "resnet50" or "swin_tiny_patch4_window7_224".
        strides: strides of the required outputs; later stages are dropped.
        pretrained: load the published ImageNet weights.
        weights: load these classification weights instead: a file or its contents.
        drop_path_rate: stochastic depth rate of the last block.
        mean: mean of each channel of other images than RGB, which sets the number of input channels.
        std: standard deviation of each channel.

    Raises:
        UserError: the model does not exist, its weights are not available, it lacks one of the strides, or it has no
            stochastic depth but a drop_path_rate was given.
    """
    spec = check_name(name)
    try:
        with torch.device("meta"):
            facts: Any = create_model_with(spec.untagged_name, {}, features_only=True)[0].feature_info
    except (RuntimeError, AttributeError) as error:  # raised by timm for networks without stages
        raise UserError(f"{name} does not return feature maps, which the head needs: {error}") from error
    options: dict = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
    overlay: dict[str, Any] = {}
    if isinstance(weights, Mapping):
        overlay["state_dict"] = dict(weights)
    elif weights is not None:
        overlay["file"] = str(weights)
    if mean is not None:
        overlay |= {"mean": tuple(mean), "std": tuple(std or ())}
        options["in_chans"] = len(mean)
    if overlay:
        options["pretrained_cfg_overlay"] = overlay
    try:
        return create_model_with(
            spec,
            {"strict_img_size": False},  # for networks with windows, which then accept any size
            features_only=True,
            out_indices=_output_indices(name, facts.reduction(), strides),
            pretrained=pretrained or weights is not None,
            **options,
        )[0]
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        raise NoStochasticDepth(
            f"{name} does not support stochastic depth: drop_path_rate must be 0, got {drop_path_rate}."
        ) from error


def _output_indices(name: str, reductions: Sequence[int], strides: Sequence[int]) -> list[int]:
    """The indices of the body's outputs that have the strides."""
    missing = [stride for stride in strides if stride not in reductions]
    if missing:
        raise UserError(
            f"the head needs feature maps of strides {', '.join(map(str, strides))}, but {name} returns strides "
            f"{', '.join(map(str, reductions))}. Use a network with stages, such as transxnet_t, resnet50 or "
            "swin_tiny_patch4_window7_224."
        )
    return [max(i for i, reduction in enumerate(reductions) if reduction == stride) for stride in strides]
