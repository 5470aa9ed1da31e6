"""The command ``eval``: metrics of a trained model or an exported file on labeled images."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.data.formats.parts import part_of
from transxnet.data.formats.timm_readers import Stream, is_reader_name
from transxnet.data.formats.unreadable_images import drop_unreadable
from transxnet.data.open_data import open_evaluation_data
from transxnet.data.recognize import check_exists
from transxnet.data.tiling import OVERLAP
from transxnet.evaluation.dataset_evaluation import AnyEvaluation, run_evaluation
from transxnet.evaluation.evaluation_output import print_metrics, results_content
from transxnet.evaluation.evaluation_report import evaluation_report
from transxnet.evaluation.inference_backends import InferenceBackend
from transxnet.evaluation.open_backend import open_backend, with_options
from transxnet.reports import write_report
from transxnet.runs.config import TrainConfig
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.runs.training_data import check_progress, open_run_data, run_config, table_options, trained_on
from transxnet.utils.errors import UserError, check_at_least
from transxnet.utils.files import write_atomic
from transxnet.utils.progress import PLAIN, progress_bar
from transxnet.utils.quantities import format_count


def evaluate(
    model: str | Path,
    data: str | Path | None = None,
    *,
    file: str | Path | None = None,
    split: str | None = None,
    image_folder: str | Path | None = None,
    tile: int | None = None,
    overlap: float = OVERLAP,
    tta: bool = False,
    batch_size: int | None = None,
    workers: int = 2,
    device: str = "auto",
    out: str | Path | None = None,
    report: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> AnyEvaluation:
    """Evaluate the model of a run, an exported file, or a published model on labeled images.

    Args:
        model: run folder, exported file, or name of a model with published weights.
        data: for a classifier a folder of class folders (such as ImageNet or ImageNet-V2), a label table, a sample, or
            a timm reader name; for a detector a folder with annotations; for a segmenter a folder with label maps. By
            default, and for the data that the run was trained on, the validation set of the run. An exported file
            uses the run that it was exported from, if the run still exists.
        file: file with published weights of a classifier, detector or segmenter, for a model by name.
        split: set to evaluate on: train, validation or test, or a split of a timm reader; by default the validation
            set, or else the test set, or else all images.
        image_folder: folder that the paths in a label table are relative to. Its columns are as in the run.
        tile: for detectors and segmenters, side in pixels of the tiles that images are cut into; by default as in
            training, where the default is no tiles.
        overlap: fraction of the side that neighboring tiles share, 0 to 0.9.
        tta: test-time augmentation: merge the outputs of each image and of its horizontal flip. Takes twice the time.
        batch_size: images per batch; by default 64, or 2 for detectors and segmenters.
        workers: number of data loading processes.
        device: device to compute on: auto, cpu, cuda, cuda:1 or mps; auto is a GPU if there is one. Exported files run
            on the CPU.
        out: JSON file to write the metrics, their intervals and the calibration to.
        report: HTML file to write a report to.
        overwrite: overwrite existing files.
        console: console to print to; by default standard output.

    Returns:
        The model's outputs and metrics.

    Raises:
        UserError: the model or the data cannot be opened, or their classes differ.
    """
    console = console or Console()
    if batch_size is not None:
        check_at_least(1, batch_size=batch_size)
    check_at_least(0, workers=workers)
    for option, path in (("--out", out), ("--report", report)):
        if path is not None:
            _check_output(Path(path), option, overwrite)
    text = None if data is None else str(data)
    if text is not None:
        check_exists(text)
    backend = open_backend(model, file, device)
    backend = with_options(backend, tile, overlap, tta)
    images: Any
    if backend.task == "classify":
        images, description, notes, part = _labeled_images(backend, text, split, image_folder)
    else:
        images, description, notes, part = _annotated_images(backend, text, split, console)
    if list(images.class_names) != backend.class_names:
        raise UserError(f"{backend.name} and {description} have different classes. Export the run again, or name DATA.")
    count = format_count(len(images), "image")
    tiles = "" if backend.tiling is None else f", in tiles of {backend.tiling.size} pixels"
    flips = ", with horizontal flips" if tta else ""
    console.print(f"{backend.name} on {description}: {count} at {backend.input_size}{tiles}{flips}", **PLAIN)
    for note in notes:
        console.print(f"  {note}", **PLAIN)
    with progress_bar(console, "evaluating", len(images)) as advance:
        batch_size = batch_size or (64 if backend.task == "classify" else 2)
        evaluation = run_evaluation(backend, images, batch_size, workers, progress=advance)
    print_metrics(console, evaluation, fitted_here=part == "validation")
    if out is not None:
        content = {"model": str(model), "data": description, "split": part, "tta": tta, **results_content(evaluation)}
        write_atomic(Path(out), json.dumps(content, indent=2))
        console.print(f"metrics     {out}", **PLAIN)
    if report is not None:
        options = dict(file=file, split=split, image_folder=image_folder, tile=tile, tta=tta)
        given = [str(model), *([] if text is None else [text])]
        page = evaluation_report(
            backend, images, evaluation, data=description, split=part, given=given, options=options, notes=notes
        )
        write_report(page, Path(report))
        console.print(f"report      {report}", **PLAIN)
    return evaluation


def _check_output(path: Path, option: str, overwrite: bool) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"cannot write {path}. Choose a file in an existing folder.")
    if path.exists() and not overwrite:
        raise UserError(f"{path} already exists. Use --overwrite, or choose another {option}.")


def _labeled_images(
    backend: InferenceBackend, data: str | None, split: str | None, image_folder: str | Path | None
) -> tuple[ClassificationSet | Stream, str, list[str], str]:
    """Open a classifier's readable images; also returns their description, notes, and which set of the run they are."""
    config = _config(backend, data)
    if isinstance(config, ClassifyConfig) and trained_on(config, data) and _is_set(config, split):
        assert backend.run is not None
        source = open_run_data(config, None, backend.run.stored_split, check_images=False)
        (images,), notes = drop_unreadable(source.part(None if split == config.val_split else split))
        return images, f"the {_set_name(split)} set of {config.data}", notes, _set_name(split)
    description = data or (config.data if config is not None else "")
    images, notes = open_evaluation_data(
        description,
        backend.class_names,
        "classify",
        split=split,
        targets=backend.targets.kind,
        channels=backend.channels,
        table=replace(table_options(config), image_folder=None if image_folder is None else str(image_folder)),
    )
    return images, description, notes, ""


