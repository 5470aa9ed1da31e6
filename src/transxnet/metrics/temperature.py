"""Temperature scaling of probabilities (Guo et al. 2017)."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, logit, softmax

LIMITS = (0.05, 20.0)
"""Range of the temperature. Without an error on the validation images, the best one would be 0."""


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature of the highest likelihood.

    Args:
        probabilities: (N, C) softmax outputs of validation images.
        labels: (N,) their classes.
    """
    logits, rows = _logits(probabilities), np.arange(len(labels))
    return _best_temperature(lambda temperature: -log_softmax(logits / temperature, axis=1)[rows, labels].mean())


def scale_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities (N, C) of the same logits, divided by the temperature."""
    return softmax(_logits(probabilities) / temperature, axis=1)


def fit_label_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature of the highest likelihood of independent labels.

    Args:
        probabilities: (N,) sigmoid outputs of validation images.
        labels: (N,) whether each label is true.
    """
    logits = _label_logits(probabilities) * np.where(labels, 1, -1)
    return _best_temperature(lambda temperature: -log_expit(logits / temperature).mean())


def scale_label_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities of the same logits of labels, of any shape, divided by the temperature."""
    return expit(_label_logits(probabilities) / temperature)


def _best_temperature(loss: Callable[[float], float]) -> float:
    """Return the temperature with the smallest loss."""
    found = minimize_scalar(lambda log: float(loss(np.exp(log))), bounds=np.log(LIMITS), method="bounded")
    return float(np.exp(found.x))


def _label_logits(probabilities: np.ndarray) -> np.ndarray:
    """Return logits of labels; 0 and 1 are taken as the float32 next to them."""
    limits = np.finfo(np.float32)
    return logit(np.clip(probabilities.astype(np.float64), limits.tiny, 1 - limits.epsneg))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Return logits up to a constant, which softmax ignores; 0 is taken as the smallest normal float32."""
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))
