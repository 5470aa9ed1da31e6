"""Published checkpoints: backbones, and detectors and segmenters of mmdetection 2.x and mmsegmentation 0.x."""

import torch
from torch import Tensor

from tests.helpers import fill

KINDS = ("retinanet", "maskrcnn", "sfpn")


def shapes(kind: str, variant: str, num_classes: int | None = None) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor; by default 80 classes for the detectors and 150 for the segmenter."""
    backbone = fill.keys(variant, "features")
    if kind == "retinanet":  # has no norm for stage 1
        backbone = {name: shape for name, shape in backbone.items() if not name.startswith("norm0.")}
    widths = [backbone[f"network.{i}.0.norm1.weight"][0] for i in (0, 2, 4, 6)]
    classes = num_classes or (150 if kind == "sfpn" else 80)
    heads = {"retinanet": _retinanet, "maskrcnn": _mask_rcnn, "sfpn": _semantic_fpn}[kind](widths, classes)
    return {f"backbone.{name}": tuple(shape) for name, shape in backbone.items()} | heads


def filled(kind: str, variant: str, num_classes: int | None = None) -> dict[str, Tensor]:
    """Such a checkpoint with random values."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.zeros(shape, dtype=torch.int64)
        if name.endswith("num_batches_tracked")
        else torch.rand(shape, generator=generator) * 0.04 + (0.5 if name.endswith("running_var") else -0.02)
        for name, shape in shapes(kind, variant, num_classes).items()
    }


def empty(kind: str, variant: str) -> dict[str, Tensor]:
    """Such a checkpoint on the meta device, without values."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes(kind, variant).items()}


def empty_backbone(variant: str, form: str) -> dict[str, Tensor]:
    """The tensors of a published classifier or dense backbone on the meta device, without values."""
    return {key: torch.empty(shape, device="meta") for key, shape in fill.keys(variant, form).items()}


def _layer(name: str, *weight: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def _neck(inputs: list[int]) -> dict[str, tuple[int, ...]]:
    layers = {}
    for i, width in enumerate(inputs):
        layers |= _layer(f"neck.lateral_convs.{i}.conv", 256, width, 1, 1)
        layers |= _layer(f"neck.fpn_convs.{i}.conv", 256, 256, 3, 3)
    return layers


def _retinanet(widths: list[int], classes: int) -> dict[str, tuple[int, ...]]:
    layers = _neck(widths[1:])
    layers |= _layer("neck.fpn_convs.3.conv", 256, widths[3], 3, 3) | _layer("neck.fpn_convs.4.conv", 256, 256, 3, 3)
    for branch in ("cls_convs", "reg_convs"):
        for i in range(4):
            layers |= _layer(f"bbox_head.{branch}.{i}.conv", 256, 256, 3, 3)
    return (
        layers | _layer("bbox_head.retina_cls", 9 * classes, 256, 3, 3) | _layer("bbox_head.retina_reg", 36, 256, 3, 3)
    )


def _mask_rcnn(widths: list[int], classes: int) -> dict[str, tuple[int, ...]]:
    layers = _neck(widths) | _layer("rpn_head.rpn_conv", 256, 256, 3, 3)
    layers |= _layer("rpn_head.rpn_cls", 3, 256, 1, 1) | _layer("rpn_head.rpn_reg", 12, 256, 1, 1)
    layers |= _layer("roi_head.bbox_head.shared_fcs.0", 1024, 256 * 49)
    layers |= _layer("roi_head.bbox_head.shared_fcs.1", 1024, 1024)
    layers |= _layer("roi_head.bbox_head.fc_cls", classes + 1, 1024)
    layers |= _layer("roi_head.bbox_head.fc_reg", 4 * classes, 1024)
    for i in range(4):
        layers |= _layer(f"roi_head.mask_head.convs.{i}.conv", 256, 256, 3, 3)
    layers |= _layer("roi_head.mask_head.upsample", 256, 256, 2, 2)
    return layers | _layer("roi_head.mask_head.conv_logits", classes, 256, 1, 1)


def _semantic_fpn(widths: list[int], classes: int) -> dict[str, tuple[int, ...]]:
    layers = _neck(widths) | _layer("decode_head.conv_seg", classes, 128, 1, 1)
    for level, steps in enumerate(((0,), (0,), (0, 2), (0, 2, 4))):
        for step in steps:
            name = f"decode_head.scale_heads.{level}.{step}"
            layers[f"{name}.conv.weight"] = (128, 256 if step == 0 else 128, 3, 3)
            layers |= {f"{name}.bn.{leaf}": (128,) for leaf in ("weight", "bias", "running_mean", "running_var")}
            layers[f"{name}.bn.num_batches_tracked"] = ()
    return layers
