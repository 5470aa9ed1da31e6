"""Check the images and targets that a detector is trained on."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def check_images(images: Sequence[Tensor]) -> None:
    """Raise ValueError unless these are images: a list of float tensors (3, H, W)."""
    if not isinstance(images, (list, tuple)) or not images:
        raise ValueError(f"images must be a list of tensors (3, H, W), got {_described(images)}.")
    for i, image in enumerate(images):
        if image.ndim != 3 or not image.is_floating_point() or not image.numel():
            raise ValueError(
                f"images must be float tensors (3, H, W) with values in 0 to 1, and image {i} is {_described(image)}."
            )


def check_targets(
    images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None, num_classes: int, with_masks: bool
) -> None:
    """Raise ValueError unless there is a valid target for each image.

    Args:
        images: (3, H, W) each.
        targets: for each image "boxes", float (N, 4) as (x1, y1, x2, y2) in pixels with x1 < x2 and y1 < y2; "labels",
            int64 (N,) from 1 to num_classes; and, if required, "masks", bool or uint8 (N, H, W). N may be 0.
        num_classes: number of classes, without the background.
        with_masks: whether masks are required.
    """
    if targets is None or len(targets) != len(images):
        count = "none" if targets is None else len(targets)
        raise ValueError(f"training needs one target per image ({len(images)}), got {count}.")
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        missing = [name for name in ("boxes", "labels", *["masks"] * with_masks) if name not in target]
        if missing:
            raise ValueError(f"target {i} has no {', '.join(missing)}; it has {', '.join(target) or 'nothing'}.")
        boxes, labels = target["boxes"], target["labels"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
            raise ValueError(f"the boxes of target {i} must be floats (N, 4), got {_described(boxes)}.")
        if labels.shape != boxes.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(
                f"the labels of target {i} must be int64 ({len(boxes)},), one per box, got {_described(labels)}."
            )
        if with_masks and target["masks"].shape != (len(boxes), *image.shape[1:]):
            height, width = image.shape[1:]
            raise ValueError(
                f"the masks of target {i} must be ({len(boxes)}, {height}, {width}), one per box and of the image's "
                f"size, got {_described(target['masks'])}."
            )
    _check_values([t["boxes"] for t in targets], [t["labels"] for t in targets], num_classes)


def _check_values(boxes: list[Tensor], labels: list[Tensor], num_classes: int) -> None:
    sizes = torch.cat(boxes).unflatten(1, (2, 2)).diff(dim=1)
    # One check for the whole batch: on a GPU each check waits for the device.
    wrong = ((torch.cat(labels) < 1) | (torch.cat(labels) > num_classes)).any() | ~(sizes > 0).all()
    if not wrong:
        return
    for i, (image_boxes, image_labels) in enumerate(zip(boxes, labels, strict=True)):
        for box, label in zip(image_boxes.tolist(), image_labels.tolist(), strict=True):
            if not 1 <= label <= num_classes:
                raise ValueError(
                    f"the labels of target {i} must be from 1 to {num_classes} (0 is the background), got {label}."
                )
            if not (box[0] < box[2] and box[1] < box[3]):
                raise ValueError(f"the boxes of target {i} must have x1 < x2 and y1 < y2, got {box}.")


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return "an empty list" if value in ([], ()) else f"a {type(value).__name__}"
