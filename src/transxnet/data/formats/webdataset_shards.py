"""WebDataset shards as a set of labeled images: an index finds the images in tar files, which are read in any order.

A shard holds pairs of files ``KEY.jpg`` and ``KEY.cls``, the latter with a class index in digits. Since the images have
positions, shards work like folders: evaluation covers every image once, regardless of processes, workers and shard
sizes; the shuffle covers all images and depends only on seed and epoch; and training resumes at the next batch.
"""

import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.reading.image_decoding import EXTENSIONS, open_image
from transxnet.data.reading.packed_strings import PackedStrings
from transxnet.data.reading.tar_shards import ImageLocation, members
from transxnet.utils.errors import UserError

LABEL = "cls"
"""Extension of the files that hold a class index."""

LONGEST = 18
"""Bytes of a class index: the number of digits that always fit into 64 bits."""

READERS = 8
"""Number of shards indexed in parallel; most of the time is spent waiting for the disk."""


@dataclass(frozen=True)
class ShardImages:
    """Images in tar files.

    Attributes:
        shards: the tar files.
        shard: (N,) index of each image's shard.
        offset: (N,) first byte of each image.
        size: (N,) size in bytes.
    """

    shards: Sequence[str]
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, index: int) -> Image.Image:
        shard = self.shards[self.shard[index]]
        return open_image(ImageLocation(shard, shard, int(self.offset[index]), int(self.size[index])).read())


def read_shards(paths: Sequence[Path], class_names: list[str], lengths: Sequence[int] = ()) -> ClassificationSet:
    """Index all labeled images of some shards, in order.

    Args:
        paths: uncompressed tar files.
        class_names: names by class index.
        lengths: expected number of images in each shard; empty if unknown.

    Raises:
        UserError: a shard is truncated, damaged, compressed or of another length; or an image has no label or an
            invalid one.
    """
    with ThreadPoolExecutor(READERS) as pool:
        parts = list(pool.map(_index, paths))
    for path, part, length in zip(paths, parts, lengths, strict=False):
        if len(part.labels) != length:
            raise UserError(
                f"{path} contains {len(part.labels)} images, but its _info.json lists {length}. Copy the shard again, "
                "or correct _info.json."
            )
    labels = np.concatenate([part.labels for part in parts])
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    names = PackedStrings(f"{path.stem}/{key}" for path, part in zip(paths, parts, strict=True) for key in part.keys)
    if len(wrong):
        raise UserError(
            f"{names[int(wrong[0])]} has class index {labels[wrong[0]]}. Accepted for {len(class_names)} classes: 0 to "
            f"{len(class_names) - 1}. Correct the labels, or set another --num-classes."
        )
    storage = ShardImages(
        [str(path) for path in paths],
        np.repeat(np.arange(len(paths), dtype=np.int32), [len(part.labels) for part in parts]),
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.sizes for part in parts]),
    )
    return ClassificationSet(storage, names, class_names, labels)


@dataclass(frozen=True)
class _Index:
    """Locations and labels of the images in one shard."""

    keys: PackedStrings
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray


def _index(path: Path) -> _Index:
    try:
        samples = list(_samples(path))
    except ValueError as error:
        raise UserError(
            f"cannot use shard {path}: {error}. Accepted: images (KEY.jpg, KEY.png, ...) and class indices (KEY.cls)."
        ) from error
    keys, offsets, sizes, labels = zip(*samples, strict=True) if samples else ((), (), (), ())
    numbers = (np.array(values, dtype=np.int64) for values in (offsets, sizes, labels))
    return _Index(PackedStrings(keys), *numbers)


def _samples(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """Iterate over (key, offset, size, label) of each image; the files of a sample must be adjacent."""
    key, image, label = "", None, None
    for shard, member in members(str(path)):
        folder, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        this = f"{folder}/{stem}" if folder else stem
        if this != key:
            if image is not None:
                yield _sample(key, image, label)
            key, image, label = this, None, None
        if f".{ending.lower()}" in EXTENSIONS:
            image = member.offset_data, member.size
        elif ending == LABEL:
            label = _class_number(shard, member)
    if image is not None:
        yield _sample(key, image, label)


def _class_number(shard: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    if member.size > LONGEST:
        raise ValueError(f"{member.name!r} has {member.size:,} bytes; accepted for a class index: at most {LONGEST}")
    file = shard.extractfile(member)
    assert file is not None
    return int(file.read())


def _sample(key: str, image: tuple[int, int], label: int | None) -> tuple[str, int, int, int]:
    if label is None:
        raise ValueError(f"image {key!r} has no class index: {key}.{LABEL} is missing")
    return key, *image, label
