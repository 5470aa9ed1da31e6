"""The results of the runs of a study: predictions for the outer folds, with what the validation images chose."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from transxnet.evaluation.evaluation_output import read_class_predictions, read_map_counts
from transxnet.experiments.experiment_folder import is_finished
from transxnet.metrics.fitted_choices import FittedChoices
from transxnet.metrics.scored_maps import ScoredMaps
from transxnet.studies.arms import Arm
from transxnet.studies.folds import Folds
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


def read_arms_results(folder: StudyFolder, folds: Folds) -> list[ArmResult]:
    """Read the results of the arms whose runs are all finished, after a check for leakage.

    Raises:
        UserError: a file is damaged, or a run used images of its outer fold.
    """
    return [
        ArmResult(
            arm,
            folder.seeds,
            [_read_fold(folder, folds, arm, fold, seed) for seed in folder.seeds for fold in range(1, folds.count + 1)],
        )
        for arm in folder.arms
        if all(map(is_finished, folder.runs_of(arm)))
    ]


def concatenate(parts: Sequence[Any]) -> Any:
    """Return the predictions for the images of all parts, ``Scores`` of one type."""
    return type(parts[0]).concatenate(parts)


def read_scores(folder: StudyFolder, path: Path, choices: FittedChoices | None) -> tuple[list[str], Scores]:
    """Return the names of the images in a file of predictions, and the predictions with the choices applied.

    Raises:
        UserError: the file is damaged.
    """
    if choices is None:
        names, counts = read_map_counts(path, list(folder.class_names))
        return names, ScoredMaps(folder.class_names, counts)
    evaluation = read_class_predictions(path, list(folder.class_names))
    return evaluation.names, evaluation.scored(choices)


def _read_fold(folder: StudyFolder, folds: Folds, arm: Arm, fold: int, seed: int) -> FoldResult:
    run = folder.run(arm, fold, seed)
    choices: FittedChoices | None = None
    if folder.task == "segment":
        validated, _ = read_map_counts(run.predictions_file, list(folder.class_names))
    else:
        validation = read_class_predictions(run.predictions_file, list(folder.class_names))
        validated = validation.names
        choices = FittedChoices.fit(validation.labels, validation.probabilities, folder.positive_index)
    tested, scores = read_scores(folder, run.test_predictions_file, choices)
    check_leakage(run, folds, fold, validated, tested)
    position = {name: i for i, name in enumerate(tested)}
    outer = folds.outer(fold)
    images = scores.take(np.array([position[folds.names[i]] for i in outer]))
    return FoldResult(fold, seed, choices, outer, images, run.read_metrics())
