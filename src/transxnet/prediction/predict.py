"""Predict for image files with a trained or exported model: classes, detections or label maps."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console

from transxnet.data.reading.image_search import ACCEPTED, ImageList
from transxnet.data.reading.pixels import extensions_for
from transxnet.data.tiling import OVERLAP
from transxnet.prediction.classifier_tables import classifier_table
from transxnet.prediction.file_predictions import predict_files
from transxnet.prediction.image_summary import PredictionSummary
from transxnet.prediction.loaded_model import open_model
from transxnet.prediction.predict_classes import write_classes
from transxnet.prediction.predict_dense import write_detections, write_label_maps
from transxnet.prediction.predict_parquet import Embed, is_parquet, predict_parquet
from transxnet.prediction.result_ids import find_result_ids
from transxnet.prediction.stored_predictions import StoredPredictions
from transxnet.utils.errors import UserError, check_at_least, check_one_of
from transxnet.utils.output_folder import output_folder
from transxnet.utils.progress import PLAIN, progress_bar
from transxnet.utils.quantities import format_count

_RESULTS: dict[str, tuple[str, ...]] = {
    "classify": ("predictions.csv", "predictions.jsonl"),
    "detect": ("images.json", "detections.json", "drawn", "yolo"),
    "segment": ("predictions.csv", "classes.txt", "maps", "drawn"),
}
"""Files and folders with the results."""

_COUNTED: dict[str, str] = {
    "detect": "detected objects",
    "segment": "most frequent class of the images",
}


def predict(
    model: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path = "predictions",
    top_k: int = 5,
    min_score: float | None = None,
    save_txt: bool = False,
    tile: int | None = None,
    overlap: float = OVERLAP,
    tta: bool = False,
    batch_size: int = 32,
    workers: int = 2,
    device: str = "auto",
    file: str | Path | None = None,
    embed: Embed | bool = False,
    rows_per_file: int | None = None,
    ray: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> StoredPredictions:
    """Predict for images and write the results.

    If ``out`` ends in ``.parquet``, a classifier writes that file: one row per image with its ``path``, ``class1``,
    ``probability1`` and so on, ``embedding`` if requested, and the ``error`` of unreadable images. Instead of
    classes, a multi-label classifier writes ``labels`` and ``probability_NAME`` of each label, a regression the
    ``value``. With ``rows_per_file`` it writes a folder of such files. After any interruption the same call resumes: no
    image is lost or computed twice, and the results are the same.

    Otherwise ``out`` is a folder. A classifier writes ``predictions.csv`` and ``predictions.jsonl``. A detector writes
    ``images.json`` and ``detections.json`` in COCO's format of images and of results, and ``drawn/`` with boxes and
    masks over the images. A segmenter writes ``maps/`` with label maps as indexed PNG files at the size of the images,
    ``classes.txt``, ``drawn/`` and ``predictions.csv``. Memory does not grow with the number of images. Files that
    cannot be read are reported in the results.

    Args:
        model: run folder, exported file, or name of a model with published weights.
        images: any number of files, folders (searched recursively), globs and WebDataset shards (``.tar``).
        out: folder for the results, or a classifier's Parquet file; by default predictions, or predictions-2 and so
            on if it has results.
        top_k: number of classes per image, for classifiers of classes.
        min_score: for detectors, drop detections below this score (0 to 1) from results and drawings; by default the
            results have all that the model returns, from 0.05, and the drawings those from 0.5.
        save_txt: for detectors, also write ``yolo/`` with ``classes.txt`` and for each image a text file of class, x,
            y, width, height and score.
        tile: for detectors and segmenters, side in pixels of the tiles that images are cut into, for images that are
            larger than those in training; results are merged. By default as in training, where the default is no tiles.
        overlap: fraction of the side that neighboring tiles share, 0 to 0.9.
        tta: test-time augmentation: merge the outputs of each image and of its horizontal flip. Takes twice the time.
        batch_size: images per batch, for classifiers; other models process images one by one at any size.
        workers: number of data loading processes.
        device: device to compute on: auto, cpu, cuda, cuda:1 or mps; auto is a GPU if there is one. Exported files run
            on the CPU.
        file: file with published weights, for a model by name.
        embed: also store the pooled features before the classifier in the Parquet file, as lists of float32 (also with
            ``True``) or float16.
        rows_per_file: write Parquet files with this many rows into the folder.
        ray: predict into Parquet on a Ray cluster: the one at RAY_ADDRESS, or else one on this machine only. Its
            machines must share the file systems of the model, the images and the results.
        overwrite: overwrite earlier results, and restart an interrupted prediction.
        console: console to print to; by default standard output.

    Returns:
        The files; iterating reads the results back one by one. ``os.fspath`` gives the folder or the Parquet file.

    Raises:
        UserError: the model cannot be opened, no image was found or readable, results already exist, or another
            prediction was started there.
        Interrupted: the user stopped it; finished work for a Parquet file is kept.
    """
    console = console or Console()
    check_at_least(1, top_k=top_k, batch_size=batch_size)
    check_at_least(0, workers=workers)
    if min_score is not None and not 0 <= min_score <= 1:
        raise UserError(f"min_score must be 0 to 1, got {min_score}.")
    if rows_per_file is not None:
        check_at_least(1, rows_per_file=rows_per_file)
    if isinstance(embed, str):
        check_one_of(get_args(Embed), embed=embed)
    inputs = [images] if isinstance(images, (str, Path)) else list(images)
    if is_parquet(out) or rows_per_file is not None:
        dense = {"--tile": tile is not None, "--min-score": min_score is not None, "--save-txt": save_txt}
        if refused := [option for option, given in dense.items() if given]:
            raise UserError(f"{refused[0]} is not for Parquet output, which is for classifiers. Remove {refused[0]}.")
        return predict_parquet(
            model,
            inputs,
            Path(out),
            top_k=top_k,
            tta=tta,
            batch_size=batch_size,
            workers=workers,
            device=device,
            file=file,
            embed=("float32" if embed is True else embed) or None,
            rows_per_file=rows_per_file,
            ray=ray,
            overwrite=overwrite,
            console=console,
        )
    if embed or ray:
        raise UserError(
            f"{'--embed' if embed else '--ray'} requires Parquet output. Use --out NAME.parquet, or --rows-per-file "
            "for a folder of several files."
        )
    names = dict.fromkeys(name for results in _RESULTS.values() for name in results)
    folder = output_folder(out, "predictions", names, overwrite)
    loaded = open_model(model, file, device)
    loaded = loaded.with_options(tile, overlap, tta)
    sources = ImageList(inputs, extensions_for(loaded.backend.channels))
    if sources.skipped:
        listed = ", ".join(f"{count} {extension}" for extension, count in sources.skipped.most_common(5))
        console.print(f"{format_count(sources.skipped.total(), 'file')} skipped, no image extension: {listed}", **PLAIN)
    if not len(sources):
        raise UserError(f"no images found in {', '.join(map(str, inputs))}. {ACCEPTED}")
    if min_score is not None and loaded.task != "detect":
        raise UserError(f"min_score is for detectors, and {model} is not one. Remove --min-score.")
    if save_txt and loaded.task != "detect":
        raise UserError(f"save_txt is for detectors, and {model} is not one. Remove --save-txt.")
    table = classifier_table(loaded.targets, loaded.class_names, top_k) if loaded.task == "classify" else None
    created = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create folder {folder}: {error.strerror}. Choose another --out.") from error
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            with progress_bar(console, "predicting", len(sources)) as advance:
                summary = PredictionSummary()
                predictions = predict_files(loaded, sources, batch_size, workers)
                if loaded.task == "detect":
                    ids = find_result_ids(inputs, loaded.class_names, loaded.backend.category_ids)
                    written = write_detections(predictions, Path(scratch), loaded.class_names, ids, min_score, save_txt)
                elif loaded.task == "segment":
                    written = write_label_maps(predictions, Path(scratch), loaded.class_names)
                else:
                    assert table is not None
                    written = write_classes(predictions, Path(scratch), table)
                for image in written:
                    summary.add(image)
                    advance(summary.images)
            if summary.unreadable == summary.images:
                raise UserError(
                    f"none of the {summary.images} images could be predicted. Error of the last: {image.path}: "
                    f"{image.error}"
                )
            _publish(Path(scratch), folder, _RESULTS[loaded.task])
    finally:
        if created and not any(folder.iterdir()):
            folder.rmdir()
    failures = f", {summary.unreadable:,} failed (see column error)" if summary.unreadable else ""
    console.print(f"{format_count(summary.images - summary.unreadable, 'image')} predicted{failures}", highlight=False)
    summary.print(console, _COUNTED[loaded.task] if table is None else table.counted)
    files = [folder / name for name in _RESULTS[loaded.task] if (folder / name).exists()]
    for path in files:
        console.print(f"  {path}", **PLAIN)
    return StoredPredictions(folder, files, loaded.task, summary.images, table, loaded.backend.channels)


def _publish(scratch: Path, folder: Path, names: Sequence[str]) -> None:
    """Move complete results to their final names and remove those of an earlier prediction."""
    for name in names:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        if (scratch / name).exists():
            (scratch / name).replace(folder / name)
