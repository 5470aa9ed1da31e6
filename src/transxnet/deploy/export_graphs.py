"""Modules to trace: networks with one image input and tensor outputs."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from transxnet.heads import RetinaNet, SemanticFPN


class InputNormalization(nn.Module):
    """Convert the input of an exported file to the input of the network.

    Args:
        mean: mean of each channel, for values in 0 to 1.
        std: standard deviation of each channel.
        uint8: take uint8 images and normalize them.
        dtype: data type of the network.

    Shapes:
        uint8 (N, H, W, 3), or normalized float32 (N, 3, H, W) -> (N, 3, H, W).
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], uint8: bool, dtype: torch.dtype):
        super().__init__()
        self.uint8, self.dtype = uint8, dtype
        spread = torch.tensor(std, dtype=torch.float64)
        scale, shift = 1 / (255 * spread), -torch.tensor(mean, dtype=torch.float64) / spread
        self.register_buffer("scale", scale.float().view(-1, 1, 1))
        self.register_buffer("shift", shift.float().view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        if self.uint8:
            images = images.permute(0, 3, 1, 2).float() * self.scale + self.shift
        return images.to(self.dtype)


class ClassifierGraph(nn.Module):
    """Images -> logits (N, K) float32."""

    def __init__(self, normalize: InputNormalization, network: nn.Module):
        super().__init__()
        self.normalize, self.network = normalize, network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.normalize(images)).float()


class FeaturesGraph(nn.Module):
    """Images -> the feature map (N, C, H', W') float32 of each stage.

    Args:
        normalize: input normalization.
        network: a classifier with timm's ``forward_intermediates``, whose stage outputs are returned, or a network that
            returns a list of feature maps.
    """

    def __init__(self, normalize: InputNormalization, network: nn.Module):
        super().__init__()
        self.normalize, self.network = normalize, network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.normalize(images)
        if hasattr(self.network, "forward_intermediates"):
            maps = self.network.forward_intermediates(x, intermediates_only=True)
        else:
            maps = self.network(x)
        return tuple(each.float() for each in maps)


class SegmenterGraph(nn.Module):
    """Images in 0 to 1 -> logits (N, K, H, W) float32."""

    def __init__(self, normalize: InputNormalization, network: SemanticFPN):
        super().__init__()
        self.normalize, self.network = normalize, network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.normalize(images)).float()


class DetectorGraph(nn.Module):
    """One image in 0 to 1 -> a fixed number of RetinaNet detections.

    The caller resizes the image to the detector's scale. The output is the detector's own, with two differences that
    keep shapes fixed: detections below the score threshold are included, and if non-maximum suppression leaves fewer
    than ``detections_per_img``, the rest has score 0.

    Args:
        normalize: input normalization.
        detector: in evaluation mode.

    Shapes:
        images (1, 3, H, W) -> boxes (D, 4) as (x1, y1, x2, y2) in pixels, labels (D,) from 1, int64, and scores (D,),
        in descending order of score.
    """

    def __init__(self, normalize: InputNormalization, detector: RetinaNet):
        super().__init__()
        self.normalize, self.backbone, self.head = normalize, detector.backbone, detector.head
        self.box_coder, self.strides = detector.box_coder, detector.anchor_generator.strides
        self.num_classes, self.nms_thresh = detector.num_classes, detector.nms_thresh
        self.candidates, self.count = detector.topk_candidates, detector.detections_per_img
        for name, values in (("mean", detector.transform.image_mean), ("std", detector.transform.image_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))
        for level, anchors in enumerate(detector.anchor_generator.cell_anchors):
            self.register_buffer(f"anchors{level}", anchors.float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        images = self.normalize(images)
        height, width = images.shape[2:]
        images = ((images - self.mean) / self.std).to(images.dtype)  # the buffers are float32
        images = F.pad(images, (0, -width % 32, 0, -height % 32))
        levels = [self._candidates(level, x) for level, x in enumerate(self.backbone(images).values())]
        boxes, labels, scores = (torch.cat(parts) for parts in zip(*levels, strict=True))
        limits = torch.stack([torch.scalar_tensor(side, dtype=boxes.dtype) for side in (width, height) * 2])
        boxes = torch.minimum(boxes.clamp(min=0), limits)
        scores = scores * ((boxes[:, 2:] - boxes[:, :2]).amin(1) > 0)  # without an area, after all others
        kept = nms(boxes + self._apart(labels, boxes.max() + 1), scores, self.nms_thresh)
        return self._first(boxes[kept]), self._first(labels[kept] + 1), self._first(scores[kept])

    def _candidates(self, level: int, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, labels from 0 and scores of the best candidates at one level."""
        outputs = self.head([features])
        deltas, scores = outputs["bbox_regression"][0].float(), outputs["cls_logits"][0].float().sigmoid().flatten()
        total = scores.shape[0]
        # A small image may have fewer scores than candidates.
        scores, index = F.pad(scores, (0, self.candidates)).topk(self.candidates)
        index = torch.minimum(index, torch.scalar_tensor(total - 1, dtype=index.dtype))
        place, labels = index // self.num_classes, index % self.num_classes
        anchors = self._anchors(level, *features.shape[2:])
        return self.box_coder.decode_single(deltas[place], anchors[place]), labels, scores

    def _anchors(self, level: int, height: int, width: int) -> Tensor:
        """The anchors of one level, as in :class:`~transxnet.heads.anchors.Anchors`: (height * width * 9, 4)."""
        cell, stride = getattr(self, f"anchors{level}"), self.strides[level]
        x, y = torch.arange(width, device=cell.device) * stride, torch.arange(height, device=cell.device) * stride
        x, y = x.expand(height, width), y[:, None].expand(height, width)
        shifts = torch.stack([x, y, x, y], dim=2).to(cell.dtype)
        return (shifts[:, :, None] + cell).flatten(0, 2)

    def _apart(self, labels: Tensor, extent: Tensor) -> Tensor:
        """Offsets that separate the boxes of different classes: (D, 4).

        The classes are laid out in a square, since coordinates lose precision as they grow.
        """
        side = math.ceil(math.sqrt(self.num_classes))
        x, y = labels % side * extent, labels // side * extent
        return torch.stack([x, y, x, y], dim=1)

    def _first(self, values: Tensor) -> Tensor:
        """Truncate to the fixed number of detections, or pad with zeros."""
        return torch.cat([values, values.new_zeros((self.count, *values.shape[1:]))])[: self.count]
