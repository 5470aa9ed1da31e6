"""Likely label errors, by the probabilities of a model that was not trained on the images."""

import numpy as np

from transxnet.checking.check_findings import DataFinding, Kind
from transxnet.metrics.classification import ClassificationEvaluation


def label_error_findings(evaluation: ClassificationEvaluation, numbers: np.ndarray) -> list[DataFinding]:
    """Return the images whose label is likely wrong, most confident first.

    A label is likely wrong if the model predicts another class with at least the mean probability that the images of
    that class have for it (Northcutt et al., "Confident learning", JAIR 2021). The images are ranked by the margin
    between the probability of the label and that of the predicted class.

    Args:
        evaluation: predictions of images that the model was not trained on, in order.
        numbers: (N,) numbers of these images.
    """
    probabilities, labels = evaluation.probabilities, evaluation.labels
    own = probabilities[np.arange(len(labels)), labels]
    count = np.bincount(labels, minlength=probabilities.shape[1])
    expected = np.bincount(labels, own, probabilities.shape[1]) / np.maximum(count, 1)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    likely = (predicted != labels) & (confidence >= expected[predicted]) & (count[predicted] > 0)
    margin = own - confidence
    names = evaluation.class_names
    return [
        DataFinding(
            Kind.LABEL_ERROR,
            (int(numbers[i]),),
            f"label {names[labels[i]]} ({own[i]:.1%}), predicted {names[predicted[i]]} ({confidence[i]:.1%})",
        )
        for i in sorted(np.flatnonzero(likely).tolist(), key=lambda i: margin[i])
    ]
