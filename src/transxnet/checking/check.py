"""The command ``check``: find problems in labeled data before training on it."""

from pathlib import Path

import numpy as np
from rich.console import Console

from transxnet.checking.box_findings import box_findings
from transxnet.checking.check_findings import DataFinding, Kind
from transxnet.checking.check_report import FILES, FIXES, CheckResult, print_summary, tally, write_results
from transxnet.checking.checked_data import open_checked_data
from transxnet.checking.class_counts import class_counts, imbalance_findings
from transxnet.checking.duplicate_findings import exact_findings, group_findings, near_findings
from transxnet.checking.duplicates import NearDuplicates, exact_duplicates, first_copies, near_duplicates
from transxnet.checking.feature_duplicates import feature_duplicates
from transxnet.checking.image_scan import Scan, scan_images
from transxnet.checking.label_errors import label_error_findings
from transxnet.checking.model_errors import (
    check_one_class,
    describe_accuracy,
    load_classifier,
    model_outputs,
    out_of_fold_predictions,
    predictions_by_set,
    read_channels,
)
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.recognize import check_exists
from transxnet.data.split import describe_groups, find_groups, group_numbers
from transxnet.utils.errors import UserError, check_at_least
from transxnet.utils.output_folder import output_folder
from transxnet.utils.progress import PLAIN, long_progress

MANY = 0.1
"""Fraction of images with near duplicates above which a note recommends a higher similarity."""


def check(
    data: str | Path,
    *,
    model: str | Path | None = None,
    folds: int | None = None,
    task: str | None = None,
    similarity: float = 0.97,
    group_from: str | None = None,
    channels: int | None = None,
    val_fraction: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    out: str | Path | None = "check",
    overwrite: bool = False,
    console: Console | None = None,
) -> CheckResult:
    """Find problems in labeled data: duplicates, leaks, label errors, class imbalance and suspicious boxes.

    Writes a page with thumbnails, ``check.json``, and ``fixes.csv`` for ``transxnet train --exclude``. Writes nothing
    if ``out`` is None.

    Args:
        data: labeled images in any format of transxnet train, except timm readers.
        model: run folder of a classifier that was trained on this data, to find likely label errors in its validation
            and test set. Its split is checked, with the images that it excluded. With folds, any classifier: a run
            folder, or a model with published weights. Its features also find near duplicates.
        folds: find likely label errors in all images, by cross-validation with this many folds: a logistic regression
            on the features of the model.
        task: classify, detect or segment; by default the task that the data is for.
        similarity: minimum correlation of near duplicates after alignment, up to 1; higher for images that all look
            alike.
        group_from: regular expression that finds an image's group, such as the patient, in its path below the data
            folder, to find groups in two sets.
        channels: number of channels of TIFF, NPY, DICOM or other files, which are read with their stored values; by
            default that of the model, or RGB.
        val_fraction: fraction of the images to validate on, as in training, if the data has no validation set; by
            default 0.2.
        seed: seed of that split; by default 0.
        device: device of the model: auto, cpu, cuda, cuda:1 or mps; auto is a GPU if there is one.
        out: folder for the results; by default check, or check-2 and so on if it has results.
        overwrite: overwrite existing results.
        console: where to print; by default standard output.

    Returns:
        The findings.

    Raises:
        UserError: the data cannot be opened, the model is not a classifier of this data, or a split is requested
            beside that of the model.
    """
    console, text = console or Console(), str(data)
    if not 0 < similarity <= 1:
        raise UserError(f"similarity must be greater than 0 and at most 1, got {similarity:g}.")
    if channels is not None:
        check_at_least(1, channels=channels)
    if folds is not None:
        check_at_least(2, folds=folds)
        if model is None:
            raise UserError("--folds needs a classifier for the features. Add --model RUN, or a model with weights.")
    folder = None if out is None else output_folder(out, "check", FILES, overwrite)
    check_exists(text)
    trained = None if model is None else load_classifier(model, text, folds)
    channels = channels if trained is None else read_channels(trained, channels)
    source, images, excluded, split_options = open_checked_data(
        text, task, trained, channels, val_fraction, seed, console
    )
    if trained is not None:
        check_one_class(images)
    groups = None
    if group_from is not None:
        in_names = find_groups([images.name(number) for number in range(len(images))], group_from)
        groups = group_numbers(in_names)
        source.notes.extend(describe_groups(in_names, source.class_names))
    with long_progress(console, "reading", len(images), 0, "images") as advance:
        scan = scan_images(list(images.sets.values()), advance)
    with long_progress(console, "comparing", len(images), 0, "images") as advance:
        near = near_duplicates(scan, similarity, advance)
    outputs, by_features = None, NearDuplicates()
    if trained is not None:
        with long_progress(console, "predicting", len(images), 0, "images") as advance:
            outputs = model_outputs(trained, images, scan, device, advance)
        first = first_copies(scan, outputs.numbers)
        by_features = feature_duplicates(outputs.features[first], outputs.numbers[first])
    similar = len(np.unique(near.pairs))
    if similar > MANY * len(images):
        source.notes.append(
            f"{similar / len(images):.0%} of the images have near duplicates: if they are different images that look "
            "alike, use a higher --similarity"
        )
    counts = class_counts(images)
    findings = [
        *_unreadable(scan),
        *exact_findings(images, exact_duplicates(scan)),
        *near_findings(images, near, by_features),
        *([] if groups is None else group_findings(images, groups)),
        *imbalance_findings(counts, source.class_names),
        *_outside(source.findings),
        *box_findings(images),
        *excluded,
    ]
    if outputs is not None:
        predictions = predictions_by_set(outputs) if folds is None else out_of_fold_predictions(outputs, folds)
        for evaluation, numbers in predictions:
            findings += label_error_findings(evaluation, numbers)
        source.notes.append(describe_accuracy([evaluation for evaluation, _ in predictions]))
    order = list(Kind)
    result = CheckResult(
        data=text,
        class_names=source.class_names,
        images={name: len(part) for name, part in images.sets.items()},
        counts=counts,
        sizes=tally([(width, height) for width, height in scan.sizes[scan.readable].tolist()]),
        modes=tally([mode for mode in scan.modes if mode]),
        findings=sorted(findings, key=lambda finding: order.index(finding.kind)),
        notes=source.notes,
        all_images=images,
        split_made=source.split_made,
        split_options=split_options,
    )
    print_summary(result, console)
    if folder is not None:
        for path in write_results(result, folder):
            console.print(f"  {path}", **PLAIN)
        if (command := result.next_command(folder)) is not None:
            console.print(f"next: set the actions in {folder / FIXES}, then", **PLAIN)
            console.print(f"  {command}", **PLAIN)
    return result


def _unreadable(scan: Scan) -> list[DataFinding]:
    return [DataFinding(Kind.UNREADABLE, (number,), fault, (number,)) for number, fault in scan.faults.items()]


def _outside(findings: Findings) -> list[DataFinding]:
    """Return the boxes that reading the annotations clipped or skipped."""
    places = [place for p in (Problem.BOX_OUTSIDE, Problem.BOX_EMPTY) for place in findings.places.get(p, ())]
    return [DataFinding(Kind.BOX_OUTSIDE, (), place) for place in places]
