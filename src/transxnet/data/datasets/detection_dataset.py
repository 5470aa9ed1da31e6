"""Images with boxes and masks of objects, and the PyTorch dataset over them."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.datasets.image_dataset import ImageDataset
from transxnet.data.reading.masks import decode_mask

Target = dict[str, Any]
"""What is known of an image's N objects; see :meth:`DetectionSet.target`."""

Sample = tuple[tv_tensors.Image, Target]


class Segmentations(Sequence[Any]):
    """Entries for :func:`~transxnet.data.reading.masks.decode_mask`, kept as bytes in one array.

    Lists of lists would be copied into every worker of a loader, entry by entry, as their reference counts change:
    COCO's would take gigabytes.
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
    """M objects of a whole source, ordered by image.

    Attributes:
        boxes: (M, 4) float32, x1, y1, x2, y2 in pixels, within the image and not empty.
        labels: (M,) int64, 1 to K.
        areas: (M,) float32, in pixels, as the source says: COCO's is of the mask.
        crowd: (M,) bool, whether it is a region that must neither be learnt nor count in evaluation: a crowd (COCO), or
            a difficult object (Pascal VOC).
        ids: (M,) int64, of the annotation in its file, all different.
        segmentations: M of them, or None where the source has no masks or they were not asked for.
    """

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ids: np.ndarray
    segmentations: Segmentations | None = None


@dataclass(frozen=True)
class DetectionSet(ImageCollection):
    """N images, in files, with objects of K classes; images without an object are as good as others.

    Label 1 is the first of the ``class_names``.

    Attributes:
        sizes: (images, 2) int64, height and width of each image in the storage.
        image_ids: (images,) int64, of COCO's files; else counted from 1.
        objects: of all images.
        first: (images + 1,) where each image's objects begin and the last one's end.
        category_ids: K ids of the classes in the data's own file, in the order of the names; -1 for what it lacks.
    """

    sizes: np.ndarray
    image_ids: np.ndarray
    objects: Objects
    first: np.ndarray
    category_ids: list[int]

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
        """For each image of this set, the labels of its objects, crowds left out."""
        return [self.objects.labels[o][~self.objects.crowd[o]] for o in map(self._slice, range(len(self)))]

    def image_id(self, index: int) -> int:
        """Id of image ``index`` of this set."""
        return int(self.image_ids[self.indices[index]])

    def with_objects(self) -> Self:
        """The images that hold an object: COCO's published trainings leave the others out."""
        return self.subset(np.flatnonzero([len(labels) > 0 for labels in self.own_labels]))

    def with_classes(self, class_names: list[str], classes: Sequence[int]) -> Self:
        """The same images with a model's classes.

        Args:
            class_names: the model's.
            classes: for each class of this set, in order, the index of the model's class.
        """
        labels = np.array([0, *(index + 1 for index in classes)])
        ids = [-1] * len(class_names)
        for index, category in zip(classes, self.category_ids, strict=True):
            ids[index] = category
        objects = replace(self.objects, labels=labels[self.objects.labels])
        return replace(self, objects=objects, class_names=class_names, category_ids=ids)

    def target(self, index: int, *, masks: bool = False, crowds: bool = True) -> Target:
        """What is known of the N objects in image ``index`` of this set.

        Args:
            index: of the image.
            masks: make the objects' masks as well.
            crowds: with the regions that are marked as crowds, for evaluation.

        Returns:
            ``boxes`` BoundingBoxes (N, 4) float32, XYXY in pixels; ``labels`` (N,) int64, 1 to K; ``area`` (N,)
            float32; ``iscrowd`` (N,) int64; ``image_id`` int; on request ``masks`` Mask (N, H, W) uint8, of 0 and 1.
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
    """Lists of images and targets, since each image has a size of its own."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


class DetectionDataset(ImageDataset):
    """Images and targets in their own size; the model resizes.

    Args:
        images: the set.
        transform: of image and target together, or None.
        masks: give the objects' masks as well.
        crowds: give the regions that are marked as crowds as well: for evaluation, not for training.

    Items: Image (3, H, W) uint8, RGB; the target as :meth:`DetectionSet.target` returns it. Batches: a list of each.
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

    def item(self, loaded: Image.Image, position: int) -> Sample:
        """Image and target."""
        image = tv_tensors.Image(pil_to_tensor(loaded))
        target = self.images.target(position, masks=self.masks, crowds=self.crowds)
        return (image, target) if self.transform is None else self.transform(image, target)