def _is_set(config: ClassifyConfig, split: str | None) -> bool:
    """Return whether the split is a set of the run, and not another split of a timm reader."""
    return split in (None, config.val_split) or not is_reader_name(config.data)


def _set_name(split: str | None) -> str:
    """Return the name of a set of a run: "training", "validation" or "test"."""
    part = part_of(split or "")
    return "training" if part == "train" else "test" if part == "test" else "validation"


def _annotated_images(
    backend: InferenceBackend, data: str | None, split: str | None, console: Console
) -> tuple[DetectionSet | SegmentationSet, str, list[str], str]:
    """Open a detector's or segmenter's images; returns the same as :func:`_labeled_images`."""
    config = _config(backend, data)
    if config is not None and trained_on(config, data):
        assert backend.run is not None
        source = open_run_data(config, console, backend.run.stored_split)
        name = _set_name(split)
        return source.part(split), f"the {name} set of {config.data}", source.notes, name
    assert data is not None
    images, notes = open_evaluation_data(
        data,
        backend.class_names,
        backend.task,
        split=split,
        channels=backend.channels,
        masks=backend.masks,
        zero_is_ignored=getattr(config, "zero_is_ignored", None),
        by_number=backend.run is None and backend.class_names == list(map(str, range(len(backend.class_names)))),
        progress=check_progress(console),
    )
    return images, data, notes, ""


def _config(backend: InferenceBackend, data: str | None) -> TrainConfig | None:
    """Return the training configuration of a run; None for a published model, which needs ``data``."""
    if backend.run is not None:
        return run_config(backend.run, data)
    if data is None:
        raise UserError(f"no data given: name the data to evaluate {backend.name} on.")
    return None
