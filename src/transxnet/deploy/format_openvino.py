"""OpenVINO models: an .xml file of the graph and a .bin file of the weights beside it."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from transxnet.deploy import format_onnx
from transxnet.deploy.metadata import PREFIX, Metadata
from transxnet.deploy.openvino_graph import normalise_in_layout
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_whole
from transxnet.utils.optional_packages import require_package

DTYPES = ("float32", "bfloat16", "float16")
_SECTION = PREFIX.rstrip(".")
_PRECISIONS = {"float32": "f32", "float16": "f32", "bfloat16": "bf16", "int8": "f32", "int8-bfloat16": "bf16"}
"""What the runtime is told to compute in: otherwise it takes bfloat16 by itself where the processor has it. float16 is
how weights are stored."""


def versions() -> dict[str, str]:
    """Of what a file is written and checked with."""
    return {"openvino": _package().__version__.split("-")[0], "opset": str(format_onnx.OPSET)}


def convert(program: ExportedProgram, outputs: Sequence[str]) -> Any:
    """The program as ``openvino.Model``, by way of ONNX, whose operators OpenVINO knows best."""
    openvino = _package()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        format_onnx.to_onnx(program, outputs, queries_last=True).save(file, external_data=False)
        model = openvino.convert_model(str(file), share_weights=False)
    normalise_in_layout(model)
    return model


def write(program: ExportedProgram, outputs: Sequence[str], texts: Mapping[str, str], dtype: str, path: Path) -> None:
    """Write a model. Arguments as of :func:`transxnet.deploy.format_onnx.write`, but that the program is in float32."""
    save(convert(program, outputs), texts, dtype, path)


def save(model: Any, texts: Mapping[str, str], dtype: str, path: Path) -> None:
    """Write an ``openvino.Model`` with its metadata."""
    for key, text in texts.items():
        model.set_rt_info(text, [_SECTION, key.removeprefix(PREFIX)])
    _package().save_model(model, str(path), compress_to_fp16=dtype == "float16")


def publish(scratch: Path, path: Path) -> None:
    """Give files that were checked their names, that of the graph last."""
    write_whole(path.with_suffix(".bin"), scratch.with_suffix(".bin").replace)
    write_whole(path, scratch.replace)


def read_texts(path: Path) -> dict[str, str]:
    """A model's metadata."""
    return _texts(read(path))


def _texts(model: Any) -> dict[str, str]:
    if not model.has_rt_info([_SECTION]):
        return {}
    values = model.get_rt_info([_SECTION]).value  # texts where they were set, wrapped where they were read
    return {PREFIX + key: value if isinstance(value, str) else value.astype(str) for key, value in values.items()}


def load(path: Path, describe: Callable[[Mapping[str, str]], Metadata], threads: int) -> tuple[Metadata, "Session"]:
    """Open a model. Arguments as of :func:`transxnet.deploy.format_onnx.load`."""
    model = read(path)
    metadata = describe(_texts(model))
    return metadata, Session(model, metadata.dtype, threads)


class Session:
    """A model, compiled for inference on the CPU.

    Args:
        model: an ``openvino.Model``, or the path of an .xml file.
        dtype: to compute in.
        threads: that compute; 0 for as many as there are cores.
    """

    def __init__(self, model: Any, dtype: str, threads: int = 0):
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _PRECISIONS[dtype]}
        if isinstance(model, Path):
            model = read(model)
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        self._compiled = _package().Core().compile_model(model, "CPU", options)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """The outputs, in the file's order."""
        results = self._compiled(np.ascontiguousarray(images.numpy()))
        return [torch.from_numpy(results[i].copy()) for i in range(len(results))]


def read(path: Path) -> Any:
    """The file as ``openvino.Model``."""
    if not path.with_suffix(".bin").is_file():
        raise UserError(f"{path.with_suffix('.bin')} is missing: an OpenVINO model is two files, which go together.")
    try:
        return _package().Core().read_model(str(path))
    except RuntimeError as error:
        raise UserError(f"{path} can't be read as an OpenVINO model: {error}") from error


def _package() -> Any:
    require_package("openvino", "transxnet[export]", "OpenVINO")
    import openvino

    return openvino
