"""Post-training quantization to 8-bit integers, by NNCF, with accuracy held to what was there before.

Of our networks the dense convolutions outside of D-Mixer's branches are quantized: MS-FFN's and STE's projections, and
the patch embeddings. A depthwise convolution or a GELU takes as long in int8, and what is small or feeds a product of
activations, as IDConv's and OSRA's projections do, costs more in conversions than it gains. Of other networks NNCF
chooses.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
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
from transxnet.deploy.format_openvino import OpenVinoFormat, read_model, save_model
from transxnet.deploy.metadata import Metadata
from transxnet.utils.errors import UserError
from transxnet.utils.progress import PLAIN, progress_bar

CALIBRATION = 300
"""Images that the ranges of activations are measured on, NNCF's own number."""

BATCH = 16
"""Images at once where the batch is open."""

_BRANCHES = (".idconv.", ".osra.")
"""Parts of the names of the weights of D-Mixer's branches."""

_LEFT = {"Add", "AvgPool", "Concat", "GroupConvolution", "MVN", "MatMul", "Multiply", "Pad", "ReduceMean", "Softmax"}
"""What NNCF would quantise of our networks beside dense convolutions."""


def quantize(
    floating: Path,
    path: Path,
    images: LabeledImages,
    metadata: Metadata,
    allowed: float,
    console: Console,
) -> None:
    """Make an int8 model of a classifier's OpenVINO model.

    Layers go back to higher precision, those first whose quantization costs most, until no more accuracy is lost than
    is allowed.

    Args:
        floating: the model.
        path: of the int8 model.
        images: labelled.
        metadata: of the model.
        allowed: points of accuracy that may be lost on the held-out part.
        console: where to report.

    Raises:
        UserError: NNCF is not installed, or more accuracy is lost.
    """
    nncf = _package()
    train, held_out, where = images.train, images.held_out, images.where
    before = _accuracy(floating, metadata, held_out, console)
    chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATION]
    calibration = train.subset(np.sort(chosen))
    console.print(f"  quantizing, calibrated on {len(calibration)} images of {where}", **PLAIN)
    model = read_model(floating)
    model = nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(_Batches(metadata, calibration, 1), lambda item: item[0]),
        nncf.Dataset(_Batches(metadata, held_out, 1)),
        ignored_scope=ignored_scope(model),
        validation_fn=_validate,
        max_drop=allowed / 100,
        drop_type=nncf.DropType.ABSOLUTE,
        subset_size=len(calibration),
    )
    small = "int8" if metadata.dtype == "float32" else f"int8-{metadata.dtype}"
    reduced = replace(metadata, dtype=small, versions={**metadata.versions, "nncf": nncf.__version__})
    save_model(model, reduced.to_texts(), reduced.dtype, path)
    after = _accuracy(path, reduced, held_out, console)
    console.print(
        f"  accuracy on {len(held_out):,} held-out images of {where}: {before:.2%} before, {after:.2%} in int8; "
        f"{_describe_quantized(model)}",
        **PLAIN,
    )
    if before - after > allowed / 100 + 1e-9:
        raise UserError(
            f"int8 loses {100 * (before - after):.2f} points of accuracy, and {allowed:g} are allowed. Calibrate on "
            "more images, allow more by --allow_accuracy_drop, or leave --int8 out. Nothing was written."
        )


def ignored_scope(model: Any) -> Any:
    """Choose the layers that stay in floating point.

    Args:
        model: an ``openvino.Model``.

    Returns:
        An ``nncf.IgnoredScope``; of a network that is not ours an empty one.
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
    """A sequence of (input, labels) as a file takes them, made when asked for.

    Args:
        metadata: of the file; with a fixed batch the batches have its size.
        images: the last of them fills up the last batch.
        size: of the batches otherwise.
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
    """Accuracy of a compiled model on batches, as NNCF asks for it."""
    right = total = 0
    for images, labels in items:
        right += int((compiled(images)[0].argmax(1) == labels).sum())
        total += len(labels)
    return right / total, None


def _accuracy(path: Path, metadata: Metadata, images: ClassificationSet, console: Console) -> float:
    """Share of images that a written file classifies right."""
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
    """How much of a model is in int8, in words."""
    kinds = ("Convolution", "GroupConvolution", "MatMul")
    layers = [op for op in model.get_ops() if op.get_type_name() in kinds]
    count = sum(_has_quantized_input(op) for op in layers)
    return f"{count} of {len(layers)} convolutions and matrix products are in int8"


def _has_quantized_input(op: Any) -> bool:
    """Whether a layer's input was quantized."""
    return any(value.get_source_output().get_node().get_type_name() == "FakeQuantize" for value in op.inputs())


def _package() -> Any:
    nncf = import_package("nncf", "--int8")
    nncf.set_log_level(logging.ERROR)
    return nncf
