"""Display names of all metrics."""

from transxnet.utils.quantities import format_value

METRIC_NAMES = {
    "accuracy": "accuracy",
    "knn_accuracy": "accuracy of the nearest neighbors",
    "majority": "  baseline: most frequent class",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "auprc": "AUPRC (average precision)",
    "macro_ap": "mean AP of the labels",
    "micro_ap": "  AP of all labels together",
    "macro_auroc": "mean AUROC of the labels",
    "micro_auroc": "  AUROC of all labels together",
    "f1": "F1 (macro)",
    "mcc": "Matthews correlation coefficient (MCC)",
    "sensitivity": "sensitivity at the threshold",
    "specificity": "specificity at the threshold",
    "micro_f1": "  F1 of all labels together",
    "top5_accuracy": "top-5 accuracy",
    "weighted_accuracy": "accuracy, weighted by label confidence",
    "ece": "expected calibration error (ECE)",
    "ece_scaled": "  ECE after temperature scaling",
    "brier": "Brier score",
    "brier_scaled": "  Brier score after temperature scaling",
    "exact_match": "images with all labels correct",
    "weighted_exact_match": "all labels correct, weighted by confidence",
    "mae": "mean absolute error (MAE)",
    "weighted_mae": "MAE, weighted by label confidence",
    "rmse": "root mean squared error (RMSE)",
    "baseline_rmse": "  baseline: mean of the targets",
    "r2": "R2",
    "spearman": "Spearman's rank correlation",
    "ap": "box AP, IoU 0.50 to 0.95",
    "ap50": "  at IoU 0.50",
    "ap75": "  at IoU 0.75",
    "ap_small": "  of objects under 32x32 pixels",
    "ap_medium": "  of objects from 32x32 to 96x96 pixels",
    "ap_large": "  of objects over 96x96 pixels",
    "mask_ap": "mask AP, IoU 0.50 to 0.95",
    "mask_ap50": "  at IoU 0.50",
    "mask_ap75": "  at IoU 0.75",
    "mask_ap_small": "  of objects under 32x32 pixels",
    "mask_ap_medium": "  of objects from 32x32 to 96x96 pixels",
    "mask_ap_large": "  of objects over 96x96 pixels",
    "miou": "mean IoU",
    "mean_accuracy": "mean class accuracy",
    "pixel_accuracy": "pixel accuracy",
    "effective_rank": "effective rank of the embeddings",
    "embedding_std": "standard deviation of the embeddings",
}
"""Display name of each metric; a leading space indents it below the previous one."""

_IN_UNITS = ("mae", "weighted_mae", "rmse", "baseline_rmse")
_NUMBERS = ("loss", "r2", "spearman", "mcc", "brier", "brier_scaled", "effective_rank", "embedding_std")


def format_interval(name: str, limits: tuple[float, float] | None) -> str:
    """Format the interval of a metric: "85.1% to 89.7%"; empty without one."""
    return "" if limits is None else " to ".join(format_metric(name, limit) for limit in limits)


def format_metric(name: str, value: float) -> str:
    """Format a metric: most in percent, errors in the unit of the targets."""
    if name in _IN_UNITS:
        return format_value(value)
    return f"{value:.3f}" if name in _NUMBERS else f"{value:.1%}"
