"""Display names of all metrics."""

METRIC_NAMES = {
    "accuracy": "accuracy",
    "majority": "  baseline: most frequent class",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1 (macro)",
    "top5_accuracy": "top-5 accuracy",
    "weighted_accuracy": "accuracy, weighted by label confidence",
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
}
"""Display name of each metric; a leading space indents it below the previous one."""
