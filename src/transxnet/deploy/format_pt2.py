"""PyTorch packages: programs compiled ahead of time by AOTInductor for this system and processor."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from transxnet.deploy.export_format import ExportFormat
from transxnet.utils.errors import UserError

_KEY = "transxnet"


class Pt2Format(ExportFormat):
    """AOTInductor packages."""

    suffix = ".pt2"
    dtypes = ("float32", "bfloat16", "float16")

    def versions(self) -> dict[str, str]:
        return {}

    def write(
        self, program: ExportedProgram, outputs: Sequence[str], texts: Mapping[str, str], dtype: str, path: Path
    ) -> None:
        """Compile and write a package.

        Raises:
            UserError: there is no C++ compiler.
        """
        from torch._inductor import aoti_compile_and_package
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except RuntimeError as error:
            raise UserError(
                f"--format pt2 needs a C++ compiler: {error} Install g++ or clang, or use --format onnx or openvino."
            ) from error
        metadata = {_KEY: json.dumps({**texts})}
        aoti_compile_and_package(program, package_path=str(path), inductor_configs={"aot_inductor.metadata": metadata})

    def read_texts(self, path: Path) -> dict[str, str]:
        """Read the metadata without loading the compiled code."""
        try:
            with zipfile.ZipFile(path) as package:
                for name in package.namelist():
                    if name.endswith("_metadata.json"):
                        content = json.loads(package.read(name))
                        if _KEY in content:
                            return json.loads(content[_KEY])
        except (zipfile.BadZipFile, ValueError) as error:
            raise UserError(f"cannot read {path} as a .pt2 package: {error}") from error
        return {}

    def open(self, path: Path, dtype: str, threads: int = 0) -> "Pt2Session":
        """Open a package; it computes in the precision that it was compiled for."""
        return Pt2Session(path, threads)


class Pt2Session:
    """A package, loaded for inference.

    Args:
        path: path of the file.
        threads: number of PyTorch's threads; 0 leaves it unchanged.
    """

    def __init__(self, path: Path, threads: int = 0):
        import torchvision  # noqa: F401  a detector's package calls its NMS
        from torch._inductor import aoti_load_package

        if threads:
            torch.set_num_threads(threads)
        try:
            self._model: Any = aoti_load_package(str(path))
        except RuntimeError as error:
            raise UserError(
                f"cannot load {path}: {error}. A .pt2 package requires the operating system, processor type and "
                "PyTorch version of its export. Export it again on this machine, or use ONNX."
            ) from error

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Run the package; return the outputs in the file's order."""
        results = self._model(images.contiguous())
        return list(results) if isinstance(results, (tuple, list)) else [results]
