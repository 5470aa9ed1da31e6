"""Multi-label metrics, from the probabilities of a classifier whose labels do not exclude each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torchmetrics.functional.classification import (
    binary_precision_recall_curve,
    binary_stat_scores,
)

from transxnet.metrics.binary_curves import BinaryCurves
from transxnet.metrics.calibration import Calibration, calibration_bins
from transxnet.metrics.count_metrics import class_metrics_from_counts, weighted_mean
from transxnet.metrics.intervals import MAX_RANKED, Resampled
from transxnet.metrics.temperature import fit_label_temperature, scale_label_temperature

UNKNOWN = -1
"""Integer of an unknown label, which torchmetrics ignores."""


@dataclass(frozen=True)
class MultiLabelEvaluation(Resampled):
    """A multi-label classifier's results on N images with C labels each.

    Unknown labels (NaN) are ignored in all metrics.

    Attributes:
        class_names: C names, by class index.
        names: N image names.
        labels: (N, C) 0, 1 or NaN.
        probabilities: (N, C) sigmoid outputs.
        thresholds: (C,) smallest probability of each class at which its label is predicted.
        weights: (N,) confidence in the labels, 0 to 1, if the data has it; else None.
        groups: (N,) group of each image, such as its patient, if the data has it; else None.
        temperature: temperature of the probabilities, fitted on validation images; None if it is not.
    """

    class_names: list[str]
    names: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    thresholds: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None
    temperature: float | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def known(self) -> np.ndarray:
        """(N, C) whether each label is known."""
        return ~np.isnan(self.labels)

    @property
    def predictions(self) -> np.ndarray:
        """(N, C) whether each label is predicted."""
        return self.probabilities >= self.thresholds

    @property
    def wrong(self) -> np.ndarray:
        """(N, C) whether each prediction is wrong; False where the label is unknown."""
        return self.known & (self.predictions != (self.labels == 1))

    @cached_property
    def scaled_probabilities(self) -> np.ndarray | None:
        """(N, C) probabilities after temperature scaling; None without a temperature."""
        return None if self.temperature is None else scale_label_temperature(self.probabilities, self.temperature)

    def fitted(self) -> Self:
        """Return the same results with what is fitted on these images.

        This is the threshold with the highest F1 of each class, and the temperature, if there is a known label.
        """
        known, temperature = self.known, None
        if known.any():
            temperature = fit_label_temperature(self.probabilities[known], self.labels[known])
        return replace(self, thresholds=best_thresholds(self.labels, self.probabilities), temperature=temperature)

    def metrics(self) -> dict[str, float]:
        """Compute metrics from 0 to 1, without those that are not defined for these labels.

        ``macro_ap`` and ``macro_auroc`` are means over the classes that occur with both labels; ``micro_ap`` and
        ``micro_auroc`` treat all labels as those of one class, as do ``ece`` and ``brier``, the calibration error and
        mean squared error of their probabilities, and ``ece_scaled`` and ``brier_scaled``, the same after temperature
        scaling. ``f1`` is the mean over the classes, ``micro_f1`` the F1
        of all labels, and ``exact_match`` the fraction of images without a wrong label; all three at the thresholds.
        With weights also ``weighted_exact_match``.
        """
        return dict(self._metrics)

    @cached_property
    def _metrics(self) -> dict[str, float]:
        """The metrics; those of many labels take seconds."""
        return {name: value for name, value in self.all_metrics().items() if not np.isnan(value)}

    def all_metrics(self) -> dict[str, float]:
        """Compute the same, with NaN for those that are not defined."""
        calibration = self._calibration_metrics(self.scaled_probabilities)
        return self._ranking_metrics() | calibration | self._threshold_metrics()

    def resampler(self) -> Callable[[np.ndarray], Mapping[str, float]]:
        """Return the metrics as a function of the indices of drawn images."""

        scaled = self.scaled_probabilities

        def drawn_metrics(indices: np.ndarray) -> Mapping[str, float]:
            weights = None if self.weights is None else self.weights[indices]
            labels, probabilities = self.labels[indices], self.probabilities[indices]
            drawn = replace(self, labels=labels, probabilities=probabilities, weights=weights)
            if self.labels.size > MAX_RANKED:
                return drawn._threshold_metrics()
            calibration = drawn._calibration_metrics(None if scaled is None else scaled[indices])
            return drawn._ranking_metrics() | calibration | drawn._threshold_metrics()

        return drawn_metrics

    def _ranking_metrics(self) -> dict[str, float]:
        """Compute the metrics of the ranking by probability."""
        known = self.known
        probabilities, true = self.probabilities[known], self.labels[known] == 1
        everything = BinaryCurves(0, probabilities, true)
        both = 0 < everything.labels.sum() < len(everything.labels)
        curves = [curve for curve in map(self.curves, range(len(self.class_names))) if curve is not None]
        return {
            "macro_ap": _mean([curve.average_precision for curve in curves]),
            "micro_ap": everything.average_precision if both else np.nan,
            "macro_auroc": _mean([curve.auroc for curve in curves]),
            "micro_auroc": everything.auroc if both else np.nan,
        }

    def _calibration_metrics(self, scaled: np.ndarray | None) -> dict[str, float]:
        """Compute the metrics of the calibration, before and after temperature scaling."""
        known, metrics = self.known, {}
        true = self.labels[known] == 1
        for kind, probabilities in (("", self.probabilities), ("_scaled", scaled)):
            if probabilities is not None:
                own = probabilities[known]
                metrics[f"ece{kind}"] = calibration_bins(own, true).error if len(own) else np.nan
                metrics[f"brier{kind}"] = _mean((own - true) ** 2)
        return metrics

    def calibration(self, scaled: bool = False) -> Calibration:
        """Return the fraction of labels that are true by their probability, of all known labels together.

        Args:
            scaled: after temperature scaling, if there is a temperature.
        """
        probabilities = self.scaled_probabilities if scaled else self.probabilities
        assert probabilities is not None
        return calibration_bins(probabilities[self.known], self.labels[self.known] == 1)

    def _threshold_metrics(self) -> dict[str, float]:
        """Compute the metrics at the thresholds."""
        counts, judged = self._counts(), self.known.any(axis=1)
        of_classes = class_metrics_from_counts(counts)
        total = class_metrics_from_counts(counts.sum(axis=0, keepdims=True))
        right = np.asarray(~self.wrong[judged].any(axis=1))
        weighted = {} if self.weights is None else {"weighted_exact_match": weighted_mean(right, self.weights[judged])}
        return {
            "f1": _mean(of_classes["f1"][of_classes["support"] > 0]),
            "micro_f1": float(total["f1"][0]),
            "exact_match": _mean(right),
            **weighted,
        }

    def describe_fitted(self, fitted_here: bool) -> list[str]:
        """Return sentences about the thresholds and the temperature."""
        where = "these images, so its metrics are optimistic here" if fitted_here else "the validation images"
        sentences = [f"Threshold of each label, for F1 and exact match: the highest F1 on {where}."]
        if self.temperature is not None:
            sentences.append(f"Temperature {self.temperature:.2f} of the scaling: fitted on {where}.")
        return sentences

    def fitted_thresholds(self) -> dict[str, Any]:
        """Return the threshold of each label by its name, as plain data."""
        return {"thresholds": dict(zip(self.class_names, self.thresholds.tolist(), strict=True))}

    def per_class(self) -> dict[str, np.ndarray]:
        """Compute (C,) auroc, ap, precision, recall, f1, and numbers of known and positive labels (known, support).

        AUROC, AP and F1 are NaN without a positive label, AUROC and AP also without a negative one.
        """
        curves = [self.curves(label) for label in range(len(self.class_names))]
        at_thresholds = class_metrics_from_counts(self._counts())
        return {
            "auroc": np.array([np.nan if curve is None else curve.auroc for curve in curves]),
            "ap": np.array([np.nan if curve is None else curve.average_precision for curve in curves]),
            "precision": at_thresholds["precision"],
            "recall": at_thresholds["recall"],
            "f1": np.where(at_thresholds["support"] > 0, at_thresholds["f1"], np.nan),
            "known": self.known.sum(axis=0),
            "support": at_thresholds["support"],
        }

    def curves(self, label: int) -> BinaryCurves | None:
        """Return the ROC and precision-recall curve of a class; None unless it occurs with both labels."""
        known = self.known[:, label]
        positive = self.labels[known, label] == 1
        if not 0 < positive.sum() < len(positive):
            return None
        return BinaryCurves(label, self.probabilities[known, label], positive)

    def _counts(self) -> np.ndarray:
        """(C, 5) counts, as :func:`~transxnet.metrics.classification.class_metrics_from_counts` takes them."""
        labels = torch.from_numpy(np.where(self.known, self.labels, UNKNOWN).astype(np.int64))
        predicted = torch.from_numpy(self.predictions.astype(np.int64))
        pairs = zip(predicted.T, labels.T, strict=True)  # torchmetrics' multilabel_stat_scores refuses a single label
        return np.stack([binary_stat_scores(*pair, ignore_index=UNKNOWN).numpy() for pair in pairs])


def best_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return (C,) thresholds of the highest F1 of each class; 0.5 for classes without a positive label.

    Each lies halfway between two probabilities, so that rounding does not change predictions.

    Args:
        labels: (N, C) 0, 1 or NaN.
        probabilities: (N, C).
    """
    known = ~np.isnan(labels)
    return np.array(
        [_best_threshold(t[k] == 1, p[k]) for t, p, k in zip(labels.T, probabilities.T, known.T, strict=True)]
    )


def _best_threshold(positive: np.ndarray, scores: np.ndarray) -> float:
    if not positive.any():
        return 0.5
    curve = binary_precision_recall_curve(torch.from_numpy(scores), torch.from_numpy(positive).long())
    precision, recall, thresholds = (values.numpy().astype(np.float64) for values in curve)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    below = thresholds[best - 1] if best else 0.0
    return float((below + thresholds[best]) / 2)


def _mean(values: Any) -> float:
    """Return the mean of the values that are not NaN; NaN if all are."""
    defined = np.asarray(values, np.float64)
    defined = defined[~np.isnan(defined)]
    return float(defined.mean()) if len(defined) else np.nan
