"""The metrics of a study of segmenters: IoU and Dice from the pixels of each image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transxnet.metrics.segmentation import class_metrics, segmentation_metrics

SEGMENTATION_METRICS = {"miou": "Mean IoU", "mean_dice": "Mean Dice", "pixel_accuracy": "Pixel accuracy"}
"""Display name of each metric over all classes; ``iou_CLASS`` and ``dice_CLASS`` follow for each class."""


@dataclass(frozen=True)
class ScoredMaps:
    """The predicted label maps of N images with pixels of K classes.

    Attributes:
        class_names: K names.
        counts: (N, 3, K) pixels of each image: correct, true and predicted ones of each class.
    """

    class_names: tuple[str, ...]
    counts: np.ndarray

    @property
    def compared(self) -> tuple[str, ...]:
        """Metrics that are compared in addition to the one that ranks the arms."""
        return "miou", "mean_dice"

    def __len__(self) -> int:
        return len(self.counts)

    def take(self, indices: np.ndarray) -> "ScoredMaps":
        """Return the images at these indices, which may repeat."""
        return ScoredMaps(self.class_names, self.counts[indices])

    @classmethod
    def concatenate(cls, parts: Sequence["ScoredMaps"]) -> "ScoredMaps":
        """Return the images of all parts, one part after the other."""
        return cls(parts[0].class_names, np.concatenate([part.counts for part in parts]))

    def metrics(self) -> dict[str, float]:
        """Compute the metrics from the pixels of all images together, as mmsegmentation does.

        The means are over the classes that occur or were predicted; other classes have NaN.
        """
        pixels = self.counts.sum(0)
        whole, per_class = segmentation_metrics(pixels), class_metrics(pixels)
        dice = per_class["dice"]
        values = {
            "miou": whole["miou"],
            "mean_dice": np.nan if np.isnan(dice).all() else np.nanmean(dice),
            "pixel_accuracy": whole["pixel_accuracy"],
            **{f"iou_{name}": value for name, value in zip(self.class_names, per_class["iou"], strict=True)},
            **{f"dice_{name}": value for name, value in zip(self.class_names, dice, strict=True)},
        }
        return {name: float(value) for name, value in values.items()}

    @property
    def image_scores(self) -> np.ndarray:
        """(N,) mean IoU within each image; NaN where every pixel is ignored."""
        return np.array([self.take(np.array([i])).metrics()["miou"] for i in range(len(self))])
