"""Resize and normalize images for a detector, and map its detections back to the original size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from transxnet.data.loading.opencv_resize import opencv_resize_unit

MASK_THRESHOLD = 0.5


class DetectorTransform(GeneralizedRCNNTransform):
    """Resize, normalize and pad a batch of images; map boxes and masks back to the original images.

    The shorter side is resized to ``min_size``, or less if the longer would exceed ``max_size``; bilinear, with sides
    rounded as in mmdetection 2.x (torchvision truncates, so very thin images vanish). The batch is then zero-padded at
    the right and the bottom to its largest image and a multiple of 32; zero is the mean after normalization.

    Args:
        min_size: shorter side, in pixels.
        max_size: largest longer side, in pixels.
        mean: mean of each channel, for values in 0 to 1.
        std: standard deviation of each channel.

    Attributes:
        opencv_resize: resize 8-bit images as OpenCV does, unless there are targets. The published detectors were
            evaluated with it. By default pixels stay floating-point; on two photographs, normalized pixels differ by up
            to 0.014.
    """

    opencv_resize = False

    def __init__(self, min_size: int, max_size: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__(min_size, max_size, list(mean), list(std), size_divisible=32)

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Resize, normalize and pad images (3, H, W) in 0 to 1, and resize their targets."""
        if self.opencv_resize and targets is None:
            # Afterwards no other resizing is necessary.
            images = [opencv_resize_unit(image, self.resized_size(image.shape[1:])) for image in images]
        return super().forward(images, targets)

    def resized_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Compute height and width of an image after resizing."""
        scale = min(self.min_size[-1] / min(size), self.max_size / max(size))
        height, width = (max(1, int(side * scale + 0.5)) for side in size)
        return height, width

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize an image (3, H, W), and its target's boxes (N, 4) and, by nearest neighbor, masks (N, H, W).

        Adds "padded_size" to the target: width and height of this image when padded on its own.
        """
        size = (image.shape[1], image.shape[2])
        height, width = self.resized_size(size)
        if (height, width) != size:
            image = F.interpolate(image[None], (height, width), mode="bilinear", align_corners=False)[0]
        if target is None:
            return image, None
        boxes = resize_boxes(target["boxes"], list(size), [height, width])
        padded = [side + -side % self.size_divisible for side in (width, height)]
        target = {**target, "boxes": boxes, "padded_size": torch.tensor(padded, device=boxes.device)}
        if "masks" in target:
            masks = target["masks"].to(torch.uint8)
            target["masks"] = (
                F.interpolate(masks[None], (height, width), mode="nearest")[0]
                if len(masks)
                else (masks.new_zeros((0, height, width)))
            )
        return image, target

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Map detections to the original images, and drop those without an area there."""
        if self.training:
            return result
        detections = []
        for found, size, own_size in zip(result, image_shapes, original_image_sizes, strict=True):
            boxes = resize_boxes(found["boxes"], list(size), list(own_size))
            keep = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
            found = {name: values[keep] for name, values in {**found, "boxes": boxes}.items()}
            if "masks" in found:
                found["masks"] = paste_masks(found["masks"][:, 0], found["boxes"], own_size)
            detections.append(found)
        return detections


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Paste each mask into the image at its box.

    Args:
        masks: (N, M, M), each spanning its box, in 0 to 1.
        boxes: (N, 4) as (x1, y1, x2, y2) in pixels of the image.
        size: height and width of the image.

    Returns:
        bool (N, height, width): whether the mask, interpolated at the pixel's center, is at least 0.5 there.
    """
    pasted = torch.zeros((len(masks), *size), dtype=torch.bool, device=masks.device)
    # One at a time and only inside the box: a hundred float masks of a large image would fill the memory.
    for mask, box, (x1, y1, x2, y2), image in zip(masks, boxes, boxes.tolist(), pasted, strict=True):
        left, right = max(int(x1), 0), min(int(x2) + 1, size[1])
        top, bottom = max(int(y1), 0), min(int(y2) + 1, size[0])
        if left >= right or top >= bottom:
            continue
        # Coordinates from -1 to 1 across the mask.
        xs = (torch.arange(left, right, device=masks.device) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
        ys = (torch.arange(top, bottom, device=masks.device) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
        grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)[None]
        values = F.grid_sample(mask[None, None].float(), grid.float(), mode="bilinear", align_corners=False)
        image[top:bottom, left:right] = values[0, 0] >= MASK_THRESHOLD
    return pasted


def mean_and_std(body: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std for which a backbone's published weights were trained; ImageNet's if unknown."""
    config = getattr(body, "pretrained_cfg", None) or {}
    return tuple(config.get("mean", IMAGENET_DEFAULT_MEAN)), tuple(config.get("std", IMAGENET_DEFAULT_STD))


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32, since half-precision image coordinates are off by pixels."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def float_images(images: list[Tensor]) -> list[Tensor]:
    """Convert uint8 images to floats in 0 to 1; the stored values of floating-point images are unchanged."""
    plain = (image.as_subclass(Tensor) for image in images)
    return [image if image.is_floating_point() else image.float() / 255 for image in plain]
