"""Data sets by timm reader name: Hugging Face (``hfds/``), TensorFlow (``tfds/``) and WebDataset (``wds/``)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from timm.data import create_dataset
from torch.utils.data import IterableDataset, get_worker_info

from transxnet.data.datasets.classification_dataset import ClassificationSet, TargetKind
from transxnet.data.formats.webdataset_shards import read_shards
from transxnet.data.reading.image_decoding import UnreadableImage, open_image
from transxnet.utils.errors import UserError
from transxnet.utils.library_messages import brief_retries
from transxnet.utils.optional_packages import require_package

PREFIXES = ("hfds", "wds", "tfds")

_PACKAGES = {
    "hfds": ("datasets", "transxnet[readers]"),
    "wds": ("webdataset", "transxnet[readers]"),
    "tfds": ("tensorflow_datasets", "tensorflow tensorflow-datasets"),
}
"""Package that each reader needs, and how to install it."""


def is_reader_name(data: str) -> bool:
    """Whether DATA is a timm reader name, such as ``hfds/timm/mini-imagenet``."""
    return data.partition("/")[0].lower() in PREFIXES and "/" in data


@dataclass(frozen=True)
class HuggingFaceImages:
    """Images of a Hugging Face data set, read by timm."""

    reader: Any

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> Image.Image:
        try:
            with self.reader[int(index)][0] as file:
                return open_image(file.read())
        except OSError as error:
            raise UnreadableImage(error.strerror or str(error)) from error
        except (AssertionError, TypeError) as error:  # the reader found neither bytes nor a path
            raise UnreadableImage("the data set has no image at this index") from error


@dataclass(frozen=True)
class Stream:
    """A split of a data set that can only be read sequentially: TensorFlow data sets.

    Attributes:
        name: timm's reader name, ``tfds/NAME``.
        split: name of the split.
        size: number of samples in the split.
        class_names: C names by class index.
        targets: the labels are classes.
    """

    targets: ClassVar[TargetKind] = "classes"
    name: str
    split: str
    size: int
    class_names: list[str]

    def __len__(self) -> int:
        return self.size

    def with_classes(self, class_names: list[str], classes: Sequence[int]) -> "Stream":
        """Return the same samples with a model's classes, which must be in the stream's order: labels are not mapped.

        Raises:
            UserError: the classes are in another order.
        """
        if list(classes) != list(range(len(class_names))):
            raise UserError(
                f"the classes of {self.name} are in another order than the model's; the first is "
                f"{self.class_names[0]!r}. Train a model on this data."
            )
        return replace(self, class_names=class_names)

    def training_dataset(
        self, transform: Callable, batch_size: int, workers: int, seed: int, first_epoch: int = 0
    ) -> IterableDataset:
        """Return shuffled items as in :class:`ClassificationDataset`, sharded over processes and workers by timm.

        timm gives whole batches to each worker, so an epoch may repeat some items and skip others.
        """
        dataset = self._open(transform, is_training=True, batch_size=batch_size, seed=seed)
        dataset.set_loader_cfg(num_workers=max(1, workers))  # it divides its length by them; this process is one
        return _Epochs(dataset, first_epoch)

    def evaluation_dataset(self, transform: Callable) -> IterableDataset:
        """Return every item once, sharded over processes and workers by timm.

        It has no length: the number of batches depends on how the shards are distributed over the workers.
        """
        return _Numbered(self._open(transform))

    def _open(self, transform: Callable, **kwargs: Any) -> Any:
        dataset = _open(self.name, self.split, **kwargs)
        dataset.transform = transform
        return dataset


class _Numbered(IterableDataset):
    """timm's (image, label) items with a unique number as the third entry."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int, int]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number, (image, label) in enumerate(self.dataset):
            yield image, int(label), first + number * step


class _Epochs(_Numbered):
    """Items in a new shuffle each time. Lightning passes the epoch to samplers only, and a stream has none."""

    def __init__(self, dataset: Any, first_epoch: int):
        super().__init__(dataset)
        self.epoch = first_epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int, int]]:
        self.dataset.set_epoch(self.epoch)
        self.epoch += 1
        return super().__iter__()


