"""Runs side by side: options, metrics, curves, and paired intervals of classifiers on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transxnet.evaluation.evaluation_output import read_class_predictions
from transxnet.metrics.binary_curves import positive_class
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.fitted_choices import FittedChoices
from transxnet.metrics.metric_names import METRIC_NAMES
from transxnet.metrics.publication_metrics import ScoredImages
from transxnet.metrics.targets import ClassTargets
from transxnet.reports.html_page import flatten_config
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.runs.trained_models import TrainedClassifier
from transxnet.runs.training_data import open_run_data, run_config
from transxnet.studies.paired_comparison import ArmComparison, Estimate, compare_with_best, estimate
from transxnet.studies.study_metrics import ranking_metric
from transxnet.utils.errors import UserError

FITTED = ("sensitivity", "specificity", "ece_scaled", "brier_scaled")
"""Metrics of what is fitted on validation images; they are shown for test images only."""


@dataclass(frozen=True)
class PairedResults:
    """The results of classifiers on the same images.

    Attributes:
        metric: metric that ranks the runs.
        images: number of images.
        groups: number of groups, or None without groups.
        positive: name of the positive class of two, which is that of the first run; None for more classes.
        rows: of each run, by its name, the estimate of each metric.
        best: name of the best run.
        comparisons: the other runs compared with it.
    """

    metric: str
    images: int
    groups: int | None
    positive: str | None
    rows: dict[str, dict[str, Estimate]]
    best: str | None
    comparisons: list[ArmComparison]


@dataclass(frozen=True)
class RunComparison:
    """Runs side by side.

    Attributes:
        runs: the runs by name.
        split: the set that was evaluated: "validation" or "test".
        predicted: what the runs predict.
        options: (name, value of each run) of the options that differ.
        metrics: (name, value of each run or None) of the metrics of their results.
        histories: the metrics of each epoch, of each run.
        paired: results on the same images; None if the images differ, or the runs predict no classes.
        resamples: number of bootstrap resamples.
    """

    runs: dict[str, Run]
    split: str
    predicted: str
    options: list[tuple[str, list[str]]]
    metrics: list[tuple[str, list[float | None]]]
    histories: list[list[dict[str, float]]]
    paired: PairedResults | None
    resamples: int


def compare_runs(runs: Sequence[Run], split: str | None, metric: str | None, resamples: int) -> RunComparison:
    """Read the results of finished runs.

    Args:
        runs: two or more runs.
        split: "validation" or "test"; by default test if all runs have a test set.
        metric: metric that ranks classifiers; see :func:`ranking_metric`.
        resamples: number of bootstrap resamples.

    Raises:
        UserError: a run is not finished or is given twice, the runs predict different things, or have no such set.
    """
    named = _name_runs(runs)
    configs, results = [run.read_config() for run in runs], [run.results for run in runs]
    kinds = {config.predicted for config in configs}
    if len(kinds) > 1:
        raise UserError(f"the runs predict {' and '.join(sorted(kinds))}. Compare runs that predict the same.")
    split = split or ("test" if all("test" in result for result in results) else "validation")
    if split == "test":
        if missing := [name for name, result in zip(named, results, strict=True) if "test" not in result]:
            raise UserError(f"{missing[0]} has no test set. Use --split validation.")
        results = [result["test"] for result in results]
    flat = [_options(run) for run in runs]
    options = [
        (name, [each.get(name, "") for each in flat]) for name in dict.fromkeys(n for each in flat for n in each)
    ]
    (predicted,) = kinds
    return RunComparison(
        named,
        split,
        predicted,
        [(name, values) for name, values in options if len(set(values)) > 1],
        [
            (name, [each.get(name) for each in results])
            for name in METRIC_NAMES
            if (split == "test" or name not in FITTED) and any(name in each for each in results)
        ],
        [run.read_metrics() for run in runs],
        _pair(named, split, metric, resamples) if predicted == "classes" else None,
        resamples,
    )


def _options(run: Run) -> dict[str, str]:
    """Return the options of a run, with the files in its folder by their names."""
    options = flatten_config(run.read_config().to_dict())
    return {name: value.removeprefix(f"{run.path}/") for name, value in options}


def _name_runs(runs: Sequence[Run]) -> dict[str, Run]:
    """Return the runs by the names of their folders, or by their paths if two names are equal."""
    if len(runs) < 2:
        raise UserError(f"a comparison needs at least two runs, got {len(runs)}. Name more run folders.")
    paths = [str(run.path) for run in runs]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise UserError(f"a run is given twice in {' '.join(paths)}. Name each run once.")
    names = [run.path.resolve().name for run in runs]
    return dict(zip(names if len(set(names)) == len(names) else paths, runs, strict=True))


def _pair(runs: dict[str, Run], split: str, metric: str | None, resamples: int) -> PairedResults | None:
    """Compute paired results if all runs have predictions for the same labeled images."""
    first = next(iter(runs.values()))
    model = load_model(first.path)
    assert isinstance(model, TrainedClassifier) and isinstance(model.targets, ClassTargets)
    class_names = model.class_names
    try:
        evaluations = {name: _read(run, split, class_names) for name, run in runs.items()}
    except UserError:  # other classes, or so many that their probabilities are not stored
        return None
    reference = next(iter(evaluations.values()))
    order = {name: i for i, name in enumerate(reference.names)}
    scored: dict[str, Sequence[ScoredImages]] = {}
    positive = model.targets.positive
    if positive is None and len(class_names) == 2:
        positive = positive_class(reference.labels)
    for name, found in evaluations.items():
        if found.names != reference.names and set(found.names) != set(order):
            return None
        at = np.argsort([order[image] for image in found.names])
        if (found.labels[at] != reference.labels).any():
            return None
        scored[name] = [_score(runs[name], found, split, class_names, positive).take(at)]
    groups = _groups(first, split, reference.names)
    units = np.arange(len(reference)) if groups is None else groups
    estimates = estimate(scored, units, resamples, 0)
    ranked = ranking_metric(metric, "classify", class_names)
    return PairedResults(
        ranked,
        len(reference),
        None if groups is None else len(np.unique(groups)),
        None if positive is None else class_names[positive],
        {
            name: {each: value for each, value in row.items() if split == "test" or each not in FITTED}
            for name, row in estimates.rows.items()
        },
        estimates.best(ranked),
        compare_with_best(estimates, scored, ranked, grouped=groups is not None),
    )


def _read(run: Run, split: str, class_names: list[str]) -> ClassificationEvaluation:
    return read_class_predictions(run.test_predictions_file if split == "test" else run.predictions_file, class_names)


def _score(
    run: Run, evaluation: ClassificationEvaluation, split: str, class_names: list[str], positive: int | None
) -> ScoredImages:
    """Apply what the validation images chose to the test images; validation images choose nothing for themselves."""
    if split == "test" and run.predictions_file.is_file():
        validation = _read(run, "validation", class_names)
        return evaluation.scored(FittedChoices.fit(validation.labels, validation.probabilities, positive))
    return ScoredImages(evaluation.labels, evaluation.probabilities, evaluation.probabilities, positive)


def _groups(run: Run, split: str, names: Sequence[str]) -> np.ndarray | None:
    """Return the group of each image, or None without groups."""
    images: Any = open_run_data(run_config(run), None, run.stored_split, check_images=False).part(split)
    own = getattr(images, "own_groups", None)
    if own is None:
        return None
    group = dict(zip(images.own_names, own.tolist(), strict=True))
    return np.array([group[name] for name in names])
