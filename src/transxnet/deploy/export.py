"""Export a trained model to a file that runs without this package."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from transxnet.data.reading.pixels import Pixels
from transxnet.deploy.export_format import Session
from transxnet.deploy.export_images import labeled_images, normalize_images, real_images
from transxnet.deploy.exportable_model import MULTIPLE, ExportableModel, prepare_export, prepare_whole_image
from transxnet.deploy.format_registry import FORMATS
from transxnet.deploy.metadata import InputKind, Metadata
from transxnet.deploy.quantizable_model import QUANTIZABLE
from transxnet.deploy.quantize import quantize
from transxnet.deploy.reference_answer import ReferenceAnswer
from transxnet.deploy.trace import AXES, example_images, trace, trace_whole_image
from transxnet.deploy.verify import check_images, check_tolerance, compare, images_to_check, run_file
from transxnet.models.model_spec import parse_model_spec
from transxnet.runs.load import load_model
from transxnet.runs.trained_models import TrainedClassifier, TrainedDetector, TrainedModel
from transxnet.utils.errors import UserError, check_at_least, check_one_of, nearest
from transxnet.utils.files import WriteError, describe_write_error, safe_file_name
from transxnet.utils.image_size import parse_image_size
from transxnet.utils.progress import PLAIN, progress_bar
from transxnet.version import __version__


def export(
    model: str | Path,
    *,
    format: Literal["onnx", "openvino", "pt2", "executorch", "ncnn", "web"] | None = None,
    dynamic: str | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    img_size: str | int | None = None,
    batch_size: int = 1,
    features: bool = False,
    with_preprocessing: bool = False,
    end_to_end: bool = False,
    int8: bool = False,
    data: str | Path | None = None,
    allow_accuracy_drop: float = 1.0,
    out: str | Path | None = None,
    file: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> Path:
    """Export a model to a file that runs without this package, and check the file against PyTorch.

    The file gets its final name only after its outputs match the model's on real images, in the format's runtime.

    Args:
        model: a run folder, or the name of a model with published weights.
        format: onnx (ONNX Runtime), openvino (an .xml and a .bin file), pt2 (compiled by AOTInductor for this machine);
            for phones executorch (a .pte file) or ncnn (a .param, a .bin and a .json file), both for one image of a
            fixed size; or web (a folder with a web page that runs the model in the browser); by default onnx, or
            openvino with int8.
        dynamic: dynamic axes: any of batch, height and width, separated by commas, or none; height and width in
            multiples of 32. By default batch for classifiers and features, height,width for detectors and segmenters,
            and none for executorch, ncnn and classifiers on a web page.
        dtype: data type to compute in; onnx does not support bfloat16.
        img_size: size of the images, such as 224 or 800x1088 (height x width); by default the model's own.
        batch_size: batch size if the batch axis is not dynamic.
        features: export the feature maps of the stages instead of the model's predictions.
        with_preprocessing: take uint8 images (N, height, width, 3), and normalize them inside the file.
        end_to_end: take one decoded image (height, width, 3) uint8 of any size and return what ``transxnet predict``
            computes for it: a classifier's probabilities, boxes, labels, scores and masks in the image's pixels, or a
            label map. In onnx and openvino.
        int8: quantize after training, calibrated on the training images; in onnx and openvino.
        data: images to check the file on; with int8 labeled images, as for training. By default the run's own.
        allow_accuracy_drop: largest accepted loss by int8 on the validation set, in percentage points: of accuracy, AP
            or mean IoU.
        out: output file, or folder of a web page; by default named after the model, in the current folder.
        file: weights on disk, for a model given by name.
        overwrite: overwrite an existing file.
        console: where to print; by default standard output.

    Returns:
        The path of the file or folder.

    Raises:
        UserError: the model cannot be opened or exported to this format, an option does not apply to it, or the file's
            outputs differ from the model's.
    """
    console = console or Console()
    kind = format or ("openvino" if int8 else "onnx")
    data = None if data is None else str(data)
    check_one_of(tuple(FORMATS), format=kind)
    file_format = FORMATS[kind]
    check_at_least(1, batch_size=batch_size)
    if dtype not in file_format.dtypes:
        raise UserError(
            f"dtype must be {' or '.join(map(repr, file_format.dtypes))} for --format {kind}, got {dtype!r}."
        )
    if int8 and (kind not in QUANTIZABLE or dtype == "float16" or features):
        raise UserError(
            f"--int8 requires --format {' or '.join(QUANTIZABLE)} and --dtype float32 or bfloat16, and does not "
            "support --features."
        )
    if end_to_end and (int8 or features or with_preprocessing or dynamic is not None or batch_size > 1):
        raise UserError(
            "--end-to-end takes one image of any size. Remove --int8, --features, --with-preprocessing, --dynamic and "
            "--batch-size."
        )
    if end_to_end and not file_format.whole_images:
        formats = " or ".join(name for name, each in FORMATS.items() if each.whole_images)
        raise UserError(f"--end-to-end requires --format {formats}, got {kind}.")
    if not 0 <= allow_accuracy_drop <= 100:
        raise UserError(
            f"allow_accuracy_drop must be between 0 and 100 percentage points, got {allow_accuracy_drop:g}."
        )
    sides = None if img_size is None else parse_image_size(img_size, 32)
    spec = parse_model_spec(model, file)
    if spec.part:
        raise UserError(f"cannot export a part of a network, got {model}. Remove the colon and the part.")
    trained = load_model(spec, analysis=True, size=None if sides is None else max(sides))
    if int8 and isinstance(trained, TrainedClassifier) and trained.targets.kind != "classes":
        raise UserError(
            f"--int8 limits the loss of accuracy of classes; {trained.name} has targets {trained.targets.kind}. Remove "
            "--int8."
        )
    channels = trained.backbone_preprocessing.channels
    for_rgb = {"--int8": int8, "--with-preprocessing": with_preprocessing, "--end-to-end": end_to_end}
    option = next((name for name, given in for_rgb.items() if given), None)
    if channels is not None and option is not None:
        raise UserError(f"{option} is for RGB images, and {trained.name} reads {channels} channels. Remove {option}.")
    if end_to_end:
        _check_end_to_end(trained, sides)
    if int8 and trained.run is None and data is None:
        raise UserError("--int8 needs labeled images for calibration and validation. Use --data.")
    if int8 and isinstance(trained, TrainedClassifier) and sides is not None and sides[0] != sides[1]:
        raise UserError(f"--int8 supports classifiers of square images only, got --img-size {img_size}.")
    named = {"features": features, "int8": int8, "end-to-end": end_to_end}
    path = _target(out, trained, kind, named, overwrite)
    with _scratch(path) as scratch:
        labeled = labeled_images(trained, data) if int8 else None
        axes = () if end_to_end else _axes(dynamic, trained, features, file_format.dynamic)
        sides = sides or _own_size(trained, features)
        fixed = None if {"height", "width"} & set(axes) else sides
        computed = torch.float32 if file_format.float32_programs else getattr(torch, dtype)
        if end_to_end:
            side = sides[0] if isinstance(trained, TrainedClassifier) else None
            exportable = prepare_whole_image(trained, side=side, dtype=computed)
        else:
            exportable = prepare_export(
                trained, features=features, static_size=fixed, uint8=with_preprocessing, dtype=computed
            )
        _check_sides(sides, axes, exportable)
        if exportable.task == "detect" and batch_size != 1:
            raise UserError(f"exported detectors support batch size 1 only, got {batch_size}. Remove --batch-size.")
        taken: InputKind = "image" if end_to_end else "uint8" if with_preprocessing else "float32"
        metadata = _metadata(trained, exportable, kind, axes, sides, batch_size, dtype, taken, spec.file)
        console.print(f"{trained.name}: {_words(metadata)}", **PLAIN)
        file_format.prepare(metadata, console)
        count = images_to_check(metadata)
        originals, where = real_images(trained, data, count) if labeled is None else labeled.validation_images(count)
        reference = ReferenceAnswer.create(
            originals[0],
            metadata,
            lambda images: exportable.reference_outputs(
                images if end_to_end else normalize_images(images, exportable.mean, exportable.std)
            ),
        )
        metadata = replace(metadata, reference=reference.to_dict())
        if exportable.whole_image is not None:
            inside = () if exportable.task == "classify" else ("height", "width")
            traced = trace_whole_image(exportable.whole_image, exportable.graph, sides, inside)
        else:
            example = example_images(sides, batch_size, with_preprocessing, axes, len(exportable.mean))
            traced = trace(exportable.graph, example, axes)
        try:
            with console.status(f"converting to {kind}"):  # minutes for ExecuTorch and pt2
                file_format.write(traced, exportable.outputs, metadata.to_texts(), dtype, scratch)
        except OSError as error:
            raise WriteError(describe_write_error(path, error)) from error
        check_file(file_format.open(scratch, dtype), exportable, metadata, originals, console)
        console.print(f"  verified on images of {where}", **PLAIN)
        if labeled is not None:
            floating, scratch = scratch, scratch.with_name(f"int8-{path.name}")
            quantize(floating, scratch, labeled, metadata, kind, allow_accuracy_drop, console)
        file_format.publish(scratch, path)
    console.print(file_format.describe(path), **PLAIN)
    return path


def check_file(
    session: Session,
    exportable: ExportableModel,
    metadata: Metadata,
    originals: Sequence[Pixels],
    console: Console,
) -> None:
    """Compare a file with PyTorch on real images, print the differences, and raise UserError if they are too large."""
    with progress_bar(console, "checking", sum(1 for _ in check_images(metadata, originals))) as advance:
        comparisons = compare(session, exportable, metadata, originals, advance)
    for comparison in comparisons:
        console.print(f"  {comparison.describe()}", **PLAIN)
    reference = ReferenceAnswer.from_dict(metadata.reference)
    answer = reference.compare(run_file(session, reference.images(metadata), metadata), metadata)
    check_tolerance([*comparisons, answer], metadata)


def _check_end_to_end(trained: TrainedModel, sides: tuple[int, int] | None) -> None:
    """Raise UserError if a model cannot be exported with --end-to-end."""
    if isinstance(trained, TrainedClassifier):
        if sides is not None and sides[0] != sides[1]:
            raise UserError(f"--end-to-end supports classifiers of square images only, got --img-size {sides}.")
    elif sides is not None:
        raise UserError(
            "--end-to-end resizes images for a detector or segmenter as in its training. Remove --img-size."
        )
    elif trained.tiling is not None:
        raise UserError(f"--end-to-end does not cut images into tiles, and {trained.name} was trained on tiles.")


def _target(
    out: str | Path | None, trained: TrainedModel, kind: str, options: dict[str, bool], overwrite: bool
) -> Path:
    """Return the path of the file; its default name has the options that change what the file is."""
    suffix = FORMATS[kind].suffix
    name = "-".join(
        [safe_file_name(Path(trained.name).name), *(option for option, chosen in options.items() if chosen)]
    )
    path = Path(out) if out is not None else Path(name + (suffix or f"-{kind}"))
    if not path.name.endswith(suffix):
        raise UserError(f"--out must end in {suffix} for --format {kind}, got {path}.")
    if not path.parent.is_dir():
        raise UserError(f"folder {path.parent} does not exist. Create it, or choose another --out.")
    FORMATS[kind].check_target(path, overwrite)
    return path


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """Yield a path with the same name in a temporary folder next to it, so that the file can be moved into place."""
    try:
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-")
    except OSError as error:
        raise WriteError(describe_write_error(path, error)) from error
    with folder:
        yield Path(folder.name) / path.name


def _axes(dynamic: str | None, trained: TrainedModel, features: bool, by_default: Sequence[str]) -> tuple[str, ...]:
    """The dynamic axes, in their order."""
    detector = isinstance(trained, TrainedDetector) and not features
    if dynamic is None:
        own = ("batch",) if features or isinstance(trained, TrainedClassifier) else ("height", "width")
        return tuple(axis for axis in own if axis in by_default)
    words = [] if dynamic in ("none", "") else dynamic.split(",")
    for word in words:
        if word not in AXES:
            raise UserError(f"dynamic must be some of {', '.join(AXES)}, or none, got {word!r}.{nearest(word, AXES)}")
    if detector and "batch" in words:
        raise UserError("exported detectors support batch size 1 only. Remove batch from --dynamic.")
    return tuple(axis for axis in AXES if axis in words)


def _own_size(trained: TrainedModel, features: bool) -> tuple[int, int]:
    """A model's default image size; for dense models a 4:3 image at their scale."""
    if features or isinstance(trained, TrainedClassifier):
        side = trained.backbone_preprocessing.img_size
        return side, side
    if isinstance(trained, TrainedDetector):
        short, limit = trained.model.transform.min_size[-1], trained.model.transform.max_size
    else:
        limit, short = trained.scale  # type: ignore[attr-defined]
    long = min(limit, round(short * 4 / 3))
    return short + -short % MULTIPLE, long + -long % MULTIPLE


