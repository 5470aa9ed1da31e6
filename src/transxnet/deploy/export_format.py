"""The interface of the export formats."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol

from rich.console import Console
from torch import Tensor
from torch.export import ExportedProgram

from transxnet.deploy.metadata import Metadata, parse_metadata
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_atomic
from transxnet.utils.optional_packages import require_package


class Session(Protocol):
    """An exported file opened in its runtime."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Run the file; return its outputs in the file's order."""
        ...


@dataclass(frozen=True)
class WholeImageProgram:
    """The programs of a file that takes one decoded image of any size.

    They stay separate, since the tracer cannot reason about a network whose input has sizes computed from other sizes.

    Attributes:
        prepare: from the image to the inputs of the network.
        network: from these to its outputs.
        finish: from the image, the inputs of the network after the first and its outputs, to the outputs of the file.
    """

    prepare: ExportedProgram
    network: ExportedProgram
    finish: ExportedProgram

    def parts(self, outputs: Sequence[str]) -> Iterator[tuple[ExportedProgram, list[str], list[str]]]:
        """Iterate over the programs with the names of their inputs and outputs, which connect them."""
        prepared = [f"prepared.{i}" for i in range(_count_outputs(self.prepare))]
        results = [f"results.{i}" for i in range(_count_outputs(self.network))]
        yield self.prepare, ["images"], prepared
        yield self.network, prepared, results
        yield self.finish, ["images", *prepared[1:], *results], list(outputs)


Program = ExportedProgram | WholeImageProgram
"""What a format writes; the second only if it has ``whole_images``."""


def _count_outputs(program: ExportedProgram) -> int:
    return len(program.graph_signature.user_outputs)


class ExportFormat(ABC):
    """Writes, describes and opens the files of one format."""

    suffix: ClassVar[str]
    """Extension of the file; empty for a folder."""
    dtypes: ClassVar[tuple[str, ...]]
    """Precisions that a file can compute in."""
    whole_images: ClassVar[bool] = False
    """Whether it also writes a :class:`WholeImageProgram`."""
    dynamic: ClassVar[tuple[str, ...]] = ("batch", "height", "width")
    """Axes that are dynamic by default: of these, batch for classifiers and features, the others for dense models."""
    float32_programs: ClassVar[bool] = False
    """Whether the program to write is float32, whatever the dtype."""

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

    def check_target(self, path: Path, overwrite: bool) -> None:
        """Raise UserError if something would be overwritten that must not be."""
        for file in self.files(path):
            if file.is_dir() or (file.exists() and not overwrite):
                raise UserError(f"{file} already exists. Use --overwrite, or choose another --out.")

    def prepare(self, metadata: Metadata, console: Console) -> None:  # noqa: B027
        """Check that the format supports such a model, and fetch what else its files need, before computing.

        Raises:
            UserError: it does not support the model, or something cannot be fetched.
        """

    def files(self, path: Path) -> tuple[Path, ...]:
        """All files of an export, the main file first."""
        return (path,)

    def publish(self, temporary: Path, path: Path) -> None:
        """Move checked files to their final names, the main file last."""
        for source, target in reversed(list(zip(self.files(temporary), self.files(path), strict=True))):
            write_atomic(target, source.replace)

    def describe(self, path: Path) -> str:
        """Describe a published export: its path and size."""
        size = sum(each.stat().st_size for each in self.files(path))
        return f"{path}  {size / 1e6:,.1f} MB"


def check_fixed_size(kind: str, metadata: Metadata) -> None:
    """Check a model for a format of files that take one image of a fixed size.

    Args:
        kind: name of the format.
        metadata: describes the model.

    Raises:
        UserError: the model is a detector, or has dynamic axes or a batch.
    """
    if metadata.task == "detect":
        raise UserError(
            f"--format {kind} supports classifiers, segmenters and --features; {metadata.source} is a detector. Use "
            "--format onnx."
        )
    if metadata.dynamic or metadata.batch != 1:
        dynamic = ",".join(metadata.dynamic) or None
        raise UserError(
            f"--format {kind} takes one image of a fixed size, got --dynamic {dynamic} and --batch-size "
            f"{metadata.batch or 1}. Use --img-size, and remove --dynamic and --batch-size."
        )


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
