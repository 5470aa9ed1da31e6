"""Real images to check an exported file, and labeled images to quantize it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.data.formats.class_alignment import align_classes
from transxnet.data.formats.timm_readers import Stream, open_reader
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.data.open_data import open_data, open_evaluation_data
from transxnet.data.reading.image_decoding import UnreadableImage, open_image
from transxnet.data.reading.image_search import find_images
from transxnet.data.reading.pixels import Pixels, extensions_for
from transxnet.data.recognize import recognize, recognize_name
from transxnet.data.samples.scenes import BACKGROUNDS
from transxnet.runs.trained_models import TrainedDetector, TrainedModel
from transxnet.runs.training_data import open_run_data, run_config, table_options, trained_on
from transxnet.utils.errors import UserError
from transxnet.utils.optional_packages import require_package

T = TypeVar("T", ClassificationSet, DetectionSet, SegmentationSet)


def real_images(trained: TrainedModel, data: str | None, count: int) -> tuple[list[Pixels], str]:
    """Load up to ``count`` different images, and name their source.

    The source is DATA, else the validation set of the model's run, else for RGB example images of scikit-image.

    Raises:
        UserError: DATA has no images, or there is neither a run's data nor scikit-image.
    """
    preprocessing = trained.backbone_preprocessing
    if data is not None:
        return _some(_of_data(data, trained.class_names, preprocessing), count, data), data
    if trained.run is not None:
        config = trained.run.read_config()
        try:
            images = open_run_data(config, None, trained.run.stored_split, check_images=False).part()
            if not isinstance(images, Stream):
                return _some(_of_set(images), count, config.data), f"the validation set of {config.data}"
        except UserError:  # the data was moved
            pass
    if preprocessing.channels is not None:
        raise UserError(f"no images of {preprocessing.channels} channels to check the file on. Use --data.")
    return _some(_sample_images(), count, "scikit-image"), "scikit-image"


AnyImages = ClassificationSet | DetectionSet | SegmentationSet


@dataclass(frozen=True)
class LabeledImages:
    """Labeled images of a model's task, with its classes.

    Attributes:
        train: training images, for calibration.
        val: validation images, to measure the accuracy.
        where: their source, for messages.
    """

    train: AnyImages
    val: AnyImages
    where: str

    def validation_images(self, count: int) -> tuple[list[Pixels], str]:
        """As :func:`real_images`, from the validation images."""
        return _some(_of_set(self.val), count, self.where), f"the validation set of {self.where}"


def labeled_images(trained: TrainedModel, data: str | None) -> LabeledImages:
    """Load labeled images of DATA, as for training, or of the model's run with its original split.

    Raises:
        UserError: no images are found, or their classes differ from the model's.
    """
    config = None if trained.run is None else run_config(trained.run, data)
    masks = isinstance(trained, TrainedDetector) and trained.masks
    train: AnyImages | Stream
    if config is not None and trained_on(config, data):
        assert trained.run is not None
        source, where = open_run_data(config, None, trained.run.stored_split, check_images=False), config.data
        train, val = source.train, source.part()
    else:
        assert data is not None
        where = data
        recognition = recognize(data, trained.task)
        if recognition.format == "reader":
            train, val = (
                open_evaluation_data(recognition, trained.class_names, split=split, check_images=False)[0]
                for split in ("train", "validation")
            )
        else:
            channels = trained.backbone_preprocessing.channels
            table = table_options(config)
            source = open_data(recognition, table=table, channels=channels, masks=masks, check_images=False)
            train, val = source.train, source.val
    index = align_classes(trained.class_names, train.class_names)
    train, val = (_stored(part, where).with_classes(trained.class_names, index) for part in (train, val))
    return LabeledImages(train, val, where)


def image_batch(originals: Sequence[Pixels], size: tuple[int, int], batch: int) -> Tensor:
    """Make a batch of different images: (batch, height, width, C), uint8 of RGB images, else float32.

    If there are fewer images than requested, they are repeated, mirrored and shifted.
    """
    images = []
    for i in range(batch):
        pixels = _resized(originals[i % len(originals)], size)
        turn = i // len(originals)
        if turn:
            pixels = np.roll(pixels[:, ::-1] if turn % 2 else pixels, turn * 7, axis=1)
        images.append(torch.from_numpy(pixels.copy()))
    return torch.stack(images)


def _resized(image: Pixels, size: tuple[int, int]) -> np.ndarray:
    """Resize an image to (height, width, C)."""
    if isinstance(image, Image.Image):
        return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC))
    resized = resize(image, list(size), InterpolationMode.BICUBIC, antialias=True)
    return resized.permute(1, 2, 0).numpy()


def normalize_images(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalize images (N, H, W, C), RGB in uint8 or channels in float32, to a network's input (N, C, H, W) float32."""
    unit = images.permute(0, 3, 1, 2).double() / (255 if images.dtype == torch.uint8 else 1)
    mean_, std_ = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
    return ((unit - mean_) / std_).float().contiguous()


def _some(images: Iterator[Pixels], count: int, where: str) -> list[Pixels]:
    found = list(islice(images, count))
    if not found:
        raise UserError(f"no readable image found in {where}. Use --data with a folder of images.")
    return found


def _of_data(data: str, class_names: list[str], preprocessing: Preprocessing) -> Iterator[Pixels]:
    named = next(iter(recognize_name(data)), None)
    if named is None:
        return _readable(find_images([data], extensions=extensions_for(preprocessing.channels)), preprocessing.read)
    if named.format == "reader":
        return _of_set(_stored(open_reader(data, "validation", class_names), data))
    return _of_set(_stored(open_data(named, check_images=False).val, data))


def _stored(images: T | Stream, where: str) -> T:
    if isinstance(images, Stream):
        raise UserError(
            f"{where} is a stream without random access. Accepted: a folder, a sample, or a timm reader name that "
            "starts with hfds/ or wds/."
        )
    return images


def _of_set(images: AnyImages) -> Iterator[Pixels]:
    """Iterate in random order, since the set may be sorted by class."""
    order = np.random.default_rng(0).permutation(len(images))
    for i in order:
        try:
            yield images.pixels(i)
        except UnreadableImage:
            continue


def _readable(paths: Iterator[str], read: Callable[[str], Pixels] = open_image) -> Iterator[Pixels]:
    for path in paths:
        try:
            yield read(path)
        except UnreadableImage:
            continue


def _sample_images() -> Iterator[Pixels]:
    require_package("skimage", "transxnet[samples]", "Verification of an export without --data")
    import skimage

    return _readable(str(Path(skimage.__file__).parent / "data" / name) for name in BACKGROUNDS)
