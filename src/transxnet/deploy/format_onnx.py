"""ONNX files, run by ONNX Runtime."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from transxnet.deploy.export_format import ExportFormat, Program, WholeImageProgram, import_package
from transxnet.deploy.metadata import Metadata, parse_metadata
from transxnet.deploy.onnx_graph import join_models, name_axes, tidy, translations
from transxnet.utils.errors import UserError

OPSET = 20
"""The first opset with GELU as one operator."""


class OnnxFormat(ExportFormat):
    """ONNX files."""

    suffix = ".onnx"
    dtypes = ("float32", "float16")
    whole_images = True

    def versions(self) -> dict[str, str]:
        onnx, _, runtime = map(_package, ("onnx", "onnxscript", "onnxruntime"))
        return {"onnx": onnx.__version__, "onnxruntime": runtime.__version__, "opset": str(OPSET)}

    def write(self, program: Program, outputs: Sequence[str], texts: Mapping[str, str], dtype: str, path: Path) -> None:
        """Write a file that passes ``onnx.checker``; it computes in the precision of the program."""
        save_model(to_onnx(program, outputs), texts, path)

    def read_texts(self, path: Path) -> dict[str, str]:
        onnx = _package("onnx")
        try:
            model = onnx.load(str(path), load_external_data=False)
        except Exception as error:  # protobuf's exceptions have no common base class
            raise UserError(f"cannot read {path} as an ONNX file: {error}") from error
        return {entry.key: entry.value for entry in model.metadata_props}

    def open(self, path: Path, dtype: str, threads: int = 0) -> "OnnxSession":
        """Open a file; ONNX Runtime uses the precision of the file."""
        return OnnxSession(path, threads)

    def load(self, path: Path, threads: int = 0) -> tuple[Metadata, "OnnxSession"]:
        """Read the metadata with ONNX Runtime, so that the package onnx is not needed and the file is read once."""
        session = OnnxSession(path, threads)
        return parse_metadata(path, session.texts), session


class OnnxSession:
    """An ONNX file in ONNX Runtime, on the CPU.

    Args:
        path: path of the file.
        threads: number of threads; 0 for as many as there are cores.
    """

    def __init__(self, path: Path, threads: int = 0):
        runtime = _package("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # its warnings are about its own optimizations
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exceptions have no common base class
            raise UserError(f"cannot read {path} as an ONNX file: {error}") from error

    @property
    def texts(self) -> dict[str, str]:
        """The file's metadata."""
        return self._session.get_modelmeta().custom_metadata_map

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Run the file; return its outputs in the file's order."""
        results = self._session.run(None, {"images": np.ascontiguousarray(images.numpy())})
        return [torch.from_numpy(result) for result in results]


def save_model(model: Any, texts: Mapping[str, str], path: Path) -> None:
    """Write an ``onnx.ModelProto`` with its metadata; the file passes ``onnx.checker``."""
    onnx = _package("onnx")
    model.producer_name = "transxnet"
    onnx.helper.set_model_props(model, dict(texts))
    onnx.save(model, str(path))
    onnx.checker.check_model(str(path), full_check=True)


def to_onnx(program: Program, outputs: Sequence[str], *, queries_last: bool = False) -> Any:
    """Convert the program to ``onnx.ModelProto``, with constants folded.

    Args:
        program: the traced program.
        outputs: names of its outputs.
        queries_last: see :func:`~transxnet.deploy.onnx_graph.translations`. ONNX Runtime transposes for a softmax over
            another axis than the last; OpenVINO does not.
    """
    if isinstance(program, WholeImageProgram):
        return join_models([_convert(*part, queries_last) for part in program.parts(outputs)])
    return _convert(program, ["images"], outputs, queries_last)


def _convert(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], queries_last: bool) -> Any:
    _package("onnxscript")  # torch.onnx needs it
    with quiet_logger("onnxscript"):  # it warns about every split of weights, which tidy folds
        result = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            custom_translation_table=translations(queries_last),
            verbose=False,
        )
    assert result is not None
    tidy(result.model)
    name_axes(result.model)
    return result.model_proto


@contextmanager
def quiet_logger(name: str | None) -> Iterator[None]:
    """Suppress a package's warnings."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _package(name: str) -> Any:
    return import_package(name, "ONNX")
