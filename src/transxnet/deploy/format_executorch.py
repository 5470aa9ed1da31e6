"""ExecuTorch programs for phones and small devices, computed by XNNPACK on the CPU."""

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.export import ExportedProgram

from transxnet.deploy.executorch_graph import rewrite
from transxnet.deploy.export_format import ExportFormat, check_fixed_size, import_package
from transxnet.deploy.format_onnx import quiet_logger
from transxnet.deploy.metadata import Metadata
from transxnet.utils.errors import UserError

_KEY = "transxnet"
"""Method of the program that returns the metadata. The method "class_names" returns their lines, since C++ has no JSON
parser."""


class ExecuTorchFormat(ExportFormat):
    """ExecuTorch programs."""

    suffix = ".pte"
    dtypes = ("float32",)
    dynamic = ()

    def versions(self) -> dict[str, str]:
        _require()
        return {"executorch": version("executorch")}

    def prepare(self, metadata: Metadata, console: Console) -> None:
        """Check that the model takes one image of a fixed size, and is no detector."""
        check_fixed_size("executorch", metadata)

    def write(
        self, program: ExportedProgram, outputs: Sequence[str], texts: Mapping[str, str], dtype: str, path: Path
    ) -> None:
        _require()
        with quiet_logger(None):  # it warns about PyTorch's own deprecations
            exir = import_module("executorch.exir")
            xnnpack = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
            lowered = exir.to_edge_transform_and_lower(
                rewrite(program),
                partitioner=[xnnpack.XnnpackPartitioner()],
                constant_methods={
                    _KEY: json.dumps(dict(texts), ensure_ascii=False),
                    "class_names": "\n".join(Metadata.from_texts(texts).class_names),
                },
            )
            with path.open("wb") as file:
                lowered.to_executorch().write_to_file(file)

    def read_texts(self, path: Path) -> dict[str, str]:
        program = _load(path)
        if _KEY not in program.method_names:
            return {}
        (text,) = program.load_method(_KEY).execute([])
        try:
            return json.loads(text)
        except (TypeError, ValueError) as error:
            raise UserError(f"cannot read the metadata of {path}: {error}. Export the model again.") from error

    def open(self, path: Path, dtype: str, threads: int = 0) -> "ExecuTorchSession":
        return ExecuTorchSession(path, threads)


class ExecuTorchSession:
    """An ExecuTorch program, opened for inference.

    Args:
        path: path of the file.
        threads: number of threads of all programs of this process; 0 leaves it unchanged.
    """

    def __init__(self, path: Path, threads: int = 0):
        self._program = _load(path)
        if threads:
            import_module("executorch.extension.pybindings.portable_lib")._unsafe_reset_threadpool(threads)
        try:
            self._method: Any = self._program.load_method("forward")
        except RuntimeError as error:
            raise UserError(f"cannot open {path} in this version of ExecuTorch: {error}. Export it again.") from error

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Run the program; return its outputs in the file's order."""
        return [output.clone() for output in self._method.execute([images.contiguous()])]


def _load(path: Path) -> Any:
    _require()
    runtime = import_module("executorch.runtime").Runtime.get()
    try:
        return runtime.load_program(path)
    except RuntimeError as error:
        raise UserError(f"cannot read {path} as an ExecuTorch program: {error}") from error


def _require() -> None:
    import_package("executorch", "--format executorch", "mobile")
