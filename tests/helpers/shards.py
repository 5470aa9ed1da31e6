"""WebDataset shards: images and their metadata in tar files."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
import timm
from packaging import version
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from transxnet.data.formats.timm_readers import Stream

Members = Iterable[tuple[str, bytes]]


def write_shard(path: Path, members: Members | Mapping[str, bytes], **options) -> Path:
    """Write a tar file of members."""
    with tarfile.open(path, "w", **options) as shard:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            shard.addfile(header, io.BytesIO(content))
    return path


def write_shards(folder: Path, splits: Mapping[str, Sequence[Sequence[tuple[bytes, int]]]]) -> str:
    """Write labeled PNG images, one sequence per shard of each split, with timm's ``_info.json``.

    Images are named by their number, counted over all shards.

    Returns:
        The folder as the name of a timm reader.
    """
    folder.mkdir(parents=True, exist_ok=True)
    info, number = {}, 0
    for split, shards in splits.items():
        names = [f"pets-{split}-{i:04d}.tar" for i in range(len(shards))]
        for name, images in zip(names, shards, strict=True):
            members: dict[str, bytes] = {}
            for content, label in images:
                members |= {f"{number:05d}.png": content, f"{number:05d}.cls": b"%d" % label}
                number += 1
            write_shard(folder / name, members)
        lengths = [len(images) for images in shards]
        info[split] = dict(name=split, num_samples=sum(lengths), filenames=names, shard_lengths=lengths)
    (folder / "_info.json").write_text(json.dumps({"splits": info}))
    return f"wds/{folder}"


NUMBERS = ["0", "1", "2"]
"""Names for three classes without names."""

OLD_READERS = version.parse(timm.__version__) < version.parse("1.0.31")
UNNAMED = pytest.mark.skipif(OLD_READERS, reason="timm's older reader opens no Hugging Face labels without names")


def encode(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def solid(value: int) -> bytes:
    return encode(Image.new("RGB", (4, 4), (value, value, value)))


def first_value(image: Image.Image):
    """A transform that returns the value of a constant image."""
    return pil_to_tensor(image)[0, 0, 0]


def stream_of_shards(data: str, split: str, size: int) -> Stream:
    """Shards read sequentially, like TensorFlow data sets, which the tests do not install."""
    return Stream(data, split, size, NUMBERS)


def drawn(loader) -> list[int]:
    return [value for image, _, _ in loader for value in image.tolist()]
