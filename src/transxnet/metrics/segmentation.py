"""Segmentation metrics: mean IoU and pixel accuracy from a confusion matrix of pixels."""

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_confusion_matrix

from transxnet.data.datasets.segmentation_dataset import IGNORE, SegmentationSet


@dataclass(frozen=True)
class SegmentationEvaluation:
    """A segmenter's results on N images with pixels of K classes.

    Attributes:
        images: the images with their true label maps.
        confusion: (K, K) pixels, true class by row, predicted by column, without ignored pixels.
        image_miou: (N,) mean IoU within each image, over the classes that occur or were predicted; NaN where every
            pixel is ignored.
        maps: the predicted label map of each image, as the bytes of a PNG file.
        counts: (N, 3, K) pixels of each image: correct, true and predicted ones of each class.
    """

    images: SegmentationSet
    confusion: np.ndarray
    image_miou: np.ndarray
    maps: list[bytes]
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_names(self) -> list[str]:
        """K names; label 0 is the first."""
        return self.images.class_names

    def predicted(self, index: int) -> np.ndarray:
        """(H, W) uint8 predicted labels of image ``index``."""
        with Image.open(io.BytesIO(self.maps[index])) as image:
            return np.asarray(image)

    def metrics(self) -> dict[str, float]:
        """Metrics between 0 and 1: ``miou`` and ``mean_accuracy``, means over the classes; ``pixel_accuracy``.

        Empty where every pixel is ignored.
        """
        return {name: value for name, value in segmentation_metrics(self.confusion).items() if not math.isnan(value)}

    def per_class(self) -> dict[str, np.ndarray]:
        """(K,) ``iou``, ``accuracy`` (recall), ``precision`` and ``share`` of the pixels; NaN where undefined."""
        return class_metrics(self.confusion)


class SegmentationMetric:
    """Accumulates label maps, image by image, into a :class:`SegmentationEvaluation`.

    Args:
        images: all images that :meth:`update` will receive label maps for.
    """

    def __init__(self, images: SegmentationSet):
        count = len(images.class_names)
        self.images, self._confusion = images, np.zeros((count, count), np.int64)
        self._image_miou: list[float] = []
        self._maps: list[bytes] = []
        self._counts: list[np.ndarray] = []

    def update(self, predicted: np.ndarray, labels: np.ndarray) -> None:
        """Add the next image's predicted labels, (H, W) from 0 to K - 1, and its true ones, where 255 is ignored."""
        counts = confusion_matrix(predicted, labels, len(self._confusion))
        self._confusion += counts
        self._image_miou.append(segmentation_metrics(counts)["miou"])
        self._counts.append(class_counts(counts))
        buffer = io.BytesIO()
        Image.fromarray(predicted.astype(np.uint8)).save(buffer, "PNG")
        self._maps.append(buffer.getvalue())

    def compute(self) -> SegmentationEvaluation:
        """Compute the metrics of all images."""
        counts = np.array(self._counts, np.int64).reshape(-1, 3, len(self._confusion))
        return SegmentationEvaluation(self.images, self._confusion, np.array(self._image_miou), self._maps, counts)


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


def class_counts(confusion: np.ndarray) -> np.ndarray:
    """(3, K) pixels of each class from a confusion matrix: correct, true and predicted ones."""
    return np.stack([np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)])


def class_metrics(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """(K,) metrics of each class from a confusion matrix; NaN where the denominator is 0."""
    correct, true, predicted = class_counts(confusion)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "iou": correct / (true + predicted - correct),
            "accuracy": correct / true,
            "precision": correct / predicted,
            "share": true / true.sum(),
        }


def segmentation_metrics(confusion: np.ndarray) -> dict[str, float]:
    """Mean IoU over the classes that occur or were predicted, mean accuracy over those that occur, pixel accuracy.

    As mmsegmentation 0.x computes the published values. NaN where no pixel is labeled.
    """
    if not confusion.sum():
        return {"miou": np.nan, "mean_accuracy": np.nan, "pixel_accuracy": np.nan}
    per_class = class_metrics(confusion)
    return {
        "miou": float(np.nanmean(per_class["iou"])),
        "mean_accuracy": float(np.nanmean(per_class["accuracy"])),
        "pixel_accuracy": float(np.trace(confusion) / confusion.sum()),
    }
