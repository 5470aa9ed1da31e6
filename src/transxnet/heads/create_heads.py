"""Create detectors and segmenters by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from transxnet.data.loading.preprocessing import check_normalization
from transxnet.heads.dense_checkpoints import dense_tensors, load_checkpoint
from transxnet.heads.mask_rcnn import MaskRCNN
from transxnet.heads.pyramid import create_body
from transxnet.heads.retinanet import RetinaNet
from transxnet.heads.semantic_fpn import SemanticFPN
from transxnet.utils.errors import UserError, check_at_least, check_one_of

DETECTORS: dict[str, tuple[type[RetinaNet] | type[MaskRCNN], tuple[int, ...]]] = {
    "retinanet": (RetinaNet, (8, 16, 32)),
    "maskrcnn": (MaskRCNN, (4, 8, 16, 32)),
}


def create_detector(
    head: Literal["retinanet", "maskrcnn"],
    backbone: str | nn.Module,
    num_classes: int,
    pretrained: bool = False,
    checkpoint: str | Path | Mapping[str, Any] | None = None,
    drop_path_rate: float = 0.0,
    min_size: int = 800,
    max_size: int = 1333,
    head_norm: bool = False,
    box_batch_size_per_image: int = 512,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> RetinaNet | MaskRCNN:
    """Create a detector on one of our models, or any of timm's with stages.

    Args:
        head: "retinanet" predicts boxes, "maskrcnn" boxes and masks.
        backbone: name of a model, or a module that outputs feature maps and describes them in ``feature_info``.
        num_classes: number of classes, without the background. Labels are 1 to num_classes.
        pretrained: load the backbone's published ImageNet weights.
        checkpoint: load this file, or its contents, instead: a whole detector, published or ours, or a classifier.
        drop_path_rate: stochastic depth rate; the paper's detectors use 0.1 (T), 0.2 (S) and 0.3 (B).
        min_size: the shorter side of an image is resized to this many pixels.
        max_size: the longer side is at most this; the shorter side becomes smaller if necessary.
        head_norm: use GroupNorm in the pyramid and the heads, to train from scratch; not in the published detectors.
        box_batch_size_per_image: regions sampled per image to train Mask R-CNN's heads.
        mean: mean of each channel, for images of other channels than RGB, whose values are then in the unit of the
            files; the backbone gets as many input channels. By default images are RGB in 0 to 1.
        std: standard deviation of each channel.

    Raises:
        UserError: an invalid argument, a model without stages, or weights that are not available or do not fit.
        ValueError: mean and std are not finite numbers for each channel, std other than 0.
    """
    check_one_of(tuple(DETECTORS), head=head)
    check_at_least(
        1,
        num_classes=num_classes,
        min_size=min_size,
        max_size=max_size,
        box_batch_size_per_image=box_batch_size_per_image,
    )
    kind, strides = DETECTORS[head]
    body, whole = _create_backbone(backbone, strides, pretrained, checkpoint, drop_path_rate, mean, std)
    options: dict[str, Any] = dict(min_size=min_size, max_size=max_size, head_norm=head_norm)
    if head == "maskrcnn":
        options["box_batch_size_per_image"] = box_batch_size_per_image
    model = kind(body, num_classes, **options)
    if whole:
        load_checkpoint(model, checkpoint)  # type: ignore[arg-type]
    return model


def create_segmenter(
    backbone: str | nn.Module,
    num_classes: int,
    pretrained: bool = False,
    checkpoint: str | Path | Mapping[str, Any] | None = None,
    drop_path_rate: float = 0.0,
    ignore_index: int = 255,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> SemanticFPN:
    """Create Semantic FPN on one of our models, or any of timm's with stages.

    Args:
        backbone: name of a model, or a module that outputs feature maps and describes them in ``feature_info``.
        num_classes: number of classes, including the background. Labels are 0 to num_classes - 1.
        pretrained: load the backbone's published ImageNet weights.
        checkpoint: load this file, or its contents, instead: a whole segmenter, published or ours, or a classifier.
        drop_path_rate: stochastic depth rate; the paper's segmenters use 0.1 (T), 0.2 (S) and 0.3 (B).
        ignore_index: label of ignored pixels.
        mean: mean of each channel, for images of other channels than RGB, whose values are then in the unit of the
            files; the backbone gets as many input channels. By default images are RGB in 0 to 1.
        std: standard deviation of each channel.

    Raises:
        UserError: an invalid argument, a model without stages, or weights that are not available or do not fit.
        ValueError: mean and std are not finite numbers for each channel, std other than 0.
    """
    check_at_least(1, num_classes=num_classes)
    body, whole = _create_backbone(backbone, (4, 8, 16, 32), pretrained, checkpoint, drop_path_rate, mean, std)
    model = SemanticFPN(body, num_classes, ignore_index)
    if whole:
        load_checkpoint(model, checkpoint)  # type: ignore[arg-type]
    return model


def _create_backbone(
    backbone: str | nn.Module,
    strides: tuple[int, ...],
    pretrained: bool,
    checkpoint: str | Path | Mapping[str, Any] | None,
    drop_path_rate: float,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> tuple[nn.Module, bool]:
    """Return the backbone with its weights, and whether the checkpoint covers more than the backbone."""
    if mean is not None or std is not None:
        check_normalization(mean or (), std or ())
    whole = checkpoint is not None and dense_tensors(checkpoint) is not None
    if isinstance(backbone, nn.Module):
        if pretrained or drop_path_rate or mean is not None or (checkpoint is not None and not whole):
            raise UserError(
                "pretrained, drop_path_rate, mean and a classifier's checkpoint require a backbone given by name. "
                f"Create the {type(backbone).__name__} with them instead."
            )
        return backbone, whole
    weights = None if whole else checkpoint
    return create_body(backbone, strides, pretrained and not whole, weights, drop_path_rate, mean, std), whole
