"""Real pictures to check an exported file on, and labelled ones to quantise it with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from transxnet.data.image_files import find_images
from transxnet.data.image_set import ImageSet
from transxnet.data.images import UnreadableImage, open_image
from transxnet.data.labels import align_classes
from transxnet.data.readers import Stream, is_reader_name, open_reader
from transxnet.data.samples import DENSE_SAMPLES, SAMPLES, is_sample
from transxnet.data.scenes import PHOTOGRAPHS
from transxnet.data.sources import open_evaluation, open_source
from transxnet.runs.load import TrainedModel
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.runs.training_data import open_data, trained_on
from transxnet.utils.errors import UserError
from transxnet.utils.optional_packages import require_package


def real_pictures(trained: TrainedModel, data: str | None, count: int) -> tuple[list[Image.Image], str]:
    """Different pictures, as many as there are up to a count, and where they are from.

    Those of DATA, else those that the model's run held out, else photographs of scikit-image.

    Raises:
        UserError: DATA has none, or there is neither a run's data nor scikit-image.
    """
    if data is not None:
        return _some(_of_data(data, trained.class_names), count, data), data
    if trained.run is not None:
        config = trained.run.read_config()
        try:
            if isinstance(config, ClassifyConfig):
                held_out = open_data(config, trained.run.stored_split).val
                if isinstance(held_out, ImageSet):
                    return _some(_of_set(held_out), count, config.data), f"the held-out part of {config.data}"
            else:
                return _some(_of_data(config.data, trained.class_names), count, config.data), config.data
        except UserError:  # the data has moved since
            pass
    return _some(_photographs(), count, "scikit-image"), "scikit-image's photographs"


@dataclass(frozen=True)
class Labelled:
    """Labelled pictures, with the classes of a model.

    Attributes:
        train: to calibrate on.
        held_out: to hold the accuracy on.
        where: they are from.
    """

    train: ImageSet
    held_out: ImageSet
    where: str

    def pictures(self, count: int) -> tuple[list[Image.Image], str]:
        """As :func:`real_pictures`, of what is held out."""
        return _some(_of_set(self.held_out), count, self.where), f"the held-out part of {self.where}"


def labelled_pictures(trained: TrainedModel, data: str | None) -> Labelled:
    """Labelled pictures of DATA, as for training, or of the model's run, whose held-out part stays held out.

    Raises:
        UserError: there are none, or their classes are not the model's.
    """
    config = None if trained.run is None else trained.run.read_config()
    train: ImageSet | Stream
    if isinstance(config, ClassifyConfig) and trained_on(config, data):
        assert trained.run is not None
        source, where = open_data(config, trained.run.stored_split), config.data
        train, val = source.train, source.val
    else:
        assert data is not None
        where = data
        if is_reader_name(data):
            train, val = (open_evaluation(data, trained.class_names, split) for split in ("train", "validation"))
        else:
            source = open_source(data)
            train, val = source.train, source.val
    index = np.array(align_classes(trained.class_names, train.class_names))
    train, val = (
        replace(part, labels=index[part.labels], class_names=trained.class_names)
        for part in (_stored(train, where), _stored(val, where))
    )
    return Labelled(train, val, where)


def as_bytes(pictures: Sequence[Image.Image], size: tuple[int, int], batch: int) -> Tensor:
    """A batch of different images: (batch, height, width, 3) uint8.

    Where there are fewer pictures than are asked for, they come again, mirrored and shifted.
    """
    height, width = size
    images = []
    for i in range(batch):
        pixels = np.asarray(pictures[i % len(pictures)].resize((width, height), Image.Resampling.BICUBIC))
        turn = i // len(pictures)
        if turn:
            pixels = np.roll(pixels[:, ::-1] if turn % 2 else pixels, turn * 7, axis=1)
        images.append(torch.from_numpy(pixels.copy()))
    return torch.stack(images)


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Bytes (N, H, W, 3) as a network's input (N, 3, H, W) float32."""
    unit = images.permute(0, 3, 1, 2).double() / 255
    mean_, std_ = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
    return ((unit - mean_) / std_).float().contiguous()


def _some(pictures: Iterator[Image.Image], count: int, where: str) -> list[Image.Image]:
    found = list(islice(pictures, count))
    if not found:
        raise UserError(f"there is no picture that can be read in {where}. Give a folder of images as --data.")
    return found


def _of_data(data: str, class_names: list[str]) -> Iterator[Image.Image]:
    if is_reader_name(data):
        return _of_set(_stored(open_reader(data, "validation", class_names), data))
    if is_sample(data, SAMPLES):
        return _of_set(_stored(open_source(data).val, data))
    folder = DENSE_SAMPLES[data]().folder if is_sample(data, DENSE_SAMPLES) else data
    return _readable(find_images([folder]))


def _stored(images: ImageSet | Stream, where: str) -> ImageSet:
    if isinstance(images, Stream):
        raise UserError(
            f"{where} is a stream, whose pictures can't be picked. Accepted: a folder, a sample, or a timm reader name "
            "that begins with hfds/ or wds/."
        )
    return images


def _of_set(images: ImageSet) -> Iterator[Image.Image]:
    """Spread over the set, whose classes may come one after the other."""
    order = np.random.default_rng(0).permutation(len(images))
    for i in order:
        try:
            yield images.picture(i)
        except UnreadableImage:
            continue


def _readable(paths: Iterator[str]) -> Iterator[Image.Image]:
    for path in paths:
        try:
            yield open_image(path)
        except UnreadableImage:
            continue


def _photographs() -> Iterator[Image.Image]:
    require_package(
        "skimage", "transxnet[samples]", "an export without --data, which is checked on sample photographs,"
    )
    import skimage

    return _readable(str(Path(skimage.__file__).parent / "data" / name) for name in PHOTOGRAPHS)
