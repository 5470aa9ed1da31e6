"""The metrics of a study of segmenters: IoU and Dice from the pixels of each image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
        correct, true, predicted = self.counts.sum(0)
        present = true + predicted > 0
        iou, dice = np.full((2, len(present)), np.nan)
        iou[present] = correct[present] / (true + predicted - correct)[present]
        dice[present] = 2 * correct[present] / (true + predicted)[present]
        values = {
            "miou": iou[present].mean() if present.any() else np.nan,
            "mean_dice": dice[present].mean() if present.any() else np.nan,
            "pixel_accuracy": correct.sum() / true.sum() if true.any() else np.nan,
            **{f"iou_{name}": value for name, value in zip(self.class_names, iou, strict=True)},
            **{f"dice_{name}": value for name, value in zip(self.class_names, dice, strict=True)},
        }
        return {name: float(value) for name, value in values.items()}

    @property
    def image_scores(self) -> np.ndarray:
        """(N,) mean IoU within each image; NaN where every pixel is ignored."""
        return np.array([self.take(np.array([i])).metrics()["miou"] for i in range(len(self))])
