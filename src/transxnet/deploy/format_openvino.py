"""OpenVINO models: an .xml file with the graph and a .bin file with the weights."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transxnet.deploy.export_format import ExportFormat, Program, import_package
from transxnet.deploy.format_onnx import OPSET, to_onnx
from transxnet.deploy.metadata import PREFIX, Metadata, parse_metadata
from transxnet.deploy.model_api import model_info
from transxnet.deploy.openvino_graph import normalize_in_layout
from transxnet.utils.errors import UserError

_SECTION = PREFIX.rstrip(".")
_PRECISIONS = {"float32": "f32", "float16": "f32", "bfloat16": "bf16", "int8": "f32", "int8-bfloat16": "bf16"}
"""Precision passed to the runtime, which otherwise chooses bfloat16 itself if the processor supports it. float16 only
affects how weights are stored."""


class OpenVinoFormat(ExportFormat):
    """OpenVINO models. The program to write must be float32, whatever the dtype."""

    suffix = ".xml"
    dtypes = ("float32", "bfloat16", "float16")
    whole_images = float32_programs = True

    def versions(self) -> dict[str, str]:
        return {"openvino": _package().__version__.split("-")[0], "opset": str(OPSET)}

    def write(self, program: Program, outputs: Sequence[str], texts: Mapping[str, str], dtype: str, path: Path) -> None:
        save_model(convert(to_onnx(program, outputs, queries_last=True)), texts, dtype, path)

    def read_texts(self, path: Path) -> dict[str, str]:
        return _texts(read_model(path))

    def open(self, path: Path, dtype: str, threads: int = 0) -> "OpenVinoSession":
        return OpenVinoSession(read_model(path), dtype, threads)

    def load(self, path: Path, threads: int = 0) -> tuple[Metadata, "OpenVinoSession"]:
        """Read the file once for both metadata and inference."""
        model = read_model(path)
        metadata = parse_metadata(path, _texts(model))
        return metadata, OpenVinoSession(model, metadata.dtype, threads)

    def files(self, path: Path) -> tuple[Path, ...]:
        """The graph and the weights."""
        return (path, path.with_suffix(".bin"))


class OpenVinoSession:
    """An OpenVINO model, compiled for the CPU.

    Args:
        model: an ``openvino.Model``.
        dtype: precision to compute in.
        threads: number of threads; 0 for as many as there are cores.
    """

    def __init__(self, model: Any, dtype: str, threads: int = 0):
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _PRECISIONS[dtype]}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        self._compiled = _package().Core().compile_model(model, "CPU", options)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Run the model; return the outputs in the file's order."""
        results = self._compiled(np.ascontiguousarray(images.numpy()))
        return [torch.from_numpy(results[i].copy()) for i in range(len(results))]


def convert(model: Any) -> Any:
    """Convert an ``onnx.ModelProto``, whose operators OpenVINO supports best, to ``openvino.Model``."""
    openvino = _package()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        import_package("onnx", "OpenVINO").save(model, str(file))
        model = openvino.convert_model(str(file), share_weights=False)
    normalize_in_layout(model)
    return model


def save_model(model: Any, texts: Mapping[str, str], dtype: str, path: Path) -> None:
    """Write an ``openvino.Model`` with its metadata."""
    for key, text in texts.items():
        model.set_rt_info(text, [_SECTION, key.removeprefix(PREFIX)])
    for key, text in model_info(Metadata.from_texts(texts)).items():
        model.set_rt_info(text, ["model_info", key])
    _package().save_model(model, str(path), compress_to_fp16=dtype == "float16")


def read_model(path: Path) -> Any:
    """Read a file as ``openvino.Model``."""
    if not path.with_suffix(".bin").is_file():
        raise UserError(
            f"{path.with_suffix('.bin')} is missing: an OpenVINO model consists of an .xml and a .bin file."
        )
    try:
        return _package().Core().read_model(str(path))
    except RuntimeError as error:
        raise UserError(f"cannot read {path} as an OpenVINO model: {error}") from error


def _texts(model: Any) -> dict[str, str]:
    if not model.has_rt_info([_SECTION]):
        return {}
    values = model.get_rt_info([_SECTION]).value  # strings if set in this process, wrapped if read from a file
    return {PREFIX + key: value if isinstance(value, str) else value.astype(str) for key, value in values.items()}


def _package() -> Any:
    return import_package("openvino", "OpenVINO")
