"""Post-training quantization to int8, with a limit on the loss of accuracy."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from transxnet.data.datasets.classification_dataset import ClassificationDataset, ClassificationSet
from transxnet.data.loading.loaders import evaluation_loader
from transxnet.deploy.export_format import ExportFormat
from transxnet.deploy.export_images import LabeledImages
from transxnet.deploy.exported_model import ExportedModel, file_input
from transxnet.deploy.format_registry import FORMATS
from transxnet.deploy.metadata import Metadata
from transxnet.deploy.quantizable_model import QUANTIZABLE
from transxnet.deploy.reference_answer import ReferenceAnswer
from transxnet.deploy.verify import run_file
from transxnet.utils.errors import UserError
from transxnet.utils.progress import PLAIN, progress_bar

CALIBRATION = 300
"""Number of images to calibrate activation ranges on; NNCF's default."""

BATCH = 16
"""Batch size if the batch axis is dynamic."""


def quantize(
    floating: Path,
    path: Path,
    images: LabeledImages,
    metadata: Metadata,
    kind: str,
    allowed: float,
    console: Console,
) -> None:
    """Quantize a classifier's file to int8.

    Args:
        floating: path of the file.
        path: path of the int8 file.
        images: labeled images.
        metadata: metadata of the file.
        kind: its format, one of ``QUANTIZABLE``.
        allowed: largest accepted loss of accuracy on the validation images, in percentage points.
        console: where to print.

    Raises:
        UserError: a package is not installed, or the loss of accuracy is larger.
    """
    train, val, where = images.train, images.val, images.where
    file_format = FORMATS[kind]
    before = _accuracy(floating, metadata, file_format, val, console)
    chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATION]
    calibration = train.subset(np.sort(chosen))
    console.print(f"  quantizing, calibrated on {len(calibration)} images of {where}", **PLAIN)
    model = (
        QUANTIZABLE[kind]
        .read(floating)
        .quantize(_Batches(metadata, calibration, 1), _Batches(metadata, val, 1), allowed / 100)
    )
    small = "int8" if metadata.dtype == "float32" else f"int8-{metadata.dtype}"
    reduced = replace(metadata, dtype=small)
    model.save(reduced.to_texts(), small, path)
    session = file_format.open(path, small)
    reference = ReferenceAnswer.from_dict(metadata.reference).answered(
        reduced, partial(run_file, session, metadata=reduced)
    )
    reduced = replace(reduced, reference=reference.to_dict())
    model.save(reduced.to_texts(), small, path)
    after, (count, layers) = _accuracy(path, reduced, file_format, val, console), model.count_quantized()
    console.print(
        f"  accuracy on {len(val):,} validation images of {where}: {before:.2%} before quantization, {after:.2%} in "
        f"int8; {count} of {layers} convolutions and matrix products in int8",
        **PLAIN,
    )
    if before - after > allowed / 100 + 1e-9:
        raise UserError(
            f"int8 loses {100 * (before - after):.2f} percentage points of accuracy, more than --allow-accuracy-drop "
            f"{allowed:g}. Nothing was written. Use more training images, a larger --allow-accuracy-drop, or no --int8."
        )


class _Batches(Sequence[tuple[np.ndarray, np.ndarray]]):
    """A sequence of (input, labels) as a file takes them, created on access.

    Args:
        metadata: metadata of the file; a fixed batch size is used.
        images: labeled images; the last one is repeated to fill the last batch.
        size: batch size if the file's is dynamic.
    """

    def __init__(self, metadata: Metadata, images: ClassificationSet, size: int):
        preprocessing = metadata.preprocessing
        assert preprocessing is not None
        self.metadata, self.size = metadata, metadata.batch or size
        self.dataset = ClassificationDataset(images, preprocessing.transform())

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index >= len(self):
            raise IndexError(index)
        places = [min(index * self.size + i, len(self.dataset) - 1) for i in range(self.size)]
        images, labels, _ = zip(*(self.dataset[place] for place in places), strict=True)
        return file_input(torch.stack(images), self.metadata).numpy(), np.array(labels)


def _accuracy(
    path: Path, metadata: Metadata, file_format: ExportFormat, images: ClassificationSet, console: Console
) -> float:
    """Accuracy of an exported file."""
    preprocessing = metadata.preprocessing
    assert preprocessing is not None
    model = ExportedModel(path, metadata, file_format.open(path, metadata.dtype))
    dataset = ClassificationDataset(images, preprocessing.transform())
    batches = evaluation_loader(dataset, metadata.batch or BATCH, workers=0)
    right = done = 0
    with progress_bar(console, f"accuracy in {metadata.dtype}", len(images)) as advance:
        for batch, labels, _ in batches:
            logits = model(batch)
            assert isinstance(logits, Tensor)
            right += int((logits.argmax(1) == labels).sum())
            done += len(labels)
            advance(done)
    return right / len(images)
