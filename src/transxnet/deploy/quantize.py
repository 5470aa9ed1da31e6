"""Post-training quantization to int8, with a limit on the loss of accuracy."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from transxnet.deploy.export_images import LabeledImages
from transxnet.deploy.exported_model import ExportedModel
from transxnet.deploy.format_registry import FORMATS
from transxnet.deploy.metadata import Metadata
from transxnet.deploy.quantizable_model import QUANTIZABLE
from transxnet.deploy.quantization_data import KINDS, QuantizationData
from transxnet.deploy.reference_answer import ReferenceAnswer
from transxnet.deploy.verify import run_file
from transxnet.utils.errors import UserError
from transxnet.utils.progress import PLAIN, progress_bar


def quantize(
    floating: Path,
    path: Path,
    images: LabeledImages,
    metadata: Metadata,
    kind: str,
    allowed: float,
    console: Console,
) -> None:
    """Quantize a file to int8.

    Args:
        floating: path of the file of a classifier, detector or segmenter.
        path: path of the int8 file.
        images: labeled images.
        metadata: metadata of the file.
        kind: its format, one of ``QUANTIZABLE``.
        allowed: largest accepted loss of accuracy, AP or mean IoU on the validation images, in percentage points.
        console: where to print.

    Raises:
        UserError: a package is not installed, or the loss is larger.
    """
    data, where, file_format = KINDS[metadata.task](images, metadata), images.where, FORMATS[kind]
    before = _metrics(floating, metadata, kind, data, len(images.val), console)
    console.print(f"  quantizing, calibrated on {len(data.inputs)} images of {where}", **PLAIN)
    model = QUANTIZABLE[kind].read(floating).quantize(data.inputs, data.validation, allowed / 100)
    small = "int8" if metadata.dtype == "float32" else f"int8-{metadata.dtype}"
    reduced = replace(metadata, dtype=small)
    model.save(reduced.to_texts(), small, path)
    session = file_format.open(path, small)
    reference = ReferenceAnswer.from_dict(metadata.reference).answered(
        reduced, partial(run_file, session, metadata=reduced)
    )
    reduced = replace(reduced, reference=reference.to_dict())
    model.save(reduced.to_texts(), small, path)
    after = _metrics(path, reduced, kind, data, len(images.val), console)
    count, layers = model.count_quantized()
    for name, value in before.items():
        console.print(
            f"  {name} on {len(images.val):,} validation images of {where}: {value:.2%} before quantization, "
            f"{after[name]:.2%} in int8",
            **PLAIN,
        )
    console.print(f"  {count} of {layers} convolutions and matrix products in int8", **PLAIN)
    name = max(before, key=lambda each: before[each] - after[each])
    loss = before[name] - after[name]
    if loss > allowed / 100 + 1e-9:
        raise UserError(
            f"int8 loses {100 * loss:.2f} percentage points of {name}, more than --allow-accuracy-drop {allowed:g}. "
            "Nothing was written. Use more training images, a larger --allow-accuracy-drop, or no --int8."
        )


def _metrics(
    path: Path, metadata: Metadata, kind: str, data: QuantizationData, count: int, console: Console
) -> dict[str, float]:
    """Metrics of a file on the validation images."""
    model = ExportedModel(path, metadata, FORMATS[kind].open(path, metadata.dtype))
    with progress_bar(console, f"validating {metadata.dtype}", count) as advance:
        return data.metrics(model, advance)
