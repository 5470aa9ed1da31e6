import pytest
import torch

from transxnet.heads.target_checks import check_images, check_targets

IMAGES = [torch.zeros(3, 20, 30), torch.zeros(3, 10, 10)]


def target(**changes) -> dict:
    good = dict(
        boxes=torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 30.0, 20.0]]),
        labels=torch.tensor([1, 2]),
        masks=torch.zeros(2, 20, 30, dtype=torch.bool),
    )
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


EMPTY = dict(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64), masks=torch.zeros(0, 10, 10) > 0)


def test_good_targets_pass():
    check_targets(IMAGES, [target(), EMPTY], 2, with_masks=True)
    check_targets(IMAGES, [target(masks=None), EMPTY], 2, with_masks=False)
    check_targets(IMAGES, [target(masks=torch.zeros(2, 20, 30, dtype=torch.uint8)), EMPTY], 2, with_masks=True)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, r"training needs one target per image \(2\), got none"),
        ([target()], r"training needs one target per image \(2\), got 1"),
        ([target(labels=None, masks=None), EMPTY], "target 0 has no labels, masks; it has boxes"),
        ([{}, EMPTY], "target 0 has no boxes, labels, masks; it has nothing"),
        ([target(boxes=torch.zeros(2, 5)), EMPTY], r"boxes of target 0 must be floats \(N, 4\), got float32 \(2, 5"),
        ([target(boxes=torch.zeros(4)), EMPTY], r"must be floats \(N, 4\), got float32 \(4,\)"),
        ([target(boxes=torch.ones(2, 4, dtype=torch.int64)), EMPTY], r"got int64 \(2, 4\)"),
        ([target(labels=torch.tensor([1])), EMPTY], r"labels of target 0 must be int64 \(2,\), one per box, got int64"),
        ([target(labels=torch.tensor([1.0, 2.0])), EMPTY], r"must be int64 \(2,\), one per box, got float32 \(2,\)"),
        ([target(masks=torch.zeros(2, 30, 20) > 0), EMPTY], r"must be \(2, 20, 30\), one per box and of the image's"),
        ([target(masks=torch.zeros(1, 20, 30) > 0), EMPTY], r"got bool \(1, 20, 30\)"),
        ([target(labels=torch.tensor([1, 0])), EMPTY], r"target 0 must be from 1 to 2 \(0 is the background\), got 0"),
        ([target(labels=torch.tensor([3, 1])), EMPTY], "must be from 1 to 2 .*, got 3"),
        (
            [target(), {**EMPTY, **dict(boxes=torch.tensor([[1.0, 2.0, 1.0, 4.0]]), labels=torch.tensor([1]),
                                        masks=torch.zeros(1, 10, 10) > 0)}],
            r"the boxes of target 1 must have x1 < x2 and y1 < y2, got \[1.0, 2.0, 1.0, 4.0\]",
        ),
        ([target(boxes=torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, float("nan"), 3.0, 4.0]])), EMPTY], "got .*nan"),
    ],
)  # fmt: skip
def test_error_names_the_target_and_its_fault(targets, message):
    with pytest.raises(ValueError, match=message):
        check_targets(IMAGES, targets, 2, with_masks=True)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "must be a list of tensors .*, got an empty list"),
        (torch.zeros(2, 3, 8, 8), r"must be a list of tensors .*, got float32 \(2, 3, 8, 8\)"),
        ([torch.zeros(3, 8, 8, dtype=torch.uint8)], r"values in 0 to 1, and image 0 is uint8 \(3, 8, 8\)"),
        ([torch.zeros(3, 8, 8), torch.zeros(8, 8)], r"image 1 is float32 \(8, 8\)"),
        ([torch.zeros(3, 0, 8)], r"image 0 is float32 \(3, 0, 8\)"),
    ],
)
def test_images_are_a_list_of_float_tensors(images, message):
    with pytest.raises(ValueError, match=message):
        check_images(images)