def _check_sides(sides: tuple[int, int], axes: Sequence[str], exportable: ExportableModel) -> None:
    for axis, side in zip(("height", "width"), sides, strict=True):
        if (axis in axes or exportable.task in ("detect", "segment")) and side % MULTIPLE:
            raise UserError(f"{axis} must be a multiple of {MULTIPLE} here, got {side}. Use --img-size.")


def _metadata(
    trained: TrainedModel,
    exportable: ExportableModel,
    kind: str,
    axes: tuple[str, ...],
    sides: tuple[int, int],
    batch: int,
    dtype: str,
    taken: InputKind,
    file: str | None,
) -> Metadata:
    if trained.run is not None:
        source = str(trained.run.path)
    else:
        source = "untrained" if trained.untrained else "published" if file is None else file
    resize = dict(exportable.resize)
    if "img_size" in resize and sides[0] == sides[1]:
        resize["img_size"] = sides[0]
    config = getattr(trained.run, "read_config", lambda: None)()
    return Metadata(
        task=exportable.task,
        model=trained.name if config is None else config.model,
        source=source,
        class_names=[] if exportable.task == "features" else trained.class_names,
        input=taken,
        mean=exportable.mean,
        std=exportable.std,
        size=sides,
        batch=0 if "batch" in axes else batch,
        dynamic=axes,
        resize=resize,
        outputs=exportable.outputs,
        score_threshold=exportable.score_threshold,
        dtype=dtype,
        targets=trained.targets.to_dict() if exportable.task == "classify" else {},  # type: ignore[attr-defined]
        channels=trained.backbone_preprocessing.channels,
        versions={"transxnet": __version__, "torch": torch.__version__, **FORMATS[kind].versions()},
    )


def _words(metadata: Metadata) -> str:
    """Describe the inputs and outputs of a file."""
    height, width = (
        f"dynamic {axis}" if axis in metadata.dynamic else str(side)
        for axis, side in zip(("height", "width"), metadata.size, strict=True)
    )
    count = f"batch size {metadata.batch}" if metadata.batch else "dynamic batch size"
    if metadata.input == "image":
        return f"{metadata.task} in {metadata.dtype}, one uint8 (height, width, 3) -> {', '.join(metadata.outputs)}"
    kind = (
        "uint8 (N, height, width, 3)"
        if metadata.input == "uint8"
        else f"float32 (N, {len(metadata.mean)}, height, width)"
    )
    return f"{metadata.task} in {metadata.dtype}, {count}, {height} x {width}, {kind} -> {', '.join(metadata.outputs)}"
