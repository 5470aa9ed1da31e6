"""Temperature scaling of probabilities (Guo et al. 2017)."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

LIMITS = (0.05, 20.0)
"""Range of the temperature. Without an error on the validation images, the best one would be 0."""


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature of the highest likelihood.

    Args:
        probabilities: (N, C) softmax outputs of validation images.
        labels: (N,) their classes.
    """
    logits, rows = _logits(probabilities), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log(LIMITS), method="bounded").x))


def scale_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities (N, C) of the same logits, divided by the temperature."""
    return softmax(_logits(probabilities) / temperature, axis=1)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Return logits up to a constant, which softmax ignores; 0 is taken as the smallest normal float32."""
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
