"""Images with boxes and masks of objects, and their PyTorch dataset."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.datasets.image_dataset import ImageDataset
from transxnet.data.reading.masks import decode_mask
from transxnet.data.reading.pixels import Pixels, pixels_to_tensor

Target = dict[str, Any]
"""Annotations of an image's N objects; see :meth:`DetectionSet.target`."""

Sample = tuple[tv_tensors.Image, Target]


class Segmentations(Sequence[Any]):
    """Entries for :func:`~transxnet.data.reading.masks.decode_mask`, kept as bytes in one array.

    Nested lists would be copied into every worker of a loader as their reference counts change: gigabytes for COCO.
    """

    def __init__(self, entries: Iterable[Any]):
        texts = [json.dumps(entry, separators=(",", ":")).encode() for entry in entries]
        self._bytes = np.frombuffer(b"".join(texts), np.uint8)
        self._ends = np.cumsum([0, *map(len, texts)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        return json.loads(self._bytes[self._ends[index] : self._ends[index + 1]].tobytes())


@dataclass(frozen=True)
class Objects:
    """M objects of a data set, ordered by image.

    Attributes:
        boxes: (M, 4) float32, x1, y1, x2, y2 in pixels, within the image and not empty.
        labels: (M,) int64, 1 to K.
        areas: (M,) float32, in pixels, as given in the annotations; COCO's is the mask's area.
        crowd: (M,) bool, regions that are ignored in training and evaluation: crowds (COCO) or difficult objects
            (Pascal VOC).
        ids: (M,) int64, unique ids of the annotations in their file.
        segmentations: M entries, or None if there are no masks or they were not requested.
    """

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ids: np.ndarray
    segmentations: Segmentations | None = None


@dataclass(frozen=True)
class DetectionSet(ImageCollection):
    """N images, in files, with objects of K classes; images without objects are included.

    Label 1 is the first of the ``class_names``.

    Attributes:
        sizes: (images, 2) int64, height and width of each image in the storage.
        image_ids: (images,) int64, from COCO's files; otherwise counted from 1.
        objects: objects of all images.
        first: (images + 1,) start of each image's objects, and the end of the last one's.
        category_ids: ids of the K classes in the annotation file, in the order of the names; None for those that the
            file does not have.
    """

    sizes: np.ndarray
    image_ids: np.ndarray
    objects: Objects
    first: np.ndarray
    category_ids: Sequence[int | None]

    @property
    def has_masks(self) -> bool:
        """Whether the objects have masks."""
        return self.objects.segmentations is not None

    @property
    def own_sizes(self) -> np.ndarray:
        """(N, 2) height and width of this set's images."""
        return self.sizes[self.indices]

    @property
    def own_labels(self) -> list[np.ndarray]:
        """Labels of the objects of each image in this set, without crowds."""
        return [self.objects.labels[o][~self.objects.crowd[o]] for o in map(self._slice, range(len(self)))]

    def image_id(self, index: int) -> int:
        """Id of image ``index`` of this set."""
        return int(self.image_ids[self.indices[index]])

    def with_objects(self) -> Self:
        """The images that contain objects; COCO's published training skips the others."""
        return self.subset(np.flatnonzero([len(labels) > 0 for labels in self.own_labels]))

    def with_classes(self, class_names: list[str], classes: Sequence[int]) -> Self:
        """Return the same images with a model's classes.

        Args:
            class_names: the model's class names.
            classes: for each class of this set, in order, the index of the model's class.
        """
        labels = np.array([0, *(index + 1 for index in classes)])
        ids: list[int | None] = [None] * len(class_names)
        for index, category in zip(classes, self.category_ids, strict=True):
            ids[index] = category
        objects = replace(self.objects, labels=labels[self.objects.labels])
        return replace(self, objects=objects, class_names=class_names, category_ids=ids)

    def target(self, index: int, *, masks: bool = False, crowds: bool = True) -> Target:
        """Return the annotations of the N objects in an image of this set.

        Args:
            index: index of the image.
            masks: also decode the objects' masks.
            crowds: include regions marked as crowds, for evaluation.

        Returns:
            ``boxes`` BoundingBoxes (N, 4) float32, XYXY in pixels; ``labels`` (N,) int64, 1 to K; ``area`` (N,)
            float32; ``iscrowd`` (N,) int64; ``image_id`` int; with ``masks`` also Mask (N, H, W) uint8, of 0 and 1.
        """
        objects, span = self.objects, self._slice(index)
        kept = np.arange(span.start, span.stop)
        if not crowds:
            kept = kept[~objects.crowd[span]]
        height, width = map(int, self.sizes[self.indices[index]])
        target: Target = {
            "boxes": tv_tensors.BoundingBoxes(
                torch.from_numpy(objects.boxes[kept]), format="XYXY", canvas_size=(height, width)
            ),
            "labels": torch.from_numpy(objects.labels[kept]),
            "area": torch.from_numpy(objects.areas[kept]),
            "iscrowd": torch.from_numpy(objects.crowd[kept].astype(np.int64)),
            "image_id": self.image_id(index),
        }
        if masks:
            made = torch.zeros(len(kept), height, width, dtype=torch.uint8)
            assert objects.segmentations is not None
            for number, i in enumerate(kept):
                made[number] = torch.from_numpy(decode_mask(objects.segmentations[int(i)], height, width))
            target["masks"] = tv_tensors.Mask(made)
        return target

    def _slice(self, index: int) -> slice:
        image = self.indices[index]
        return slice(int(self.first[image]), int(self.first[image + 1]))


def collate_detection(samples: Sequence[Sample]) -> tuple[list[Tensor], list[Target]]:
    """Return lists of images and targets, since the images differ in size."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


class DetectionDataset(ImageDataset):
    """Images and targets at the images' original size; the model does the resizing.

    Args:
        images: images and their annotations.
        transform: transform of image and target together, or None.
        masks: include the objects' masks.
        crowds: include regions marked as crowds: for evaluation, not for training.

    Items: Image (3, H, W) uint8, RGB, or (C, H, W) float32 of stored values; the target as
    :meth:`DetectionSet.target` returns it. Batches: a list of each.
    """

    collate = staticmethod(collate_detection)

    def __init__(
        self,
        images: DetectionSet,
        transform: Callable[[tv_tensors.Image, Target], Sample] | None = None,
        *,
        masks: bool = False,
        crowds: bool = True,
    ):
        super().__init__(images)
        self.transform, self.masks, self.crowds = transform, masks, crowds

    def item(self, loaded: Pixels, position: int) -> Sample:
        """Return image and target."""
        image = tv_tensors.Image(pixels_to_tensor(loaded))
        target = self.images.target(position, masks=self.masks, crowds=self.crowds)
        return (image, target) if self.transform is None else self.transform(image, target)
