"""Likely label errors of a data set, by a classifier."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from transxnet.checking.all_images import AllImages
from transxnet.checking.image_scan import Scan
from transxnet.checking.out_of_fold import out_of_fold_probabilities
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.loading.loaders import evaluation_loader, explain_worker_errors
from transxnet.evaluation.inference_backends import TrainedBackend
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.runs.load import load_model
from transxnet.runs.trained_models import TrainedClassifier
from transxnet.runs.training_data import run_config, trained_on
from transxnet.utils.device import resolve_device
from transxnet.utils.errors import UserError
from transxnet.utils.quantities import format_count

BATCH_SIZE, WORKERS = 64, 2


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


def check_one_class(images: AllImages) -> None:
    """Raise UserError if the images do not have one class each, which label errors need."""
    if not all(isinstance(part, ClassificationSet) and part.targets == "classes" for part in images.sets.values()):
        raise UserError("--model needs images with one class each. Remove --model and --folds.")


class ModelOutputs(NamedTuple):
    """What a classifier computes of the N readable images of all sets.

    Attributes:
        sets: name, images and their numbers of each set, in order.
        probabilities: (N, C) the classifier's probabilities, or its values.
        features: (N, F) pooled features.
    """

    sets: list[tuple[str, ClassificationSet, np.ndarray]]
    probabilities: np.ndarray
    features: np.ndarray

    @property
    def numbers(self) -> np.ndarray:
        """(N,) numbers of the images."""
        return np.concatenate([numbers for _, _, numbers in self.sets])


@explain_worker_errors()
def model_outputs(
    trained: TrainedClassifier, images: AllImages, scan: Scan, device: str, progress: Callable[[int], Any]
) -> ModelOutputs:
    """Run a classifier over all readable images.

    Args:
        trained: the classifier.
        images: images of all sets.
        scan: the facts about them.
        device: where the classifier runs, as on the command line.
        progress: called with the number of images done.
    """
    backend, sets, parts, done = TrainedBackend(trained, resolve_device(device)), [], [], 0
    for first, (name, part) in zip(images.first.tolist(), images.sets.items(), strict=False):
        assert isinstance(part, ClassificationSet)
        positions = np.flatnonzero(scan.readable[first : first + len(part)])
        readable = part.subset(positions)
        sets.append((name, readable, first + positions))
        for batch, _, _ in evaluation_loader(readable.evaluation_dataset(backend.prepare), BATCH_SIZE, WORKERS):
            parts.append(backend.predict(batch, features=True))
            done += len(batch)
            progress(done)
    probabilities, features = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return ModelOutputs(sets, probabilities, features)


Predictions = list[tuple[ClassificationEvaluation, np.ndarray]]
"""Predictions of images that the model was not trained on, with the numbers of these images."""


def predictions_by_set(outputs: ModelOutputs) -> Predictions:
    """Return the predictions of the sets that the model was not trained on."""
    ends = np.cumsum([len(numbers) for _, _, numbers in outputs.sets])
    return [
        (ClassificationEvaluation(part.class_names, list(part.own_names), part.own_labels, probabilities), numbers)
        for (name, part, numbers), probabilities in zip(
            outputs.sets, np.split(outputs.probabilities, ends[:-1]), strict=True
        )
        if name != "train"
    ]


def out_of_fold_predictions(outputs: ModelOutputs, folds: int) -> Predictions:
    """Return predictions of all images, by cross-validation on the model's features.

    Raises:
        UserError: the images are too few.
    """
    parts = [part for _, part, _ in outputs.sets]
    labels = np.concatenate([part.own_labels for part in parts])
    present, own = np.unique(labels, return_inverse=True)
    probabilities = out_of_fold_probabilities(outputs.features, own, folds)
    names = [name for part in parts for name in part.own_names]
    class_names = [parts[0].class_names[i] for i in present]
    return [(ClassificationEvaluation(class_names, names, own, probabilities), outputs.numbers)]


def describe_accuracy(evaluations: list[ClassificationEvaluation]) -> str:
    """Say how often these predictions equal the labels, since a poor model calls correct labels wrong."""
    labels = np.concatenate([evaluation.labels for evaluation in evaluations] or [np.zeros(0, int)])
    if not len(labels):
        return "label errors: none can be found, the run has no validation or test image"
    correct = sum(int(own.correct.sum()) for own in evaluations) / len(labels)
    most = np.bincount(labels).max() / len(labels)
    text = f"label errors: the model agrees with {correct:.1%} of {format_count(len(labels), 'label')}"
    if correct > most:
        return f"{text}; the most frequent class is {most:.1%} of them"
    return f"{text}, no more than the most frequent class ({most:.1%}): use a better model"
