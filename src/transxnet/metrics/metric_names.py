"""Display names of all metrics."""

METRIC_NAMES = {
    "accuracy": "accuracy",
    "majority": "  always the commonest class",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1, mean of the classes",
    "top5_accuracy": "top-5 accuracy",
    "weighted_accuracy": "accuracy, weighted by the labels' certainty",
    "ap": "AP of boxes, IoU 0.50 to 0.95",
    "ap50": "  at IoU 0.50",
    "ap75": "  at IoU 0.75",
    "ap_small": "  of objects under 32x32 pixels",
    "ap_medium": "  of objects up to 96x96 pixels",
    "ap_large": "  of larger objects",
    "mask_ap": "AP of masks, IoU 0.50 to 0.95",
    "mask_ap50": "  at IoU 0.50",
    "mask_ap75": "  at IoU 0.75",
    "mask_ap_small": "  of objects under 32x32 pixels",
    "mask_ap_medium": "  of objects up to 96x96 pixels",
    "mask_ap_large": "  of larger objects",
    "miou": "mean IoU of the classes",
    "mean_accuracy": "mean accuracy of the classes",
    "pixel_accuracy": "pixel accuracy",
}
"""Display name of each metric; a leading space indents it below the previous one."""
