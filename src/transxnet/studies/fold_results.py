"""The results of the runs of a study: predictions for the outer folds, with what the validation images chose."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.evaluation.evaluation_output import read_class_predictions, read_detections, read_map_counts
from transxnet.experiments.experiment_folder import is_finished
from transxnet.metrics.fitted_choices import FittedChoices
from transxnet.metrics.scored_detections import match_detections
from transxnet.metrics.scored_maps import ScoredMaps
from transxnet.runs.run_folder import Run
from transxnet.studies.arms import Arm
from transxnet.studies.folds import Folds, StudyImages
from transxnet.studies.leakage import check_leakage
from transxnet.studies.paired_comparison import Scores
from transxnet.studies.study_folder import StudyFolder


@dataclass(frozen=True)
class FoldResult:
    """The results of one run.

    Attributes:
        fold: number of the outer fold.
        seed: seed of the run.
        choices: what its validation images chose in addition to the epoch; None for a segmenter.
        outer: indices in the study's images of the outer fold.
        images: predictions for these images.
        history: validation metrics of each epoch.
    """

    fold: int
    seed: int
    choices: FittedChoices | None
    outer: np.ndarray
    images: Scores
    history: list[dict[str, float]]


@dataclass(frozen=True)
class ArmResult:
    """The results of all runs of an arm.

    Attributes:
        arm: the arm.
        seeds: seeds of its runs.
        folds: the results, by seed and then by fold.
    """

    arm: Arm
    seeds: Sequence[int]
    folds: list[FoldResult]

    @cached_property
    def pooled(self) -> list[Any]:
        """The out-of-fold predictions for all images of the study, in its order, for each seed."""
        pooled = []
        for seed in self.seeds:
            own = [result for result in self.folds if result.seed == seed]
            order = np.argsort(np.concatenate([result.outer for result in own]))
            pooled.append(concatenate([result.images for result in own]).take(order))
        return pooled

    @cached_property
    def by_run(self) -> dict[str, np.ndarray]:
        """(S, K) metric of each seed and fold, by name."""
        values = [result.images.metrics() for result in self.folds]
        shape = len(self.seeds), len(values) // len(self.seeds)
        return {name: np.array([value[name] for value in values]).reshape(shape) for name in values[0]}

    def mean(self, metric: str) -> float:
        """Mean over the runs in which the metric is defined."""
        values = self.by_run[metric]
        return float("nan") if np.isnan(values).all() else float(np.nanmean(values))

    def std(self, metric: str, over: str) -> float | None:
        """Standard deviation over "folds" of the means of the seeds, or over "seeds" of the means of the folds.

        With n - 1 in the denominator; None for fewer than two values.
        """
        means = self.by_run[metric].mean(0 if over == "folds" else 1)
        return None if np.isnan(means).any() or len(means) < 2 else float(means.std(ddof=1))


def read_arms_results(folder: StudyFolder, folds: Folds, images: StudyImages) -> list[ArmResult]:
    """Read the results of the arms whose runs are all finished, after a check for leakage.

    Args:
        folder: folder of the study.
        folds: its folds.
        images: its images, whose objects the detections of detectors are matched with.

    Raises:
        UserError: a file is damaged, or a run used images of its outer fold.
    """
    return [
        ArmResult(
            arm,
            folder.seeds,
            [
                _read_fold(folder, folds, images, arm, fold, seed)
                for seed in folder.seeds
                for fold in range(1, folds.count + 1)
            ],
        )
        for arm in folder.arms
        if all(map(is_finished, folder.runs_of(arm)))
    ]


def concatenate(parts: Sequence[Any]) -> Any:
    """Return the predictions for the images of all parts, ``Scores`` of one type."""
    return type(parts[0]).concatenate(parts)


def read_scores(
    folder: StudyFolder, path: Path, choices: FittedChoices | None, images: StudyImages
) -> tuple[list[str], Scores]:
    """Return the names of the images in a file of predictions, and the predictions with the choices applied.

    Args:
        folder: folder of the study.
        path: the file.
        choices: choices of the validation images for a classifier; None for other models.
        images: the images that a detector was evaluated on; its file has only those with detections.

    Raises:
        UserError: the file is damaged.
    """
    if isinstance(images, DetectionSet):
        return images.own_names, match_detections(images, read_detections(path, images), masks=folder.masks)
    if choices is None:
        names, counts = read_map_counts(path, list(folder.class_names))
        return names, ScoredMaps(folder.class_names, counts)
    evaluation = read_class_predictions(path, list(folder.class_names))
    return evaluation.names, evaluation.scored(choices)


def _read_fold(folder: StudyFolder, folds: Folds, images: StudyImages, arm: Arm, fold: int, seed: int) -> FoldResult:
    run, outer = folder.run(arm, fold, seed), folds.outer(fold)
    validated, choices = _read_validation(folder, run, images)
    position = {name: i for i, name in enumerate(images.own_names)}
    tested_images = images.subset(np.array([position[folds.names[i]] for i in outer]))
    path = run.test_detections_file if folder.task == "detect" else run.test_predictions_file
    tested, scores = read_scores(folder, path, choices, tested_images)
    check_leakage(run, folds, fold, validated, tested)
    position = {name: i for i, name in enumerate(tested)}
    ordered = scores.take(np.array([position[folds.names[i]] for i in outer]))
    return FoldResult(fold, seed, choices, outer, ordered, run.read_metrics())


def _read_validation(folder: StudyFolder, run: Run, images: StudyImages) -> tuple[list[str], FittedChoices | None]:
    """Return the names of a run's validation images, of a detector those with detections, and what they chose."""
    if isinstance(images, DetectionSet):
        results = read_detections(run.detections_file, images)
        return [name for name, own in zip(images.own_names, results, strict=True) if own], None
    if folder.task == "segment":
        return read_map_counts(run.predictions_file, list(folder.class_names))[0], None
    validation = read_class_predictions(run.predictions_file, list(folder.class_names))
    return validation.names, FittedChoices.fit(validation.labels, validation.probabilities, folder.positive_index)
