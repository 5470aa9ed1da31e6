"""The choices that are fitted on validation images: the temperature, and the threshold of two classes."""

from dataclasses import dataclass

import numpy as np

from transxnet.metrics.binary_curves import BinaryCurves
from transxnet.metrics.publication_metrics import ScoredImages
from transxnet.metrics.temperature import fit_temperature, scale_temperature


@dataclass(frozen=True)
class FittedChoices:
    """What is fitted on the validation images of a run.

    Attributes:
        temperature: temperature of the probabilities.
        positive: index of the positive class of two; None for more classes.
        threshold: smallest probability of the positive class that counts as positive; None likewise.
    """

    temperature: float
    positive: int | None
    threshold: float | None

    @classmethod
    def fit(cls, labels: np.ndarray, probabilities: np.ndarray, positive: int | None) -> "FittedChoices":
        """Fit the temperature by likelihood, and the threshold by Youden's index.

        Args:
            labels: (N,) class indices of the validation images.
            probabilities: (N, C) softmax outputs.
            positive: index of the positive class of two, if both occur.
        """
        threshold = None
        if positive is not None:
            threshold = BinaryCurves(positive, probabilities[:, positive], labels == positive).youden_threshold()
        return cls(fit_temperature(probabilities, labels), positive, threshold)

    def apply(self, labels: np.ndarray, probabilities: np.ndarray) -> ScoredImages:
        """Return the predictions for other images with the choices applied."""
        detected = None if self.positive is None else probabilities[:, self.positive] >= self.threshold
        scaled = scale_temperature(probabilities, self.temperature)
        return ScoredImages(labels, probabilities, scaled, self.positive, detected)
