"""What surrounds a network in a file that takes one decoded image of any size: preparation of the image before it, and
conversion of its outputs to those of ``transxnet predict`` after it.

Each is a module to trace. The network between them is the one of other files.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transxnet.data.loading.channel_transforms import MAX_ASPECT
from transxnet.data.loading.dense_transforms import AlignedResize
from transxnet.data.loading.opencv_resize import opencv_resize
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.deploy.image_resampling import antialiased_weights, count, lengths, resize_levels, sides
from transxnet.heads.detector_transform import MASK_THRESHOLD, DetectorTransform
from transxnet.metrics.targets import Targets


@dataclass(frozen=True)
class WholeImage:
    """The modules around a network.

    Attributes:
        prepare: image -> the inputs of the network.
        finish: image, the inputs of the network after the first, and its outputs -> the outputs of the file.
        maps: whether the outputs of the network are maps of the size of its input.
    """

    prepare: nn.Module
    finish: nn.Module
    maps: bool = False


class ClassifierInput(nn.Module):
    """Resize, crop and normalize an image as :class:`~transxnet.data.loading.preprocessing.Preprocessing`.

    Args:
        preprocessing: with "bilinear" or "bicubic" interpolation.

    Shapes:
        uint8 (H, W, 3) -> (1, 3, S, S) float32.
    """

    def __init__(self, preprocessing: Preprocessing):
        super().__init__()
        self.side, self.interpolation = preprocessing.img_size, preprocessing.interpolation
        self.shorter = int(preprocessing.img_size / preprocessing.crop_pct)
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor]:
        whole = sides(image)
        start = ((whole - MAX_ASPECT * whole.amin(0)).clamp(min=0) / 2).floor()
        kept = whole - 2 * start
        fitted = (self.shorter * kept / kept.amin(0)).floor()
        first = ((fitted - self.side) / 2).round()
        rows, columns = (
            antialiased_weights(
                count(image.shape[axis]) - start[axis],
                fitted[axis],
                count(self.side) + first[axis],
                kept[axis],
                self.interpolation,
            )
            for axis in (0, 1)
        )
        levels = resize_levels(image.permute(2, 0, 1).float(), rows, columns)
        return (((levels / 255 - self.mean) / self.std)[None],)


class ClassifierOutput(nn.Module):
    """Logits (1, K) -> probabilities of classes or labels, or values in their unit: (1, K) float32.

    Args:
        targets: what the logits mean.
    """

    def __init__(self, targets: Targets):
        super().__init__()
        self.targets = targets

    def forward(self, image: Tensor, logits: Tensor) -> tuple[Tensor]:
        return (self.targets.activate(logits),)


class SegmenterInput(nn.Module):
    """Resize an image as a segmenter.

    Args:
        resize: the segmenter's own.

    Shapes:
        uint8 (H, W, 3) -> (1, 3, h, w) in 0 to 1, with sides that are multiples of 32.
    """

    def __init__(self, resize: AlignedResize):
        super().__init__()
        self.longer, self.shorter = max(resize.scale), min(resize.scale)
        self.multiple, self.as_published = resize.multiple, resize.as_published

    def forward(self, image: Tensor) -> tuple[Tensor]:
        whole, channels_first = sides(image), image.permute(2, 0, 1)
        factor = torch.minimum(self.longer / whole.amax(0), self.shorter / whole.amin(0))
        fitted = (whole * factor + 0.5).floor().clamp(min=1)
        aligned = (fitted / self.multiple).ceil() * self.multiple
        size = lengths(aligned)
        if self.as_published:
            levels = opencv_resize(opencv_resize(channels_first, lengths(fitted)), size).float()
        else:
            rows, columns = (
                antialiased_weights(count(image.shape[axis]), aligned[axis], count(size[axis]), whole[axis], "bilinear")
                for axis in (0, 1)
            )
            levels = resize_levels(channels_first.float(), rows, columns)
        return ((levels / 255)[None],)


class SegmenterOutput(nn.Module):
    """Logits (1, K, h, w) of an image (H, W, 3) -> its label map (H, W) uint8."""

    def forward(self, image: Tensor, logits: Tensor) -> tuple[Tensor]:
        resized = F.interpolate(logits, size=image.shape[:2], mode="bilinear", align_corners=False)
        return (resized[0].argmax(0).to(torch.uint8),)


class DetectorInput(nn.Module):
    """Resize an image as a detector, and pad it at the right and the bottom with the mean color.

    Args:
        transform: the detector's own.

    Shapes:
        uint8 (H, W, 3) -> (1, 3, h, w) in 0 to 1, with sides that are multiples of 32, and (4,): width and height of
        the image in it, twice.
    """

    def __init__(self, transform: DetectorTransform):
        super().__init__()
        self.shorter, self.longer = transform.min_size[-1], transform.max_size
        self.divisor, self.opencv_resize = transform.size_divisible, transform.opencv_resize
        self.register_buffer("fill", torch.tensor(transform.image_mean).view(-1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        whole, channels_first = sides(image), image.permute(2, 0, 1)
        scale = torch.minimum(self.shorter / whole.amin(0), self.longer / whole.amax(0))
        fitted = (whole * scale + 0.5).floor().clamp(min=1)
        size = height, width = lengths(fitted)
        if self.opencv_resize:
            resized = opencv_resize(channels_first, size).float() / 255
        else:
            unit = channels_first.float() / 255
            resized = F.interpolate(unit[None], size=size, mode="bilinear", align_corners=False)[0]
        # Padded with 0 relative to the fill value, since each channel has its own.
        padded = F.pad(resized - self.fill, (0, -width % self.divisor, 0, -height % self.divisor)) + self.fill
        return padded[None], fitted.flip(0).repeat(2).float()


class DetectorOutput(nn.Module):
    """Detections in the network's input -> those that ``transxnet predict`` returns, in pixels of the image.

    Args:
        score_threshold: detections up to this score are dropped.

    Shapes:
        image (H, W, 3), its width and height in the network's input (4,), boxes (N, 4), labels (N,), scores (N,) and
        optionally masks (N, 1, M, M) -> boxes (D, 4), labels (D,), scores (D,) and masks (D, H, W), bool.
    """

    def __init__(self, score_threshold: float):
        super().__init__()
        self.score_threshold = score_threshold

    def forward(
        self, image: Tensor, limits: Tensor, boxes: Tensor, labels: Tensor, scores: Tensor, masks: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        boxes = boxes * (sides(image).flip(0).repeat(2).float() / limits)
        wanted = (scores > self.score_threshold) & ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        index = wanted.nonzero()[:, 0]
        found = boxes[index], labels[index], scores[index]
        if masks is None:
            return found
        return *found, pasted_masks(masks[index, 0], found[0], image)


def pasted_masks(masks: Tensor, boxes: Tensor, image: Tensor) -> Tensor:
    """Paste masks as :func:`~transxnet.heads.detector_transform.paste_masks`, all at once by two matrix products.

    Args:
        masks: (D, M, M), each spanning its box, in 0 to 1.
        boxes: (D, 4) as (x1, y1, x2, y2) in pixels of the image.
        image: (H, W, 3).

    Returns:
        bool (D, H, W).
    """
    height, width = image.shape[:2]
    rows = _mask_weights(boxes[:, 1], boxes[:, 3], height, masks.shape[1])
    columns = _mask_weights(boxes[:, 0], boxes[:, 2], width, masks.shape[2])
    return rows @ masks @ columns.transpose(1, 2) >= MASK_THRESHOLD


def _mask_weights(low: Tensor, high: Tensor, size: int, cells: int) -> Tensor:
    """Weights (D, size, cells) that interpolate masks at the pixels between the sides ``low`` and ``high`` (D,)."""
    low, high = low[:, None], high[:, None]
    pixels = torch.arange(size, dtype=torch.float32)
    places = (pixels + 0.5 - low) / (high - low) * cells - 0.5
    weights = (1 - (places[:, :, None] - torch.arange(cells, dtype=torch.float32)).abs()).clamp(min=0)
    inside = (pixels >= low.floor()) & (pixels < high.floor() + 1)
    return weights * inside[:, :, None]