def open_reader(data: str, split: str, class_names: Sequence[str] | None) -> ClassificationSet | Stream:
    """Open one split of a data set by its timm reader name.

    Args:
        data: ``hfds/NAME``, ``tfds/NAME`` or ``wds/FOLDER``; the folder needs an ``_info.json`` in timm's format.
        split: name of the split.
        class_names: names by class index, for data that does not know its classes.

    Raises:
        UserError: the reader's package or a shard is missing, the data cannot be opened, the classes are unknown, or
            the labels are not class indices.
    """
    dataset = _open(data, split)
    reader = dataset.reader
    if data.lower().startswith("hfds/"):
        labels, texts = _labels(data, reader)
        names = texts or _class_names(data, reader, class_names)
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
            raise UserError(
                f"the labels of {data}, split {split!r}, range from {labels.min()} to {labels.max()}. "
                f"Accepted for {len(names)} classes: 0 to {len(names) - 1}. "
                "Choose a split with labels, or another --num-classes."
            )
        return ClassificationSet(HuggingFaceImages(reader), [f"{split}/{i}" for i in range(len(labels))], names, labels)
    names = _class_names(data, reader, class_names)
    if data.lower().startswith("wds/"):
        root, info = Path(reader.root), reader.split_info
        _check_shards(root, info.filenames)
        return read_shards([root / name for name in info.filenames], names, info.shard_lengths)
    return Stream(data, split, len(dataset), names)


def _check_shards(root: Path, names: Sequence[str]) -> None:
    """Raise UserError if shards are missing."""
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} shards of {root} are missing, the first is {missing[0]}. "
            "Restore them, or remove them from its _info.json."
        )


def _labels(data: str, reader: Any) -> tuple[np.ndarray, list[str]]:
    """Return class indices, and the sorted class names if the labels are text."""
    table = reader.dataset.data
    # timm adds a column of nulls if the image column is missing.
    columns = [name for name in table.column_names if table.column(name).null_count < max(1, len(table))]
    for kind, key in (("image", reader.image_key), ("label", reader.label_key)):
        if key not in columns:
            raise UserError(
                f"{data} has no column {key!r}. Columns found: {', '.join(map(repr, columns))}. Rename the {kind} "
                f"column to {key!r}."
            )
    values = np.asarray(reader.dataset[reader.label_key][:])
    if values.dtype.kind == "U":
        names, indices = np.unique(values, return_inverse=True)
        return indices, names.tolist()
    if not np.issubdtype(values.dtype, np.integer):
        raise UserError(
            f"the labels of {data} are not class indices: {values[:3].tolist()}. "
            "Cast the column to datasets.ClassLabel."
        )
    return values.astype(np.int64), []


def _class_names(data: str, reader: Any, otherwise: Sequence[str] | None) -> list[str]:
    known = getattr(reader, "class_to_idx", None)
    if known:
        return sorted(known, key=known.get)
    if otherwise is None:
        raise UserError(f"{data} does not list its classes. Set their number with --num-classes.")
    return list(otherwise)


def _open(data: str, split: str, **kwargs: Any) -> Any:
    prefix, _, name = data.partition("/")
    prefix = prefix.lower()
    root = None
    if prefix == "wds":
        root, name = name, ""
        if not Path(root).is_dir():
            raise UserError(f"folder {root!r} of WebDataset shards does not exist. Accepted: wds/FOLDER.")
    require_package(*_PACKAGES[prefix], data)
    try:
        with brief_retries():
            return create_dataset(f"{prefix}/{name}", root=root, split=split, **kwargs)
    except Exception as error:  # each reader's library has its own exceptions, and all mean that opening failed
        raise UserError(
            f"timm's reader cannot open {data!r}, split {split!r}: {type(error).__name__}: {error} "
            "Check the name and the split (--train-split and --val-split in training, --split in evaluation). Splits "
            "of hfds/ may be slices, such as train[:80%] and train[80%:]."
        ) from error
