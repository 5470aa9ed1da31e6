"""The interface of the export formats."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor
from torch.export import ExportedProgram

from transxnet.deploy.metadata import ExportTask, InputKind, Metadata, parse_metadata
from transxnet.utils.files import write_atomic
from transxnet.utils.optional_packages import require_package


class Session(Protocol):
    """An exported file opened in its runtime."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Run the file; return its outputs in the file's order."""
        ...


class ExportFormat(ABC):
    """Writes, describes and opens the files of one format."""

    suffix: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]]
    """Precisions that a file can compute in."""
    fixed_sizes: ClassVar[bool] = False
    """Whether files take one image of a fixed size."""
    tasks: ClassVar[tuple[ExportTask, ...]] = ("classify", "features", "segment", "detect")
    inputs: ClassVar[tuple[InputKind, ...]] = ("float32", "uint8", "image")

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Versions of the packages that write and check a file, in addition to PyTorch's."""

    @abstractmethod
    def write(
        self, program: ExportedProgram, outputs: Sequence[str], texts: Mapping[str, str], dtype: str, path: Path
    ) -> None:
        """Write a file.

        Args:
            program: the traced network.
            outputs: names of its outputs.
            texts: metadata.
            dtype: precision that the file computes in.
            path: path of the file.
        """

    @abstractmethod
    def read_texts(self, path: Path) -> dict[str, str]:
        """Read a file's metadata without running it."""

    @abstractmethod
    def open(self, path: Path, dtype: str, threads: int = 0) -> Session:
        """Open a file for inference.

        Args:
            path: path of the file.
            dtype: precision to compute in, as in the metadata.
            threads: number of threads; 0 for the runtime's default.
        """

    def load(self, path: Path, threads: int = 0) -> tuple[Metadata, Session]:
        """Read a file's metadata and open it.

        Raises:
            UserError: the file is not an export, or its runtime is not installed.
        """
        metadata = parse_metadata(path, self.read_texts(path))
        return metadata, self.open(path, metadata.dtype, threads)

    def files(self, path: Path) -> tuple[Path, ...]:
        """All files of an export, the main file first."""
        return (path,)

    def publish(self, temporary: Path, path: Path) -> None:
        """Move checked files to their final names, the main file last."""
        for source, target in reversed(list(zip(self.files(temporary), self.files(path), strict=True))):
            write_atomic(target, source.replace)


def import_package(name: str, purpose: str, extra: str = "export") -> Any:
    """Import an optional package.

    Args:
        name: name of the package.
        purpose: feature that needs it, such as "ONNX".
        extra: extra of this package that installs it.

    Raises:
        UserError: the package is not installed.
    """
    require_package(name, f"transxnet[{extra}]", purpose)
    return import_module(name)
