"""The command ``verify``: run an exported file on its reference image, and compare with the expected outputs."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.deploy.exported_model import load_exported
from transxnet.deploy.reference_answer import ReferenceAnswer
from transxnet.deploy.verify import Comparison, accepted_difference, run_file
from transxnet.utils.errors import UserError
from transxnet.utils.progress import PLAIN

RUNS = 7
"""Number of timed runs, after the one that is compared."""


@dataclass(frozen=True)
class Verification:
    """The result of :func:`verify`.

    Attributes:
        comparison: difference between the file's outputs and the expected ones.
        latency: median time of a run in seconds, for one image or the file's fixed batch size.
    """

    comparison: Comparison
    latency: float


def verify(file: str | Path, *, console: Console | None = None) -> Verification:
    """Run an exported file on its reference image, and compare the outputs with the expected ones.

    Export stores a small image and the outputs of the trained model in the file. The accepted difference is that of the
    export. The file runs in its own runtime on the CPU, with all cores.

    Args:
        file: an ONNX file, an OpenVINO model's .xml, a .pt2 package, a .pte program, or an ncnn model's .param.
        console: where to print; by default standard output.

    Returns:
        The difference and the latency.

    Raises:
        UserError: the file cannot be opened or run, contains no reference image, or its outputs differ.
    """
    console = console or Console()
    exported = load_exported(file)
    metadata = exported.metadata
    if not metadata.reference:
        raise UserError(
            f"{file} contains no reference image, since an older version of transxnet exported it. Export the model "
            "again."
        )
    try:
        reference = ReferenceAnswer.from_dict(metadata.reference)
        images = reference.images(metadata)
        comparison = reference.compare(run_file(exported.session, images, metadata), metadata)
    except (KeyError, TypeError, ValueError, IndexError, UnreadableImage) as error:
        raise UserError(
            f"the reference image or its outputs in {file} are damaged: {type(error).__name__}: {error}. Export the "
            "model again."
        ) from error
    limit = accepted_difference(metadata)
    if not comparison.relative <= limit:
        versions = ", ".join(f"{name} {version}" for name, version in metadata.versions.items())
        raise UserError(
            f"the outputs of {file} differ from the expected ones by a relative difference of "
            f"{comparison.relative:.2g}, accepted in {metadata.dtype}: {limit:g}. Export the model again, or install "
            f"the versions of its export: {versions}."
        )
    console.print(f"{file}: {metadata.task} in {metadata.dtype}", **PLAIN)
    console.print(f"  {comparison.describe()}", **PLAIN)
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run_file(exported.session, images, metadata)
        times.append(time.perf_counter() - start)
    latency = statistics.median(times)
    console.print(
        f"  latency at batch size {comparison.batch}: {1000 * latency:.1f} ms, median of {RUNS} runs", **PLAIN
    )
    return Verification(comparison, latency)
