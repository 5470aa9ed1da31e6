"""Pictures to try a run on that it has not learnt from: its own held-out ones, as long as its data is there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.formats.class_alignment import in_words
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.open_data import open_evaluation_data
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.runs.load import TrainedDetector, TrainedModel
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.runs.training_data import check_progress, open_run_data
from transxnet.utils.errors import UserError
from transxnet.web.uploads import for_the_browser

THUMBNAIL = 256  # px


@dataclass(frozen=True)
class Examples:
    """Some of a run's held-out pictures.

    Attributes:
        images: all that it held out.
        positions: of the examples among them.
        captions: for each example its true class, in words; None where pictures have no class as a whole.
        thumbnails: of the examples.
    """

    images: ImageCollection
    positions: Sequence[int]
    captions: Sequence[str | None]
    thumbnails: Sequence[Image.Image]

    def __len__(self) -> int:
        return len(self.positions)

    def name(self, number: int) -> str:
        """Name of an example."""
        return self.images.name(self.positions[number])

    def picture(self, number: int) -> Image.Image:
        """An example in RGB; raises UserError where its file is gone or damaged."""
        try:
            return self.images.image(self.positions[number])
        except UnreadableImage as error:
            raise UserError(f"the example {self.name(number)} can't be read any more: {error}") from error


def find_examples(trained: TrainedModel, count: int, console: Console) -> tuple[Examples | None, str]:
    """Examples for a model, or why there are none.

    Opening a segmenter's data looks at all of its label maps, which is shown on the console.

    Args:
        trained: from a run, or published.
        count: of examples, at most; 0 for none.
        console: where to show progress.
    """
    if count == 0:
        return None, ""
    if trained.run is None:
        return None, "No examples: a published model holds no pictures."
    try:
        images = _held_out(trained, trained.run, console)
    except UserError as error:
        return None, f"No examples: the data of the run can't be opened. {_capitalised(str(error))}"
    if isinstance(images, Stream):
        return None, "No examples: the data of the run is a stream, which does not keep its pictures."
    positions, thumbnails = [], []
    for position in _spread(images):
        try:
            picture = images.image(position)
        except UnreadableImage:
            continue
        positions.append(position)
        thumbnails.append(for_the_browser(picture, THUMBNAIL))
        if len(positions) == count:
            break
    if not positions:
        return None, "No examples: not one held-out picture can be read."
    return Examples(images, positions, [_caption(images, i) for i in positions], thumbnails), ""


def _held_out(trained: TrainedModel, run: Run, console: Console) -> Any:
    """The images that a run did not learn from."""
    config, split = run.read_config(), run.stored_split
    if split is not None or isinstance(config, ClassifyConfig):
        return open_run_data(config, console, split, check_images=False).val
    # Data with a held-out part of its own: the others, COCO's 118,287, need not be read.
    return open_evaluation_data(
        config.data,
        trained.class_names,
        "detect" if isinstance(trained, TrainedDetector) else "segment",
        zero_is_ignored=getattr(config, "zero_is_ignored", None),
        check_images=False,
        progress=check_progress(console),
    )[0]


def _spread(images: ImageCollection) -> Iterator[int]:
    """Positions in an order in which the first few are as different as can be: of all classes in turn, or far apart."""
    if isinstance(images, ClassificationSet):
        labels = images.own_labels
        turn = np.zeros(len(labels), int)
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            turn[own] = np.random.default_rng(0).permutation(len(own))
        yield from np.lexsort((labels, turn)).tolist()
    else:
        yield from np.random.default_rng(0).permutation(len(images)).tolist()


def _caption(images: ImageCollection, position: int) -> str | None:
    return in_words(images.class_names[images.own_labels[position]]) if isinstance(images, ClassificationSet) else None


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
