"""Counts of classes, and classes that are rare or missing."""

from transxnet.checking.class_counts import class_counts, imbalance_findings


def test_images_and_objects_of_each_class_are_counted(planted, bad_boxes):
    assert class_counts(planted.all_images)["val"] == [1, 11]
    assert class_counts(bad_boxes.all_images) == {"train": [0, 0, 10], "val": [0, 0, 2]}


def test_rare_and_missing_classes_are_found():
    found = imbalance_findings({"train": [200, 19, 20], "val": [5, 0, 2]}, ["a", "b", "c"])
    assert [finding.detail for finding in found] == [
        "val has no b",
        "b occurs 19 times in train, a 200 times (11:1)",
    ]
    assert imbalance_findings({}, ["value"]) == []
