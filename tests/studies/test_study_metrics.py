import pytest

from transxnet.studies.study_metrics import metric_title, ranking_metric
from transxnet.utils.errors import UserError


def test_ranking_metric_depends_on_task_and_classes():
    assert ranking_metric(None, "classify", ["a", "b"]) == "auroc"
    assert ranking_metric(None, "classify", ["a", "b", "c"]) == "accuracy"
    assert ranking_metric(None, "segment", ["a", "b"]) == "miou"
    assert ranking_metric("dice_b", "segment", ["a", "b"]) == "dice_b"
    assert ranking_metric(None, "detect", ["a"]) == "ap"
    assert ranking_metric("mask_class_ap_a", "detect", ["a"], masks=True) == "mask_class_ap_a"
    for metric, task in (
        ("sensitivity", "classify"), ("accuracy", "segment"), ("iou_d", "segment"), ("mask_ap", "detect"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"metric must be .* got '{metric}'"):
            ranking_metric(metric, task, ["a", "b", "c"])


def test_title_of_a_single_class_has_its_name():
    assert metric_title("auroc") == "AUROC" and metric_title("mean_dice") == "Mean Dice"
    assert metric_title("iou_road") == "IoU, road" and metric_title("dice_a_b") == "Dice, a_b"
    assert metric_title("mask_class_ap_small") == "Mask AP, small" and metric_title("ap_small") == "AP, small objects"
