"""Segmentation metrics: mean IoU and pixel accuracy from a confusion matrix of pixels."""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_confusion_matrix

from transxnet.data.datasets.segmentation_dataset import IGNORE, SegmentationSet
from transxnet.metrics.intervals import Resampled


@dataclass(frozen=True)
class SegmentationEvaluation(Resampled):
    """A segmenter's results on N images with pixels of K classes.

    Attributes:
        images: the images with their true label maps.
        confusion: (K, K) pixels, true class by row, predicted by column, without ignored pixels.
        image_counts: (N, 3, K) correct, true and predicted pixels of each class in each image.
        maps: the predicted label map of each image, as the bytes of a PNG file.
    """

    images: SegmentationSet
    confusion: np.ndarray
    image_counts: np.ndarray
    maps: list[bytes]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_names(self) -> list[str]:
        """K names; label 0 is the first."""
        return self.images.class_names

    @property
    def groups(self) -> np.ndarray | None:  # type: ignore[override]
        """(N,) group of each image, or None."""
        return self.images.own_groups

    @cached_property
    def image_miou(self) -> np.ndarray:
        """(N,) mean IoU in each image, over the classes that occur or were predicted; NaN if all pixels are ignored."""
        return np.array([segmentation_metrics(counts)["miou"] for counts in self.image_counts])

    def predicted(self, index: int) -> np.ndarray:
        """(H, W) uint8 predicted labels of image ``index``."""
        with Image.open(io.BytesIO(self.maps[index])) as image:
            return np.asarray(image)

    def metrics(self) -> dict[str, float]:
        """Metrics between 0 and 1: ``miou`` and ``mean_accuracy``, means over the classes; ``pixel_accuracy``.

        Empty where every pixel is ignored.
        """
        metrics = segmentation_metrics(class_pixels(self.confusion))
        return {name: value for name, value in metrics.items() if not math.isnan(value)}

    def resampler(self) -> Callable[[np.ndarray], Mapping[str, float]]:
        """Return the metrics as a function of the indices of drawn images."""
        return lambda indices: segmentation_metrics(self.image_counts[indices].sum(0))

    def per_class(self) -> dict[str, np.ndarray]:
        """(K,) ``iou``, ``accuracy`` (recall), ``precision`` and ``share`` of the pixels; NaN where undefined."""
        return class_metrics(class_pixels(self.confusion))


class SegmentationMetric:
    """Accumulates label maps, image by image, into a :class:`SegmentationEvaluation`.

    Args:
        images: all images that :meth:`update` will receive label maps for.
    """

    def __init__(self, images: SegmentationSet):
        count = len(images.class_names)
        self.images, self._confusion = images, np.zeros((count, count), np.int64)
        self._image_counts: list[np.ndarray] = []
        self._maps: list[bytes] = []

    def update(self, predicted: np.ndarray, labels: np.ndarray) -> None:
        """Add the next image's predicted labels, (H, W) from 0 to K - 1, and its true ones, where 255 is ignored."""
        counts = confusion_matrix(predicted, labels, len(self._confusion))
        self._confusion += counts
        self._image_counts.append(class_pixels(counts))
        buffer = io.BytesIO()
        Image.fromarray(predicted.astype(np.uint8)).save(buffer, "PNG")
        self._maps.append(buffer.getvalue())

    def compute(self) -> SegmentationEvaluation:
        """Compute the metrics of all images."""
        counts = np.array(self._image_counts).reshape(-1, 3, len(self._confusion))
        return SegmentationEvaluation(self.images, self._confusion, counts, self._maps)


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, K) pixels by true class (row) and predicted class (column), without ignored pixels."""
    matrix = multiclass_confusion_matrix(
        torch.from_numpy(predicted),
        torch.from_numpy(labels),
        num_classes=max(2, num_classes),  # torchmetrics accepts no single class
        ignore_index=IGNORE,
        validate_args=False,
    )
    return matrix.numpy()[:num_classes, :num_classes]


def class_pixels(confusion: np.ndarray) -> np.ndarray:
    """(3, K) correct, true and predicted pixels of each class from a confusion matrix."""
    return np.stack([np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)])


def class_metrics(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """(K,) metrics of each class from :func:`class_pixels`; NaN where the denominator is 0."""
    correct, true, predicted = pixels
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "iou": correct / (true + predicted - correct),
            "dice": 2 * correct / (true + predicted),
            "accuracy": correct / true,
            "precision": correct / predicted,
            "share": true / true.sum(),
        }


def segmentation_metrics(pixels: np.ndarray) -> dict[str, float]:
    """Mean IoU over the classes that occur or were predicted, mean accuracy over those that occur, pixel accuracy.

    As mmsegmentation 0.x computes the published values. NaN where no pixel is labeled.

    Args:
        pixels: (3, K), as from :func:`class_pixels`.
    """
    correct, true, _ = pixels
    if not true.sum():
        return {"miou": np.nan, "mean_accuracy": np.nan, "pixel_accuracy": np.nan}
    per_class = class_metrics(pixels)
    return {
        "miou": float(np.nanmean(per_class["iou"])),
        "mean_accuracy": float(np.nanmean(per_class["accuracy"])),
        "pixel_accuracy": float(correct.sum() / true.sum()),
    }
