"""Example images for the page: validation images of the run, if its data can still be opened."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from transxnet.data.datasets.classification_dataset import ClassificationSet, describe_label
from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.formats.class_alignment import in_words
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.open_data import open_evaluation_data
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.runs.trained_models import TrainedModel
from transxnet.runs.training_data import check_progress, open_run_data
from transxnet.utils.errors import UserError
from transxnet.web.uploads import resize_for_browser

THUMBNAIL_SIDE = 256  # pixels


@dataclass(frozen=True)
class ExampleImages:
    """Some of the validation images of a run.

    Attributes:
        images: all validation images.
        positions: indices of the examples in ``images``.
        captions: true label of each example as text; None for detection and segmentation.
        thumbnails: thumbnails of the examples.
    """

    images: ImageCollection
    positions: Sequence[int]
    captions: Sequence[str | None]
    thumbnails: Sequence[Image.Image]

    def __len__(self) -> int:
        return len(self.positions)

    def name(self, number: int) -> str:
        """Return the name of an example."""
        return self.images.name(self.positions[number])

    def image(self, number: int) -> Image.Image:
        """Open an example in RGB; raises UserError if its file is missing or damaged."""
        try:
            return self.images.image(self.positions[number])
        except UnreadableImage as error:
            raise UserError(f"cannot read the example {self.name(number)}: {error}") from error


def find_examples(trained: TrainedModel, count: int, console: Console) -> tuple[ExampleImages | None, str]:
    """Choose examples for a model, or return the reason for having none.

    Opening a segmenter's data reads all of its label maps, with a progress bar on the console.

    Args:
        trained: model of a run, or a published one.
        count: maximum number of examples; 0 for none.
        console: console for progress.
    """
    if count == 0:
        return None, ""
    if trained.run is None:
        return None, "No examples: a published model has no validation images."
    try:
        images = _validation_images(trained, trained.run, console)
    except UserError as error:
        return None, f"No examples: cannot open the data of the run. {_capitalize(str(error))}"
    if isinstance(images, Stream):
        return None, "No examples: the data of the run is a stream, without random access to images."
    positions, thumbnails = [], []
    for position in _diverse_order(images):
        try:
            image = images.image(position)
        except UnreadableImage:
            continue
        positions.append(position)
        thumbnails.append(resize_for_browser(image, THUMBNAIL_SIDE))
        if len(positions) == count:
            break
    if not positions:
        return None, "No examples: all validation images are unreadable."
    return ExampleImages(images, positions, [_caption(images, i) for i in positions], thumbnails), ""


def _validation_images(trained: TrainedModel, run: Run, console: Console) -> Any:
    config, split = run.read_config(), run.stored_split
    if split is not None or isinstance(config, ClassifyConfig):
        return open_run_data(config, console, split, check_images=False).part()
    # The data has its own validation set, so skip its training set: COCO's has 118,287 images.
    return open_evaluation_data(
        config.data,
        trained.class_names,
        trained.task,
        zero_is_ignored=getattr(config, "zero_is_ignored", None),
        check_images=False,
        progress=check_progress(console),
    )[0]


def _diverse_order(images: ImageCollection) -> Iterator[int]:
    """Iterate over all positions, shuffled; the first ones cover each class, or combination of labels, once."""
    if isinstance(images, ClassificationSet) and images.targets != "regression":
        _, labels = np.unique(np.nan_to_num(images.own_labels, nan=-1), axis=0, return_inverse=True)
        labels = labels.ravel()  # NumPy 2.0 returns it in the shape of the rows
        rank = np.zeros(len(labels), int)  # within the class
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            rank[own] = np.random.default_rng(0).permutation(len(own))
        yield from np.lexsort((labels, rank)).tolist()
    else:
        yield from np.random.default_rng(0).permutation(len(images)).tolist()


def _caption(images: ImageCollection, position: int) -> str | None:
    if not isinstance(images, ClassificationSet):
        return None
    return describe_label(images.own_labels[position], [in_words(name) for name in images.class_names])


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]
