"""PyTorch's packages: a program compiled ahead of time by AOTInductor, for this system and processor."""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from transxnet.deploy.metadata import Metadata
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_atomic

DTYPES = ("float32", "bfloat16", "float16")
_KEY = "transxnet"


def versions() -> dict[str, str]:
    """Of what a file is written and checked with beside torch."""
    return {}


def write(program: ExportedProgram, outputs: Sequence[str], texts: Mapping[str, str], dtype: str, path: Path) -> None:
    """Compile and write a package. Arguments as of :func:`transxnet.deploy.format_onnx.write`.

    Raises:
        UserError: there is no C++ compiler.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        raise UserError(
            f"a .pt2 package is compiled C++, and there is no compiler here: {error} Install g++ or clang, or export "
            "another format: --format onnx or openvino."
        ) from error
    metadata = {_KEY: json.dumps({**texts})}
    aoti_compile_and_package(program, package_path=str(path), inductor_configs={"aot_inductor.metadata": metadata})


def publish(scratch: Path, path: Path) -> None:
    """Give a file that was checked its name."""
    write_atomic(path, scratch.replace)


def read_texts(path: Path) -> dict[str, str]:
    """A package's metadata, without loading what is compiled in it."""
    try:
        with zipfile.ZipFile(path) as package:
            for name in package.namelist():
                if name.endswith("_metadata.json"):
                    content = json.loads(package.read(name))
                    if _KEY in content:
                        return json.loads(content[_KEY])
    except (zipfile.BadZipFile, ValueError) as error:
        raise UserError(f"{path} can't be read as a .pt2 package: {error}") from error
    return {}


def load(path: Path, describe: Callable[[Mapping[str, str]], Metadata], threads: int) -> tuple[Metadata, "Session"]:
    """Open a package. Arguments as of :func:`transxnet.deploy.format_onnx.load`."""
    metadata = describe(read_texts(path))
    return metadata, Session(path, metadata.dtype, threads)


class Session:
    """A package, loaded for inference.

    Args:
        path: of the file.
        dtype: the file's, which is compiled into it.
        threads: that compute, as PyTorch has them; 0 leaves them as they are.
    """

    def __init__(self, path: Path, dtype: str, threads: int = 0):
        import torchvision  # noqa: F401  a detector's package calls its suppression
        from torch._inductor import aoti_load_package

        if threads:
            torch.set_num_threads(threads)
        try:
            self._model: Any = aoti_load_package(str(path))
        except RuntimeError as error:
            raise UserError(
                f"{path} can't be loaded: {error}. A package runs on the system, the kind of processor and the "
                "version of PyTorch that it was made with; export it anew here, or take ONNX."
            ) from error

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """The outputs, in the file's order."""
        results = self._model(images.contiguous())
        return list(results) if isinstance(results, (tuple, list)) else [results]
