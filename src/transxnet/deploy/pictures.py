"""Real pictures to check an exported file on."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from transxnet.data.image_files import find_images
from transxnet.data.image_set import ImageSet
from transxnet.data.images import UnreadableImage, open_image
from transxnet.data.samples import DENSE_SAMPLES, SAMPLES
from transxnet.data.scenes import PHOTOGRAPHS
from transxnet.data.sources import open_source
from transxnet.errors import UserError
from transxnet.tasks.plan_classify import open_data
from transxnet.tasks.task_configs import ClassifyConfig
from transxnet.tasks.trained import TrainedModel


def real_pictures(trained: TrainedModel, data: str | None, count: int) -> tuple[list[Image.Image], str]:
    """Different pictures, as many as there are up to a count, and where they are from.

    Those of DATA, else those that the model's run held out, else photographs of scikit-image.

    Raises:
        UserError: DATA has none, or there is neither a run's data nor scikit-image.
    """
    if data is not None:
        return _some(_of_data(data), count, data), data
    if trained.run is not None:
        config = trained.run.read_config()
        try:
            if isinstance(config, ClassifyConfig):
                held_out = open_data(config, trained.run.stored_split).val
                if isinstance(held_out, ImageSet):
                    pictures = _of_set(held_out)
                    return _some(pictures, count, config.data), f"the held-out part of {config.data}"
            else:
                return _some(_of_data(config.data), count, config.data), config.data
        except UserError:  # the data has moved since
            pass
    return _some(_photographs(), count, "scikit-image"), "scikit-image's photographs"


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


def _of_data(data: str) -> Iterator[Image.Image]:
    if data in SAMPLES and not Path(data).exists():
        held_out = open_source(data).val
        assert isinstance(held_out, ImageSet)
        return _of_set(held_out)
    folder = DENSE_SAMPLES[data]().folder if data in DENSE_SAMPLES and not Path(data).exists() else data
    return _readable(find_images([folder]))


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
    try:
        import skimage
    except ImportError as error:
        raise UserError(
            "an export is checked on real pictures: give a folder of images as --data, or install scikit-image's "
            "photographs: pip install 'transxnet[samples]'"
        ) from error
    return _readable(str(Path(skimage.__file__).parent / "data" / name) for name in PHOTOGRAPHS)
