"""Likely label errors of a data set, by a classifier."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from transxnet.checking.all_images import AllImages
from transxnet.checking.check_findings import DataFinding
from transxnet.checking.image_scan import Scan
from transxnet.checking.label_errors import label_error_findings
from transxnet.checking.out_of_fold import out_of_fold_probabilities, pooled_features
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.evaluation.dataset_evaluation import run_evaluation
from transxnet.evaluation.inference_backends import TrainedBackend
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.runs.load import load_model
from transxnet.runs.trained_models import TrainedClassifier
from transxnet.runs.training_data import run_config, trained_on
from transxnet.utils.device import resolve_device
from transxnet.utils.errors import UserError
from transxnet.utils.progress import progress_bar


def load_classifier(model: str | Path, data: str, folds: int | None) -> TrainedClassifier:
    """Load the classifier that finds label errors in DATA.

    Args:
        model: run folder, or with folds also a model with published weights.
        data: DATA as given.
        folds: number of folds, or None if the run's own validation and test set are checked.

    Raises:
        UserError: the model is no classifier, or without folds not a run of this data with one class per image.
    """
    trained = load_model(model)
    if not isinstance(trained, TrainedClassifier) or (folds is None and trained.targets.kind != "classes"):
        raise UserError(f"label errors need a classifier of one class per image, got {model}. Remove --model.")
    if folds is None and not is_run_of(trained, data):
        raise UserError(
            f"{model} was not trained on {data}, so its validation set is unknown. Pass a run that was trained on "
            f"{data} to --model, or add --folds 5."
        )
    return trained


def is_run_of(trained: TrainedClassifier, data: str) -> bool:
    """Return whether a classifier is a run on DATA."""
    return trained.run is not None and trained_on(run_config(trained.run, data), data)


def read_channels(trained: TrainedClassifier, given: int | None) -> int | None:
    """Return the number of channels that a classifier reads, None for RGB; raise UserError for another number."""
    own = trained.preprocessing.channels
    if given not in (None, own):
        reads = "RGB images" if own is None else f"{own} channels"
        raise UserError(f"{trained.name} reads {reads}, got channels {given}. Remove --channels or --model.")
    return own


def validation_errors(
    trained: TrainedClassifier, images: AllImages, scan: Scan, device: str, console: Console
) -> list[DataFinding]:
    """Return the likely label errors of the sets that the model was not trained on."""
    found, backend = [], TrainedBackend(trained, resolve_device(device))
    for name, part, numbers in _readable(images, scan):
        if name == "train":
            continue
        with progress_bar(console, f"predicting {name}", len(part)) as advance:
            evaluation = run_evaluation(backend, part, 64, 2, progress=advance)
        assert isinstance(evaluation, ClassificationEvaluation)
        found += label_error_findings(evaluation, numbers)
    return found


def fold_errors(
    trained: TrainedClassifier, images: AllImages, scan: Scan, folds: int, device: str, console: Console
) -> list[DataFinding]:
    """Return the likely label errors of all sets, by cross-validation on the model's features.

    Raises:
        UserError: the images do not have one class each, or are too few.
    """
    backend, parts = TrainedBackend(trained, resolve_device(device)), list(_readable(images, scan))
    features = []
    for name, part, _ in parts:
        if not isinstance(part, ClassificationSet) or part.targets != "classes":
            raise UserError("--folds needs images with one class each. Remove --folds and --model.")
        with progress_bar(console, f"computing features of {name}", len(part)) as advance:
            features.append(pooled_features(backend, part, advance))
    labels, numbers = (np.concatenate(rows) for rows in zip(*((p.own_labels, n) for _, p, n in parts), strict=True))
    present, own = np.unique(labels, return_inverse=True)
    probabilities = out_of_fold_probabilities(np.concatenate(features), own, folds)
    names = [name for _, part, _ in parts for name in part.own_names]
    class_names = [parts[0][1].class_names[i] for i in present]
    return label_error_findings(ClassificationEvaluation(class_names, names, own, probabilities), numbers)


def _readable(images: AllImages, scan: Scan) -> list[tuple[str, Any, np.ndarray]]:
    """Return name, readable images and their numbers of each set."""
    parts = []
    for first, (name, part) in zip(images.first.tolist(), images.sets.items(), strict=False):
        positions = np.flatnonzero(scan.readable[first : first + len(part)])
        parts.append((name, part.subset(positions), first + positions))
    return parts
