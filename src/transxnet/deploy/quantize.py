"""Post-training quantization to int8 by NNCF, with a limit on the loss of accuracy.

In our networks the dense convolutions outside D-Mixer's branches are quantized: the projections of MS-FFN and STE, and
the patch embeddings. A depthwise convolution or a GELU is not faster in int8. Small layers, and those that feed a
product of activations, such as IDConv's and OSRA's projections, lose more by conversions than they gain. In other
networks NNCF chooses the layers.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from transxnet.data.datasets.classification_dataset import ClassificationDataset, ClassificationSet
from transxnet.data.loading.loaders import evaluation_loader
from transxnet.deploy.export_format import import_package
from transxnet.deploy.export_images import LabeledImages
from transxnet.deploy.exported_model import ExportedModel, file_input
from transxnet.deploy.format_openvino import OpenVinoFormat, OpenVinoSession, read_model, save_model
from transxnet.deploy.metadata import Metadata
from transxnet.deploy.reference_answer import ReferenceAnswer
from transxnet.deploy.verify import run_file
from transxnet.utils.errors import UserError
from transxnet.utils.progress import PLAIN, progress_bar

CALIBRATION = 300
"""Number of images to calibrate activation ranges on, NNCF's default."""

BATCH = 16
"""Batch size if the batch axis is dynamic."""

_BRANCHES = (".idconv.", ".osra.")
"""Parts of the weight names in D-Mixer's branches."""

_LEFT = {"Add", "AvgPool", "Concat", "GroupConvolution", "MVN", "MatMul", "Multiply", "Pad", "ReduceMean", "Softmax"}
"""Operators other than dense convolutions that NNCF would quantize in our networks."""


def quantize(
    floating: Path,
    path: Path,
    images: LabeledImages,
    metadata: Metadata,
    allowed: float,
    console: Console,
) -> None:
    """Quantize a classifier's OpenVINO model to int8.

    Layers are reverted to higher precision, most costly first, until the loss of accuracy is acceptable.

    Args:
        floating: path of the model.
        path: path of the int8 model.
        images: labeled images.
        metadata: metadata of the model.
        allowed: largest accepted loss of accuracy on the validation images, in percentage points.
        console: where to print.

    Raises:
        UserError: NNCF is not installed, or the loss of accuracy is larger.
    """
    nncf = _package()
    train, val, where = images.train, images.val, images.where
    before = _accuracy(floating, metadata, val, console)
    chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATION]
    calibration = train.subset(np.sort(chosen))
    console.print(f"  quantizing, calibrated on {len(calibration)} images of {where}", **PLAIN)
    model = read_model(floating)
    model = nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(_Batches(metadata, calibration, 1), lambda item: item[0]),
        nncf.Dataset(_Batches(metadata, val, 1)),
        ignored_scope=ignored_scope(model),
        validation_fn=_validate,
        max_drop=allowed / 100,
        drop_type=nncf.DropType.ABSOLUTE,
        subset_size=len(calibration),
    )
    small = "int8" if metadata.dtype == "float32" else f"int8-{metadata.dtype}"
    reduced = replace(metadata, dtype=small, versions={**metadata.versions, "nncf": nncf.__version__})
    reference = ReferenceAnswer.from_dict(metadata.reference).answered(
        reduced, partial(run_file, OpenVinoSession(model, small), metadata=reduced)
    )
    reduced = replace(reduced, reference=reference.to_dict())
    save_model(model, reduced.to_texts(), reduced.dtype, path)
    after = _accuracy(path, reduced, val, console)
    console.print(
        f"  accuracy on {len(val):,} validation images of {where}: {before:.2%} before quantization, {after:.2%} in "
        f"int8; {_describe_quantized(model)}",
        **PLAIN,
    )
    if before - after > allowed / 100 + 1e-9:
        raise UserError(
            f"int8 loses {100 * (before - after):.2f} percentage points of accuracy, more than --allow-accuracy-drop "
            f"{allowed:g}. Nothing was written. Use more training images, a larger --allow-accuracy-drop, or no --int8."
        )


def ignored_scope(model: Any) -> Any:
    """Choose the layers that stay in floating point.

    Args:
        model: an ``openvino.Model``.

    Returns:
        An ``nncf.IgnoredScope``; empty for a network that is not ours.
    """
    nncf = _package()
    of_branches = [
        op.get_friendly_name()
        for op in model.get_ops()
        if op.get_type_name() == "Convolution"
        and any(branch in op.input_value(1).get_node().get_friendly_name() for branch in _BRANCHES)
    ]
    if not of_branches:
        return nncf.IgnoredScope()
    kinds = {op.get_type_name() for op in model.get_ops()}
    return nncf.IgnoredScope(names=of_branches, types=sorted(kinds & _LEFT))


class _Batches:
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


def _validate(compiled: Any, items: Iterable[Any]) -> tuple[float, None]:
    """Accuracy of a compiled model on batches, in NNCF's interface."""
    right = total = 0
    for images, labels in items:
        right += int((compiled(images)[0].argmax(1) == labels).sum())
        total += len(labels)
    return right / total, None


def _accuracy(path: Path, metadata: Metadata, images: ClassificationSet, console: Console) -> float:
    """Accuracy of an exported file."""
    preprocessing = metadata.preprocessing
    assert preprocessing is not None
    model = ExportedModel(path, metadata, OpenVinoFormat().open(path, metadata.dtype))
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


def _describe_quantized(model: Any) -> str:
    """Describe how much of a model is in int8."""
    kinds = ("Convolution", "GroupConvolution", "MatMul")
    layers = [op for op in model.get_ops() if op.get_type_name() in kinds]
    count = sum(_has_quantized_input(op) for op in layers)
    return f"{count} of {len(layers)} convolutions and matrix products in int8"


def _has_quantized_input(op: Any) -> bool:
    """Whether a layer's input is quantized."""
    return any(value.get_source_output().get_node().get_type_name() == "FakeQuantize" for value in op.inputs())


def _package() -> Any:
    nncf = import_package("nncf", "Quantization by int8")
    nncf.set_log_level(logging.ERROR)
    return nncf
