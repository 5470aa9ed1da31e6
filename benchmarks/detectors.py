"""Detectors on several backbones, as models for ``transxnet bench``.

    retinanet=benchmarks.detectors:retinanet
    transxnet bench $retinanet@backbone=transxnet_t $retinanet@backbone=convnext_tiny --img-size 800x1280 --mode train

The detectors are the package's (Sec. IV-B); only the backbone differs. A training step computes the losses of ten
objects per image; inference returns boxes and masks.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from transxnet.heads import create_detector

OBJECTS, CLASSES = 10, 80


def retinanet(**kwargs: Any) -> nn.Module:
    """RetinaNet with the arguments ``backbone`` and ``min_size``."""
    return OnBatches("retinanet", **kwargs)


def maskrcnn(**kwargs: Any) -> nn.Module:
    """Mask R-CNN with the arguments ``backbone`` and ``min_size``."""
    return OnBatches("maskrcnn", **kwargs)


class OnBatches(nn.Module):
    """A detector that takes a batch and, in training, generates the objects in it.

    Args:
        head: "retinanet" or "maskrcnn".
        backbone: name of one of our models or timm's.
        min_size: shorter side of the input images, which are then not resized; the longer may be up to 5/3 of it.

    Shapes:
        (B, 3, H, W) -> the losses by name in training, else the detections.
    """

    def __init__(self, head: Literal["retinanet", "maskrcnn"], backbone: str = "transxnet_t", min_size: int = 800):
        super().__init__()
        self.detector = create_detector(head, backbone, CLASSES, min_size=min_size, max_size=round(min_size * 5 / 3))

    def forward(self, images: Tensor) -> Any:
        targets = [objects(image) for image in images] if self.training else None
        return self.detector(list(images), targets)


def objects(image: Tensor) -> dict[str, Tensor]:
    """Ten objects of many sizes in an image (3, H, W), always the same: each fills the ellipse in its box."""
    height, width = image.shape[1:]
    random = torch.Generator().manual_seed(0)
    sides = torch.tensor([width, height]) * torch.exp(-3 * torch.rand(OBJECTS, 2, generator=random)) * 0.9
    corners = torch.rand(OBJECTS, 2, generator=random) * (torch.tensor([width, height]) - sides)
    boxes = torch.cat([corners, corners + sides.clamp(min=2)], 1)
    middle, radius = (corners + sides / 2)[..., None, None], (sides / 2)[..., None, None]
    ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    masks = ((xs - middle[:, 0]) / radius[:, 0]) ** 2 + ((ys - middle[:, 1]) / radius[:, 1]) ** 2 < 1
    labels = torch.randint(1, CLASSES + 1, (OBJECTS,), generator=random)
    return {name: value.to(image.device) for name, value in dict(boxes=boxes, labels=labels, masks=masks).items()}
