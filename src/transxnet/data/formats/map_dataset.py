"""Map-style data sets in Python: sequences of images and class indices, such as torchvision's."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.utils.errors import UserError

ACCEPTED = "a map-style data set whose items are pairs of a PIL image and a class index"


@dataclass(frozen=True)
class DatasetImages:
    """The images of a data set, read on access."""

    dataset: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Image.Image:
        return self.dataset[int(index)][0].convert("RGB")


def read_map_dataset(dataset: Any, class_names: list[str] | None = None) -> ClassificationSet:
    """Return the images of a data set, named by their index.

    Its labels are ``dataset.targets`` if there are any, which is faster than to read all items. Its classes are
    ``dataset.classes``, or else the class indices.

    Args:
        dataset: see :data:`ACCEPTED`.
        class_names: classes of the training images, for validation images.

    Raises:
        UserError: an item is not such a pair, or the classes differ from ``class_names``.
    """
    try:
        count = len(dataset)
        image, _ = dataset[0]
        given = getattr(dataset, "targets", None)
        labels = np.asarray([dataset[i][1] for i in range(count)] if given is None else given)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise UserError(f"cannot read the data set {type(dataset).__name__}: {error}. Accepted: {ACCEPTED}.") from error
    if not isinstance(image, Image.Image):
        raise UserError(
            f"the data set {type(dataset).__name__} has images of type {type(image).__name__}. Accepted: {ACCEPTED}. "
            "Remove its transform, and pass it as train_transform."
        )
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise UserError(
            f"the data set {type(dataset).__name__} has labels such as {labels.flat[0]!r}. Accepted: {ACCEPTED}."
        )
    own = [str(name) for name in getattr(dataset, "classes", None) or class_names or range(labels.max() + 1)]
    if labels.max() >= len(own) or (class_names is not None and own != class_names):
        raise UserError(
            f"the data set {type(dataset).__name__} has other classes than the training images: {', '.join(own[:10])}, "
            f"and labels up to {labels.max()}."
        )
    return ClassificationSet(DatasetImages(dataset), [str(i) for i in range(count)], own, labels.astype(np.int64))
