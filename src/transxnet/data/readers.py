"""Data sets that timm reads by name: Hugging Face (``hfds/``), TensorFlow (``tfds/``) and WebDataset (``wds/``)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_dataset
from torch.utils.data import IterableDataset

from transxnet.data.image_set import ImageSet
from transxnet.data.images import UnreadableImage, open_image
from transxnet.errors import UserError

PREFIXES = ("hfds", "wds", "tfds")


def is_reader_name(data: str) -> bool:
    """Whether DATA is a timm reader name, such as ``hfds/timm/mini-imagenet``."""
    return data.partition("/")[0].lower() in PREFIXES and "/" in data


@dataclass(frozen=True)
class HfPictures:
    """Pictures of a Hugging Face data set, as timm's reader gives them."""

    reader: Any

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> Image.Image:
        try:
            with self.reader[index][0] as file:
                return open_image(file.read())
        except (OSError, AssertionError) as error:
            raise UnreadableImage(str(error)) from error


@dataclass(frozen=True)
class Stream:
    """A split of a data set that is read from front to back: WebDataset shards, TensorFlow data sets.

    Attributes:
        name: timm's reader name, ``wds/FOLDER`` or ``tfds/NAME``.
        split: of the data set, as its reader names it.
        size: samples in the split.
        class_names: C names by class index.
    """

    name: str
    split: str
    size: int
    class_names: list[str]

    def __len__(self) -> int:
        return self.size

    def dataset(self, transform: Callable, is_training: bool, batch_size: int, seed: int) -> IterableDataset:
        """Items as those of :class:`ClassificationDataset`, shared out over processes and workers by timm's reader."""
        dataset = _open(self.name, self.split, is_training=is_training, batch_size=batch_size, seed=seed)
        dataset.transform = transform
        return _Numbered(dataset)


class _Numbered(IterableDataset):
    """timm's (image, label) items with their number in the stream as the third entry."""

    def __init__(self, dataset: IterableDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        self.dataset.set_epoch(epoch)  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int, int]]:
        for number, (image, label) in enumerate(self.dataset):
            yield image, int(label), number


def open_reader(data: str, split: str, num_classes: int | None) -> ImageSet | Stream:
    """Open one split of a data set by its timm reader name.

    Args:
        data: ``hfds/NAME``, ``tfds/NAME`` or ``wds/FOLDER``, the folder with an ``_info.json`` as timm writes it.
        split: the split's name.
        num_classes: for streams that do not know their classes.

    Raises:
        UserError: the reader's package is missing, it cannot open the data, or the classes are not known.
    """
    dataset = _open(data, split)
    reader = dataset.reader
    if data.lower().startswith("hfds/"):
        labels = np.asarray(reader.dataset[reader.label_key], dtype=np.int64)
        names = [f"{split}/{i}" for i in range(len(labels))]
        return ImageSet(HfPictures(reader), names, labels, _class_names(data, reader, num_classes))
    return Stream(data, split, len(dataset), _class_names(data, reader, num_classes))


def _class_names(data: str, reader: Any, num_classes: int | None) -> list[str]:
    known = getattr(reader, "class_to_idx", None)
    if known:
        return sorted(known, key=known.get)
    if num_classes is None:
        raise UserError(f"{data} does not say which classes it has. Give their number with --num_classes.")
    return [str(i) for i in range(num_classes)]


def _open(data: str, split: str, **kwargs: Any) -> Any:
    prefix, _, name = data.partition("/")
    prefix = prefix.lower()
    root = None
    if prefix == "wds":
        root, name = name, ""
        if not Path(root).is_dir():
            raise UserError(f"there is no folder {root!r} of WebDataset shards. Accepted: wds/FOLDER.")
    try:
        return create_dataset(f"{prefix}/{name}", root=root, split=split, **kwargs)
    except ImportError as error:
        raise UserError(f"{data} needs the package {error.name}: pip install 'transxnet[readers]'") from error
    except UserError:
        raise
    except Exception as error:  # each reader's library has errors of its own, and all mean that this can't be opened
        raise UserError(
            f"timm's reader cannot open {data!r}, split {split!r}: {type(error).__name__}: {error}"
        ) from error
