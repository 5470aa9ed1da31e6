"""What a segmenter said of a set of photographs, and every figure that follows from it."""

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from transxnet.data.datasets.segmentation_dataset import IGNORE, SegmentationSet


@dataclass(frozen=True)
class SegmentationEvaluation:
    """A segmenter's label maps of N photographs, in K classes.

    Attributes:
        images: the photographs with the truth.
        confusion: (K, K) pixels, true class by row, predicted by column; pixels to ignore left out.
        quality: (N,) mean IoU within each photograph, over the classes that it shows or was said to show; NaN where
            every pixel is to be ignored.
        maps: of each photograph the predicted label map, as the bytes of a PNG file.
    """

    images: SegmentationSet
    confusion: np.ndarray
    quality: np.ndarray
    maps: list[bytes]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_names(self) -> list[str]:
        """K names; label 0 is the first."""
        return self.images.class_names

    def predicted(self, index: int) -> np.ndarray:
        """(H, W) uint8 labels that photograph ``index`` was given."""
        with Image.open(io.BytesIO(self.maps[index])) as image:
            return np.asarray(image)

    def metrics(self) -> dict[str, float]:
        """Figures between 0 and 1: ``miou`` and ``mean_accuracy``, means over the classes; ``pixel_accuracy``.

        None of them where every pixel is to be ignored.
        """
        return {name: value for name, value in segmentation_figures(self.confusion).items() if not math.isnan(value)}

    def per_class(self) -> dict[str, np.ndarray]:
        """(K,) ``iou``, ``accuracy`` (recall), ``precision`` and ``share`` of the pixels; NaN where none is."""
        return class_figures(self.confusion)


class SegmentationScore:
    """Adds up label maps, photograph by photograph, to a :class:`SegmentationEvaluation`.

    Args:
        images: all that will be judged.
    """

    def __init__(self, images: SegmentationSet):
        count = len(images.class_names)
        self.images, self._confusion = images, np.zeros((count, count), np.int64)
        self._quality: list[float] = []
        self._maps: list[bytes] = []

    def update(self, predicted: np.ndarray, labels: np.ndarray) -> None:
        """Take the label map of the next photograph, (H, W) from 0 to K - 1, and the truth, in which 255 is ignored."""
        counts = confusion(predicted, labels, len(self._confusion))
        self._confusion += counts
        self._quality.append(segmentation_figures(counts)["miou"])
        buffer = io.BytesIO()
        Image.fromarray(predicted.astype(np.uint8)).save(buffer, "PNG")
        self._maps.append(buffer.getvalue())

    def result(self) -> SegmentationEvaluation:
        """The figures of all photographs."""
        return SegmentationEvaluation(self.images, self._confusion, np.array(self._quality), self._maps)


def confusion(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, K) pixels by true class (row) and predicted class (column), without those to ignore."""
    counted = labels != IGNORE
    pairs = labels[counted].astype(np.int64) * num_classes + predicted[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_figures(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """(K,) figures of each class from a confusion matrix; NaN where nothing is to be divided by."""
    right, true, said = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "iou": right / (true + said - right),
            "accuracy": right / true,
            "precision": right / said,
            "share": true / true.sum(),
        }


def segmentation_figures(confusion: np.ndarray) -> dict[str, float]:
    """Mean IoU over the classes that occur or were predicted, mean accuracy over those that occur, pixel accuracy.

    As mmsegmentation 0.x computes the published figures. NaN where there is no labelled pixel.
    """
    if not confusion.sum():
        return {"miou": np.nan, "mean_accuracy": np.nan, "pixel_accuracy": np.nan}
    figures = class_figures(confusion)
    return {
        "miou": float(np.nanmean(figures["iou"])),
        "mean_accuracy": float(np.nanmean(figures["accuracy"])),
        "pixel_accuracy": float(np.trace(confusion) / confusion.sum()),
    }
