"""The images of all sets of a data source, under consecutive numbers."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from PIL import Image

from transxnet.data.datasets.classification_dataset import ClassificationSet, describe_label
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.image_collection import ImageCollection


class AllImages:
    """The images of all sets, under consecutive numbers.

    Args:
        sets: sets by name, in order.

    Attributes:
        sets: the sets by name.
        first: number of the first image of each set.
    """

    def __init__(self, sets: dict[str, ImageCollection]):
        self.sets = sets
        self.first = np.cumsum([0, *map(len, sets.values())])
        self._names = list(sets)

    def __len__(self) -> int:
        return int(self.first[-1])

    def set_name(self, number: int) -> str:
        """Name of the set of an image."""
        return self._names[self._place(number)[0]]

    def set_names(self, numbers: Iterable[int]) -> list[str]:
        """Names of the sets of these images."""
        return [self.set_name(number) for number in numbers]

    def name(self, number: int) -> str:
        """Name of an image in its set."""
        place, index = self._place(number)
        return self.sets[self._names[place]].name(index)

    def image(self, number: int) -> Image.Image:
        """Decode an image; raises UnreadableImage."""
        place, index = self._place(number)
        return self.sets[self._names[place]].image(index)

    def label(self, number: int) -> str:
        """Label of an image as text: its class or value, or the number of its objects by class; "" for label maps."""
        place, index = self._place(number)
        images = self.sets[self._names[place]]
        if isinstance(images, ClassificationSet):
            return describe_label(images.labels[images.indices[index]], images.class_names)
        if isinstance(images, DetectionSet):
            counts = Counter(images.class_names[label - 1] for label in images.target(index)["labels"].tolist())
            return ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "no objects"
        return ""

    def labels(self, numbers: Iterable[int]) -> list[str]:
        """Labels of these images."""
        return [self.label(number) for number in numbers]

    def _place(self, number: int) -> tuple[int, int]:
        place = int(np.searchsorted(self.first, number, side="right")) - 1
        return place, number - int(self.first[place])
