"""Models that are quantized to int8: OpenVINO's by NNCF, ONNX's by ONNX Runtime, as NNCF does not support Conv nodes
whose weights are computed."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from transxnet.deploy import format_onnx
from transxnet.deploy.export_format import import_package
from transxnet.deploy.format_openvino import read_model, save_model

Batches = Sequence[tuple[np.ndarray, np.ndarray]]
"""Inputs of a file, and the labels of their images."""

_BRANCHES = (".idconv.", ".osra.")
"""Parts of the weight names in D-Mixer's branches."""


class QuantizableModel(ABC):
    """A model that can be quantized to int8.

    In our networks the dense convolutions outside D-Mixer's branches are quantized: the projections of MS-FFN and STE,
    and the patch embeddings. A depthwise convolution or a GELU is not faster in int8. Small layers, and those that feed
    a product of activations, such as IDConv's and OSRA's projections, lose more by conversions than they gain. In
    other classifiers the package chooses the layers; in all detectors and segmenters the dense convolutions are
    quantized, including those of the heads.

    Args:
        model: the model in the classes of its package.
    """

    def __init__(self, model: Any):
        self.model = model

    @classmethod
    @abstractmethod
    def read(cls, path: Path) -> "QuantizableModel":
        """Read a file."""

    @abstractmethod
    def save(self, texts: Mapping[str, str], dtype: str, path: Path) -> None:
        """Write a file with its metadata."""

    @abstractmethod
    def quantize(self, calibration: Batches, validation: Batches | None, allowed: float) -> "QuantizableModel":
        """Return the model in int8.

        Args:
            calibration: inputs and labels to calibrate the ranges of activations on.
            validation: inputs and labels to measure the accuracy on, of a classifier; None for other models.
            allowed: loss of accuracy up to which no layer returns to higher precision, where the package supports this.
        """

    @abstractmethod
    def layers(self) -> Iterator[tuple[str, str, str]]:
        """Iterate over name, kind and name of the weights of all operators; "Conv" is a dense convolution."""

    @abstractmethod
    def count_quantized(self) -> tuple[int, int]:
        """Return the number of convolutions and matrix products in int8, and of all."""

    def ignored_names(self, classifier: bool = True) -> list[str]:
        """Choose the layers that stay in floating point; none for a classifier that is not ours."""
        layers = list(self.layers())
        if classifier and not any(
            branch in weights for _, kind, weights in layers for branch in _BRANCHES if kind == "Conv"
        ):
            return []
        return [
            name for name, kind, weights in layers if kind != "Conv" or any(branch in weights for branch in _BRANCHES)
        ]


class QuantizableOpenVino(QuantizableModel):
    """An ``openvino.Model``."""

    @classmethod
    def read(cls, path: Path) -> "QuantizableOpenVino":
        return cls(read_model(path))

    def save(self, texts: Mapping[str, str], dtype: str, path: Path) -> None:
        save_model(self.model, texts, dtype, path)

    def quantize(self, calibration: Batches, validation: Batches | None, allowed: float) -> "QuantizableOpenVino":
        """Quantize; a classifier's most costly layers return to higher precision until the loss is acceptable."""
        nncf = import_package("nncf", "Quantization by int8")
        nncf.set_log_level(logging.ERROR)
        names = self.ignored_names(classifier=validation is not None)
        options = dict(ignored_scope=nncf.IgnoredScope(names=names, validate=False), subset_size=len(calibration))
        inputs = nncf.Dataset(calibration, lambda item: item[0])
        if validation is None:
            return QuantizableOpenVino(nncf.quantize(self.model, inputs, **options))
        small = nncf.quantize_with_accuracy_control(
            self.model,
            inputs,
            nncf.Dataset(validation),
            validation_fn=_accuracy,
            max_drop=allowed,
            drop_type=nncf.DropType.ABSOLUTE,
            **options,
        )
        return QuantizableOpenVino(small)

    def layers(self) -> Iterator[tuple[str, str, str]]:
        for op in self.model.get_ops():
            dense = op.get_type_name() == "Convolution"
            weights = op.input_value(1).get_node().get_friendly_name() if dense else ""
            yield op.get_friendly_name(), "Conv" if dense else op.get_type_name(), weights

    def count_quantized(self) -> tuple[int, int]:
        kinds = ("Convolution", "GroupConvolution", "MatMul")
        layers = [op for op in self.model.get_ops() if op.get_type_name() in kinds]
        sources = [[value.get_source_output().get_node() for value in op.inputs()] for op in layers]
        quantized = sum(any(node.get_type_name() == "FakeQuantize" for node in nodes) for nodes in sources)
        return quantized, len(layers)


class QuantizableOnnx(QuantizableModel):
    """An ``onnx.ModelProto``; quantized operators are between QuantizeLinear and DequantizeLinear."""

    @classmethod
    def read(cls, path: Path) -> "QuantizableOnnx":
        return cls(import_package("onnx", "ONNX").load(str(path)))

    def save(self, texts: Mapping[str, str], dtype: str, path: Path) -> None:
        format_onnx.save_model(self.model, texts, path)

    def quantize(self, calibration: Batches, validation: Batches | None, allowed: float) -> "QuantizableOnnx":
        """Quantize the same layers whatever the loss of accuracy."""
        quantization = import_package("onnxruntime.quantization", "Quantization by int8")
        ignored = self.ignored_names(classifier=validation is not None)
        with TemporaryDirectory() as folder:
            floating, small = Path(folder) / "floating.onnx", Path(folder) / "int8.onnx"
            import_package("onnx", "ONNX").save(self.model, str(floating))  # given the model, it would be changed
            with format_onnx.quiet_logger(None):  # it recommends to preprocess the model, which export has done
                quantization.quantize_static(
                    floating,
                    small,
                    _Reader(calibration),
                    per_channel=True,
                    op_types_to_quantize=["Conv"] if ignored else ["Conv", "Gemm", "MatMul"],
                    nodes_to_exclude=ignored,
                )
            return self.read(small)

    def layers(self) -> Iterator[tuple[str, str, str]]:
        for node in self.model.graph.node:
            grouped = any(each.name == "group" and each.i > 1 for each in node.attribute)
            dense = node.op_type == "Conv" and not grouped
            yield node.name, "Conv" if dense else f"grouped {node.op_type}", node.input[1] if dense else ""

    def count_quantized(self) -> tuple[int, int]:
        kinds = ("Conv", "MatMul", "Gemm")
        makers = {output: node.op_type for node in self.model.graph.node for output in node.output}
        layers = [node for node in self.model.graph.node if node.op_type in kinds]
        kinds_of_inputs = [[makers.get(name) for name in node.input[:2]] for node in layers]
        return kinds_of_inputs.count(["DequantizeLinear"] * 2), len(layers)


class _Reader:
    """Calibration images in ONNX Runtime's interface."""

    def __init__(self, batches: Batches):
        self._inputs = ({"images": images} for images, _ in batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the inputs of the next batch, or None after the last."""
        return next(self._inputs, None)


def _accuracy(compiled: Any, items: Iterable[Any]) -> tuple[float, None]:
    """Accuracy of a compiled model on batches, in NNCF's interface."""
    right = total = 0
    for images, labels in items:
        right += int((compiled(images)[0].argmax(1) == labels).sum())
        total += len(labels)
    return right / total, None


QUANTIZABLE: dict[str, type[QuantizableModel]] = {"onnx": QuantizableOnnx, "openvino": QuantizableOpenVino}
"""The formats with int8."""
