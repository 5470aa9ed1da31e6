"""Parameters and MACs (FLOPs in the paper) of detectors and segmenters, part by part.

Counted as in the literature: one image; convolutions and linear layers without attention's matrix products; for Mask
R-CNN 1,000 proposals through the box head and 100 through the mask head, regardless of the detections. The published
figures (Table IV) are from mmcv's counter, which hooks layers: it misses IDConv's convolution, whose kernels belong to
no layer, but adds norms and activations. The two nearly cancel: the difference is less than 0.5%.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from transxnet.analysis.cost import Cost, count_operations
from transxnet.heads import MaskRCNN, create_detector, create_segmenter
from transxnet.heads.semantic_fpn import SIZE_DIVISOR
from transxnet.models.create import wrong_size_as_user_error
from transxnet.utils.errors import UserError, check_one_of
from transxnet.utils.image_size import parse_image_size

BOX_REGIONS, MASK_REGIONS = 1000, 100
HEADS = {"retinanet": "RetinaNet", "maskrcnn": "Mask R-CNN", "semantic_fpn": "Semantic FPN"}


@dataclass(frozen=True)
class PartCost(Cost):
    """The cost of one named part of a detector or segmenter."""

    name: str


@dataclass(frozen=True)
class DenseInfo:
    """Facts about a detector or segmenter that are known without running it."""

    name: str
    head: str
    size: tuple[int, int]
    num_classes: int
    parts: list[PartCost]

    @property
    def parameters(self) -> int:
        """Parameters of all parts."""
        return sum(part.parameters for part in self.parts)

    @property
    def multiply_adds(self) -> int:
        """MACs of convolutions and linear layers of all parts, for one image: FLOPs in the literature."""
        return sum(part.multiply_adds for part in self.parts)

    @property
    def attention_multiply_adds(self) -> int:
        """MACs of attention's matrix products of all parts, for one image."""
        return sum(part.attention_multiply_adds for part in self.parts)


def dense_info(
    model: str,
    task: Literal["detect", "segment"],
    head: Literal["retinanet", "maskrcnn"] | None = None,
    img_size: int | str | tuple[int, int] | None = None,
    num_classes: int | None = None,
    in_chans: int = 3,
) -> DenseInfo:
    """Count parameters and MACs (FLOPs in the paper) of a detector or segmenter.

    Args:
        model: name of one of our models or timm's.
        task: detect objects, or segment the image.
        head: head of the detector: retinanet (boxes) or maskrcnn (boxes and masks); by default retinanet.
        img_size: HEIGHTxWIDTH of the image in pixels, by default 800x1280 to detect and 512x2048 to segment. It is
            padded to multiples of 32.
        num_classes: number of classes, by default COCO's 80 to detect and ADE20K's 150 to segment.
        in_chans: channels of the image.

    Raises:
        UserError: the model does not exist, does not support the head, or does not accept the size.
    """
    check_one_of(("detect", "segment"), task=task)
    if task == "segment" and head is not None:
        raise UserError(
            f"head={head!r} is for detectors; segmenters use Semantic FPN. Omit head, or use task='detect'."
        )
    height, width = parse_image_size(("800x1280" if task == "detect" else "512x2048") if img_size is None else img_size)
    classes = (80 if task == "detect" else 150) if num_classes is None else num_classes
    name = "semantic_fpn" if task == "segment" else head or "retinanet"
    padded = [-(-side // SIZE_DIVISOR) * SIZE_DIVISOR for side in (height, width)]
    normalization: dict[str, Any] = dict(mean=[0.0] * in_chans, std=[1.0] * in_chans)
    network: Any
    with wrong_size_as_user_error(model, height, width, "--img-size"), torch.device("meta"):
        if task == "segment":
            network = create_segmenter(model, classes, **normalization)
        else:
            network = create_detector(name, model, classes, **normalization)  # type: ignore[arg-type]
        parts = list(_parts(network.eval(), torch.empty(1, in_chans, *padded)))
    return DenseInfo(model, HEADS[name], (height, width), classes, parts)


def show(facts: DenseInfo) -> Group:
    """Format the facts for a terminal."""
    height, width = facts.size
    lines = {
        "parameters": f"{facts.parameters:,}",
        f"MACs at {height}x{width}": f"{facts.multiply_adds / 1e9:.1f} G in conv and linear layers (paper: FLOPs)",
        "": f"{facts.attention_multiply_adds / 1e9:.1f} G in attention, not counted in the paper",
    }
    table = Table("part", box=None, pad_edge=False, padding=(0, 3, 0, 2))
    table.add_column("parameters", justify="right")
    table.add_column("MACs", justify="right")
    for part in facts.parts:
        table.add_row(part.name, f"{part.parameters:,}", f"{part.multiply_adds / 1e9:.1f} G")
    title = Text(f"{facts.name}, {facts.head}, {facts.num_classes:,} classes", style="bold")
    return Group(title, *(f"  {name:<28}{value}" for name, value in lines.items()), table)


def _parts(model: Any, image: Tensor) -> Iterator[PartCost]:
    """Iterate over the parts, counted on meta tensors."""
    part, features = _part("backbone", model.backbone.features, model.backbone.body, image)
    yield part
    part, pyramid = _part("FPN", model.backbone.fpn, model.backbone.fpn, features)
    yield part
    levels = list(pyramid.values())
    if not isinstance(model, MaskRCNN):
        yield _part("head", model.head, model.head, levels)[0]
        return
    yield _part("RPN head", model.rpn.head, model.rpn.head, levels)[0]
    heads, channels = model.roi_heads, model.backbone.out_channels
    boxes = nn.Sequential(heads.box_head, heads.box_predictor)
    regions = torch.empty(BOX_REGIONS, channels, *[heads.box_roi_pool.output_size] * 2)
    yield _part(f"box head, {BOX_REGIONS:,} proposals", boxes, boxes, regions)[0]
    masks = nn.Sequential(heads.mask_head, heads.mask_predictor)
    regions = torch.empty(MASK_REGIONS, channels, *[heads.mask_roi_pool.output_size] * 2)
    yield _part(f"mask head, {MASK_REGIONS:,} proposals", masks, masks, regions)[0]


def _part(name: str, call: Callable, owner: nn.Module, *inputs: Any) -> tuple[PartCost, Any]:
    linear, attention, result = count_operations(call, *inputs)
    return PartCost(sum(p.numel() for p in owner.parameters()), linear, attention, name), result
